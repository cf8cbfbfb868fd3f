"""A real `sluice serve` under attack, and what it holds: processes, sockets, threads, memory. Linux; not a test.

Everything is seen from outside, through /proc: the gateway cannot flatter itself.
"""

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.gateway.wire.raw_client import eventually
from tests.people import make
from tests.security.wire.attacker import Attacker
from tests.served import Served

PLACE: Final = "attacked/images"
"""The repository that the attacks name."""
NAME: Final = f"{PLACE}/app"
SMALL: Final = b"hello, layer"
"""A blob that is there, too; pushing it again changes nothing."""
MORE_MEMORY_BYTES: Final = 32 << 20
"""Growth of a process over all attacks that is still no leak (security.md, section 5)."""
MORE_FILES: Final = 8
"""A pool of connections to the database fills up under load, by files that stay."""
_LONGEST_S: Final = 10.0
_LOOKS: Final = 10
_THREADS_REST_S: Final = 60.0
"""Trio's idle threads end after 10 s."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the serving processes hold, all together."""

    sockets: int
    files: int
    layers: int
    """Of the files, how often the large blob's."""
    threads: int
    memory_bytes: int


@dataclass(slots=True)
class Fortress(Served):
    """A gateway that expects attacks. `trust` is a client's view of its certificate, None for a plain port."""

    trust: ssl.SSLContext | None = None
    pids: tuple[int, ...] = ()
    base: Holdings = field(default_factory=lambda: Holdings(0, 0, 0, 0, 0))
    layer: bytes = b""
    layer_digest: str = ""
    bearer: str = ""

    def connection(self, *, timeout_s: float = 30.0) -> http.client.HTTPConnection:
        """A fresh connection of an honest client; close it."""
        if self.trust is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        return http.client.HTTPSConnection("localhost", self.port, timeout=timeout_s, context=self.trust)

    def attack(self, *, receive_buffer: int | None = None) -> Attacker:
        """A new hostile connection, inside TLS where the port has it; close it."""
        return Attacker(self.port, tls=self.trust, receive_buffer=receive_buffer)

    def attack_below(self) -> Attacker:
        """A new hostile connection that says nothing in TLS by itself; close it."""
        return Attacker(self.port)

    def settle(self) -> None:
        """Make what the attacks name, warm up, and remember what is held at rest."""
        make(self, "projects", {"name": "attacked"})
        make(self, "repos", {"project": "attacked", "name": "images"})
        self.layer = bytes(range(256)) * (32 << 10)  # 8 MiB: more than every buffer on the way
        self.layer_digest = self.push_blob(NAME, self.layer)
        self.push_blob(NAME, SMALL)
        self.bearer = self.token(f"repository:{NAME}:pull,push")
        self.pids = self._serving()
        for _ in range(30):
            self._is_polite()
        self.base = min((self._at_rest() for _ in range(_LOOKS)), key=lambda held: held.sockets)

    def holdings(self) -> Holdings:
        """What is held now."""
        files = [target for pid in self.pids for target in _open_files(pid)]
        status = [_status(pid) for pid in self.pids]
        return Holdings(
            sockets=sum(target.startswith("socket:") for target in files),
            files=len(files),
            layers=sum(self.layer_digest[7:] in target for target in files),
            threads=sum(each["Threads"] for each in status),
            memory_bytes=max(each["RssAnon"] for each in status) << 10,
        )

    def assert_stands(self) -> None:
        """Assert that the same processes serve, that a plain request is answered, and that no connection is left."""
        assert self._serving() == self.pids, self.log()[-4000:]
        begun = time.monotonic()
        self._is_polite()
        assert time.monotonic() - begun < _LONGEST_S
        eventually(lambda: self.holdings().sockets <= self.base.sockets)

    def assert_unshaken(self) -> None:
        """Assert, after all attacks, that nothing grew and that no defect was logged."""
        self.assert_stands()
        # Idle threads end one by one; nothing but the clock ends them, and the last attack may be a moment ago.
        eventually(lambda: self.holdings().threads <= self.base.threads, within_s=_THREADS_REST_S)
        now = self.holdings()
        assert now.files <= self.base.files + MORE_FILES * len(self.pids), (self.base, now)
        grown = now.memory_bytes - self.base.memory_bytes
        assert grown <= MORE_MEMORY_BYTES, f"{grown / 2**20:.1f} MiB more memory after the attacks"
        assert self.complaints() == [], "\n".join(self.complaints())

    def complaints(self) -> list[str]:
        """What it logged as an error, and every line that is not an event."""
        return [line for line in self.log().splitlines() if _is_complaint(line)]

    def _at_rest(self) -> Holdings:
        time.sleep(0.02)  # the last connection's end is not ours to hear of, only to look for
        return self.holdings()

    def _is_polite(self) -> None:
        reply = self.request("GET", "/health/live")
        assert reply.status == 200, reply

    def _serving(self) -> tuple[int, ...]:
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-4000:]
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return tuple(sorted(int(child) for child in children)) or (pid,)


def impatient(seconds: float) -> Mapping[str, str]:
    """Settings under which the gateway waits for nobody longer than this."""
    names = ("HEADER_TIMEOUT_S", "IDLE_TIMEOUT_S", "BODY_IDLE_TIMEOUT_S", "SEND_IDLE_TIMEOUT_S", "DRAIN_TIMEOUT_S")
    return {
        **{f"SLUICE_SERVER__{name}": str(seconds) for name in names},
        "SLUICE_SERVER__SERVER_NAMES": "localhost,127.0.0.1",
        "SLUICE_ACCESS__TOKEN_LIFETIME_S": "900",
    }


def _open_files(pid: int) -> Iterator[str]:
    """What the descriptors of a process refer to; those that close while we look are left out."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield str(each.readlink())


def _status(pid: int) -> dict[str, int]:
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[0] in {"Threads:", "RssAnon:"}}


def _is_complaint(line: str) -> bool:
    if not line.startswith("{"):
        return "Traceback" in line or "Error" in line
    return json.loads(line).get("level") in {"error", "critical"}
