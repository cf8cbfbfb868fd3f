"""Fires the same few requests again and again over a number of connections: a closed loop.

Each connection sends its next request when the answer to the last is there, so latencies are those of a client that
waits. Before the measurement every kind of answer is checked once, down to the digest of its body. Without TLS the
load is a `Herd`; with TLS each connection is a task.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import trio

from bench.client import Connection, Reply, Request
from bench.drivers.herd import Herd
from bench.jobs import Shot
from bench.load import Load

_CHECKED = 4  # shots of one job differ by offset at most; each kind is checked


@dataclass(slots=True)
class Magazine:
    """The shots in their order, until the time is up or the number is reached. Shared by all connections."""

    shots: Iterator[Shot]
    until_ns: int
    left: int | None
    load: Load

    def next(self) -> Shot | None:
        """The next shot; None when there is none left."""
        if self.left == 0 or time.perf_counter_ns() >= self.until_ns or self.load.stopped:
            return None
        if self.left is not None:
            self.left -= 1
        return next(self.shots)


async def drive(
    load: Load,
    shots: Sequence[Mapping[str, Any]],
    *,
    connections: int,
    seconds: float | None = None,
    requests: int | None = None,
    reconnect: bool = False,
    warm_s: float = 0.2,
    spread_s: float = 0.0,
) -> None:
    """Fire for `seconds`, or `requests` times (once through the shots where neither is given).

    `reconnect`: a connection of its own for every request, with `Connection: close`, as docker 20.10 does.
    `spread_s`: plain HTTP only; the connections begin one after the other, evenly within this time.
    `warm_s`: how long it goes on before the measurement; 0 also leaves out the check of answers (cold cases).
    Counted moved bytes are those of bodies received.
    """
    loaded = [Shot(**each) for each in shots]
    if warm_s:
        await _check(load, loaded)
    count = None if seconds is not None else requests or len(loaded)
    if load.endpoint.certificate is None:
        with Herd(load, connections, reconnect=reconnect) as herd:
            await herd.connect()
            if warm_s:
                await herd.run(_magazine(load, loaded, warm_s, None))
            await load.ready()
            await herd.run(_magazine(load, loaded, seconds, count), spread_s=spread_s)
    else:
        if warm_s:
            await _callers(load, _magazine(load, loaded, warm_s, None), connections, reconnect=reconnect)
        await load.ready()
        await _callers(load, _magazine(load, loaded, seconds, count), connections, reconnect=reconnect)


def _magazine(load: Load, shots: Sequence[Shot], seconds: float | None, count: int | None) -> Magazine:
    for_ns = int(seconds * 1e9) if seconds is not None else 1 << 62
    return Magazine(cycle(shots), time.perf_counter_ns() + for_ns, count, load)


async def _check(load: Load, shots: Sequence[Shot]) -> None:
    """Ask once for each of the first few shots and compare everything. Raises ValueError: nothing can be measured."""
    async with await Connection.open(load.endpoint) as connection:
        for shot in islice(shots, _CHECKED):
            reply = await connection.request(_request(shot), hashed=True)
            complaint = _complaint(shot, reply)
            if shot.digest is not None and reply.digest != shot.digest:
                complaint = f"{shot.path} has {reply.digest}, not {shot.digest}"
            if complaint:
                raise ValueError(complaint)


async def _callers(load: Load, magazine: Magazine, connections: int, *, reconnect: bool) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(_caller, load, magazine, reconnect)


async def _caller(load: Load, magazine: Magazine, reconnect: bool) -> None:  # noqa: FBT001 - start_soon has no keywords
    first_byte, whole = load.samples("first_byte"), load.samples("whole")
    connection: Connection | None = None
    try:
        while (shot := magazine.next()) is not None:
            start_ns = time.perf_counter_ns()
            try:
                if connection is None:
                    connection = await Connection.open(load.endpoint)
                reply = await connection.request(_request(shot, close=reconnect))
            except OSError as error:
                load.failed(f"{shot.method} {shot.path}: {error}")
                if connection is not None:
                    connection.close()
                connection = None
                continue
            if complaint := _complaint(shot, reply):
                load.failed(complaint)
            else:
                load.answered(1, reply.size_bytes)
            first_byte.add(reply.first_byte_ns - start_ns)
            whole.add(reply.end_ns - start_ns)
            if reconnect or not connection.reusable:
                connection.close()
                connection = None
    finally:
        if connection is not None:
            connection.close()


def _request(shot: Shot, *, close: bool = False) -> Request:
    headers = {**shot.headers, "Connection": "close"} if close else shot.headers
    return Request(shot.method, shot.path, headers)


def _complaint(shot: Shot, reply: Reply) -> str:
    if reply.status != shot.status:
        return f"{shot.method} {shot.path} gave {reply.status}, not {shot.status}"
    length = reply.headers.get("content-length")
    if length is not None and int(length) != shot.size_bytes:
        return f"{shot.method} {shot.path} has Content-Length {length}, not {shot.size_bytes}"
    if shot.method != "HEAD" and reply.size_bytes != shot.size_bytes:
        return f"{shot.method} {shot.path} came with {reply.size_bytes} bytes, not {shot.size_bytes}"
    return ""
