"""A load driver that repeats the pulls of a trace at their times, or faster: an open loop.

Each request is due at its time in the trace divided by the speed, and its latency counts from then, so that a server
that stalls is charged for everyone it kept waiting. A client has as many connections as it needs at once. Only GET and
HEAD are repeated: what was pushed is not in an access log. Answers must have the status that the log saw.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Final, Self

import trio

from bench import trace
from bench.client import Connection, Request
from bench.contenders.contender import ContenderFailed
from bench.contenders.setup import TokenRealm
from bench.load import Load
from bench.trace import Visit

_AT_ONCE: Final = 2000
"""Requests under way, at most; what is due meanwhile waits, and its latency says so."""
_IDLE: Final = 1000
"""Connections kept for later by all clients together."""
_RENEW_S: Final = 45.0
"""Tokens live for at least a minute."""
_STOP_S: Final = 5.0
_ACCEPT: Final = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
_AS_GOOD: Final = {304: {200, 304}, 200: {200}, 206: {206}}


def repeated(visits: Sequence[Visit]) -> list[Visit]:
    """Those that can be repeated."""
    return [each for each in visits if each.method in {"GET", "HEAD"}]


async def drive(
    load: Load, trace_file: str, *, speed: float, share: int, shares: int, user: str | None, password: str | None
) -> None:
    """Drive the clients whose number leaves the rest `share` when divided by `shares`.

    Recordings: `first_byte` and `whole` from when a request was due, `late` how late it was sent.
    """
    recorded = trace.read(Path(trace_file))
    visits = [each for each in repeated(recorded.visits) if each.client % shares == share]
    names = sorted({name for each in visits if each.authorized and (name := image_of(each.target))})
    with Tokens(TokenRealm(load.endpoint, user, password), names) as tokens:
        player = _Player(load, tokens)
        await load.ready()
        await player.play(visits, speed)


def image_of(target: str) -> str:
    """The image that a target is about; empty for none."""
    path = target.partition("?")[0].removeprefix("/v2/")
    for sign in ("/manifests/", "/blobs/", "/tags/", "/referrers/"):
        name, found, _ = path.rpartition(sign)
        if found:
            return name
    return ""


class Tokens:
    """Authorization headers by image, renewed by a thread while the block runs."""

    def __init__(self, realm: TokenRealm, names: Sequence[str]) -> None:
        """Get them all; blocks. Raises ContenderFailed or OSError when one is refused."""
        self._realm = realm
        self._names = names
        self._ended = threading.Event()
        self._headers: dict[str, str | None] = {}
        self._renew()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_STOP_S)

    def header(self, name: str) -> str | None:
        """The header for this image; None where none is needed."""
        return self._headers.get(name)

    def _renew(self) -> None:
        for name in self._names:
            self._headers[name] = self._realm.authorization((name,), push=False)

    def _work(self) -> None:
        while not self._ended.wait(_RENEW_S):
            try:
                self._renew()
            except (OSError, ContenderFailed, ValueError, KeyError):
                continue  # the old ones hold for a while; when they end, answers of 401 are counted as errors


class _Player:
    """Sends requests when they are due."""

    def __init__(self, load: Load, tokens: Tokens) -> None:
        self._load = load
        self._tokens = tokens
        self._idle: dict[int, list[Connection]] = defaultdict(list)
        self._idle_count = 0
        self._slots = trio.CapacityLimiter(_AT_ONCE)

    async def play(self, visits: Sequence[Visit], speed: float) -> None:
        """All of them; returns when the last answer is there."""
        try:
            async with trio.open_nursery() as nursery:
                start_s, start_ns = trio.current_time(), perf_counter_ns()
                for visit in visits:
                    await trio.sleep_until(start_s + visit.at_s / speed)
                    nursery.start_soon(self._visit, visit, start_ns + int(visit.at_s / speed * 1e9))
        finally:
            for connection in self._all_idle():
                connection.close()

    async def _visit(self, visit: Visit, due_ns: int) -> None:
        async with self._slots:
            self._load.samples("late").add(max(perf_counter_ns() - due_ns, 0))
            connection: Connection | None = None
            try:
                connection = self._rested(visit.client) or await Connection.open(self._load.endpoint)
                reply = await connection.request(self._request(visit))
            except OSError as error:
                self._load.failed(f"{visit.method} {visit.target}: {error}")
                return
            else:
                if reply.status in _AS_GOOD.get(visit.status, {visit.status}):
                    self._load.answered(1, reply.size_bytes)
                else:
                    self._load.failed(f"{visit.method} {visit.target} gave {reply.status}, not {visit.status}")
                self._load.samples("first_byte").add(max(reply.first_byte_ns - due_ns, 0))
                self._load.samples("whole").add(max(reply.end_ns - due_ns, 0))
                self._rest(visit.client, connection)
                connection = None
            finally:
                if connection is not None:
                    connection.close()

    def _request(self, visit: Visit) -> Request:
        headers = {}
        header = self._tokens.header(image_of(visit.target)) if visit.authorized else None
        if header is not None:
            headers["Authorization"] = header
        if "/manifests/" in visit.target:
            headers["Accept"] = _ACCEPT
        if visit.status == 206 and visit.sent_bytes:
            headers["Range"] = f"bytes=0-{visit.sent_bytes - 1}"
        if visit.status == 304 and ":" in (reference := visit.target.rpartition("/")[2]):
            headers["If-None-Match"] = f'"{reference}"'
        return Request(visit.method, visit.target, headers)

    def _rested(self, client: int) -> Connection | None:
        mine = self._idle[client]
        while mine:
            self._idle_count -= 1
            connection = mine.pop()
            if connection.reusable:
                return connection
        return None

    def _rest(self, client: int, connection: Connection) -> None:
        if connection.reusable and self._idle_count < _IDLE:
            self._idle_count += 1
            self._idle[client].append(connection)
        else:
            connection.close()

    def _all_idle(self) -> Iterator[Connection]:
        for connections in self._idle.values():
            yield from connections
