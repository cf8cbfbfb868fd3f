"""The access log: one JSON line per answered request, in a file that other programs read. Knows no registry.

The event loop only formats a line and puts it into a bounded memory; a thread of the log's own appends to the file, so
that a slow disk delays nobody. Lines that find the memory full, or that the disk refuses, are counted, warned of and
written down as `{"lost": COUNT}`: a gap is never silent.

No line holds a secret: no header but User-Agent is seen here, and of a query only the values of `n`, `last`,
`ns` and `digest` are kept, where they look like what they should be. Several processes may append to one file: a batch
of whole lines is one write. Whoever rotates the file copies and truncates it (`copytruncate`).

A line's fields: `at` (Unix seconds when the request began), `client`, `method`, `target`, `status`, `sent_bytes` (of
the body), `duration_s` (to the last byte handed to the kernel), `authorized` (an Authorization header was there),
`user_agent`.
"""

import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from gateway.logs import get_logger

T = TypeVar("T", bytes, bytes | str)

_log = get_logger(__name__)

_BATCH_BYTES: Final = 64 * 1024
"""The thread is woken for this much: about 300 lines, so that a wake (20 us) costs little per line."""
_PENDING_BYTES: Final = 4 * 2**20
"""What waits at most for the disk: a second of 20,000 requests; a guess at how long disks pause."""
_INTERVAL_S: Final = 1.0
"""Nobody who watches the file waits longer for a line."""
_STOP_S: Final = 5.0
_REMEMBERED: Final = 4096
"""Texts whose JSON form is kept; a fleet that pulls asks for the same ones again and again."""
_REMEMBERED_BYTES: Final = 512
"""Of each; a longer one is formatted anew each time. Both tables together take 16 MB at most: without this bound a
stranger could fill them with a quarter of a gigabyte."""
_TARGET_CHARS: Final = 2048
_AGENT_CHARS: Final = 256
_MODE: Final = 0o640
"""Addresses of people are not for everybody on the machine."""

_KEPT: Final = {
    "n": re.compile(r"[0-9]{1,10}"),
    "ns": re.compile(r"[A-Za-z0-9.:_-]{1,255}"),
    "last": re.compile(r"[A-Za-z0-9._/%-]{1,512}"),
    "digest": re.compile(r"[a-z0-9+._-]{1,32}(?::|%3[Aa])[A-Za-z0-9=_-]{1,256}"),
}
"""Query parameter -> what its value must look like to be written."""

_LINE: Final = (
    '{"at":%.6f,"client":%s,"method":%s,"target":%s,"status":%d,"sent_bytes":%d,"duration_s":%.6f,'
    '"authorized":%s,"user_agent":%s}\n'
)


@dataclass(frozen=True, slots=True)
class AccessLogStatistics:
    """A snapshot for metrics."""

    written_total: int
    """Lines in the file."""
    lost_total: int
    """Lines that never got there."""


class AccessLog:
    """Appends to a file until it is closed. `note` is for one thread, the event loop's."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or create the file; raises `OSError` when that fails. Whoever makes one closes it."""
        self._path = path
        self._clock = clock
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        self._pending: deque[str] = deque()
        self._texts: dict[bytes | str, str] = {}
        self._targets: dict[bytes, str] = {}
        # Each of these has one writer, so that no lock is needed: the loop, then the thread.
        self._noted_bytes = self._refused = 0
        self._taken_bytes = self._written = self._failed = self._told = 0
        self._within_line = False  # the last write ended in the middle of one
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def note(
        self,
        method: bytes,
        target: bytes,
        *,
        status: int,
        sent_bytes: int,
        duration_s: float,
        client: str,
        user_agent: bytes,
        authorized: bool,
    ) -> None:
        """Write down one answered request. Never waits, never raises; about 2 us (more for a new target)."""
        pending_bytes = self._noted_bytes - self._taken_bytes
        if pending_bytes >= _PENDING_BYTES:
            self._refused += 1
            return
        line = _LINE % (
            self._clock() - duration_s,
            self._texts.get(client) or self._text(client),
            self._texts.get(method) or self._text(method),
            self._targets.get(target) or self._target(target),
            status,
            sent_bytes,
            duration_s,
            "true" if authorized else "false",
            self._texts.get(user_agent) or self._text(user_agent),
        )
        self._pending.append(line)
        self._noted_bytes += len(line)
        if pending_bytes < _BATCH_BYTES <= pending_bytes + len(line):
            self._wake.set()

    def statistics(self) -> AccessLogStatistics:
        """How many lines were written and lost so far."""
        return AccessLogStatistics(self._written, self._refused + self._failed)

    def close(self) -> None:
        """Write what is pending and close the file. Blocks, for at most 5 s. Does nothing the second time."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            _log.warning("access_log_stuck", path=str(self._path), lost=len(self._pending))

    def _text(self, value: bytes | str) -> str:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        written = json.dumps(text[:_AGENT_CHARS])
        _remember(self._texts, value, written)
        return written

    def _target(self, target: bytes) -> str:
        written = json.dumps(without_secrets(target)[:_TARGET_CHARS])
        _remember(self._targets, target, written)
        return written

    def _work(self) -> None:
        """The thread: sleep, write, until closed and empty."""
        try:
            while True:
                self._wake.wait(_INTERVAL_S)
                self._wake.clear()
                closing = self._closing  # before the last look, so that what was noted before is written
                self._write_pending()
                if closing:
                    return
        finally:
            os.close(self._descriptor)

    def _write_pending(self) -> None:
        while batch := self._take():
            self._write(batch)
        if self._told < (lost := self._refused + self._failed) and self._append(
            [json.dumps({"at": round(self._clock(), 6), "lost": lost - self._told}) + "\n"]
        ):
            _log.warning("access_log_lost_lines", path=str(self._path), lost=lost - self._told)
            self._told = lost

    def _take(self) -> list[str]:
        batch: list[str] = []
        size_bytes = 0
        while self._pending and size_bytes < _BATCH_BYTES:
            batch.append(self._pending.popleft())
            size_bytes += len(batch[-1])
        self._taken_bytes += size_bytes
        return batch

    def _write(self, batch: list[str]) -> None:
        if self._append(batch):
            self._written += len(batch)
        else:
            self._failed += len(batch)

    def _append(self, lines: list[str]) -> bool:
        """Append all of them; False when the disk did not take them, with a warning at the first time."""
        data = (("\n" if self._within_line else "") + "".join(lines)).encode("ascii")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
                self._within_line = bool(data)
        except OSError as error:
            if self._failed == 0:
                _log.warning("access_log_not_written", path=str(self._path), error=str(error))
            return False
        return True


def _remember(table: dict[T, str], value: T, written: str) -> None:
    if len(value) > _REMEMBERED_BYTES:
        return
    if len(table) >= _REMEMBERED:
        table.clear()
    table[value] = written


def without_secrets(target: bytes) -> str:
    """A request target with only those values of its query that are known to be harmless; a URL becomes `-`."""
    path, _, query = target.decode("latin-1").partition("?")
    if not path.startswith("/"):
        return "-"  # refused anyway, and a URL may hold a user name and password
    kept = "&".join(filter(_is_kept, query.split("&")))
    return f"{path}?{kept}" if kept else path


def _is_kept(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name in _KEPT and _KEPT[name].fullmatch(value) is not None
