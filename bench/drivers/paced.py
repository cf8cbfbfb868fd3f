"""Fires requests when they are due, whether or not the last was answered: an open loop of random arrivals.

Latencies count from the moment a request was due, so that a server that stalls is charged for everyone it kept
waiting. A request takes a connection that rests, or opens one. How late requests were sent is recorded as `late`: that
is the load's own share, and it is to be small.
"""

import contextlib
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from time import perf_counter_ns
from typing import Any, Final, Self

import trio

from bench.alarm import Alarm
from bench.client import Connection, Reply, Request
from bench.jobs import Shot
from bench.load import Load

_WARM: Final = 20
_AT_ONCE: Final = 256
"""Requests under way, at most; what is due meanwhile waits, and its latency says so."""
_NICER: Final = -10


async def drive(
    load: Load, shots: Sequence[Mapping[str, Any]], *, rate_per_s: float, seconds: float, seed: str
) -> None:
    """Fire the shots in turn, `rate_per_s` on average (Poisson), for `seconds`. Plain HTTP and TLS."""
    loaded = [Shot(**each) for each in shots]
    prefer()
    async with _Rest(load) as rest:
        for shot in (*loaded, *([loaded[0]] * _WARM)):
            if complaint := await rest.fire(shot, perf_counter_ns()):
                raise ValueError(complaint)
        arrivals = list(poisson(rate_per_s, seconds, seed))
        await load.ready()
        await _arrive(rest, loaded, arrivals)


def poisson(rate_per_s: float, seconds: float, seed: str) -> Iterator[int]:
    """Random arrivals, nanoseconds from the start, the same for the same seed; always at least one."""
    chance = random.Random(seed)
    at_s = chance.expovariate(rate_per_s)
    yield int(min(at_s, seconds) * 1e9)
    while (at_s := at_s + chance.expovariate(rate_per_s)) < seconds:
        yield int(at_s * 1e9)


def prefer() -> None:
    """Go before all other load where we may, so that bulk on our core does not delay who watches the clock.

    We sleep nearly always, so real-time priority takes nothing from anybody; being nicer only left 3 ms of delay.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.nice(_NICER)


async def _arrive(rest: "_Rest", shots: Sequence[Shot], arrivals: Sequence[int]) -> None:
    with Alarm() as alarm:
        async with trio.open_nursery() as nursery:
            start_ns = perf_counter_ns()
            for at_ns, shot in zip(arrivals, cycle(shots), strict=False):
                await alarm.wait_until(start_ns + at_ns)
                nursery.start_soon(rest.fire, shot, start_ns + at_ns)


class _Rest:
    """The connections that nobody uses just now. `async with`; closes them."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._resting: list[Connection] = []
        self._slots = trio.CapacityLimiter(_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._resting:
            connection.close()

    async def fire(self, shot: Shot, due_ns: int) -> str:
        """One request; counts, records, and puts its connection to rest. What was wrong with it, or nothing."""
        async with self._slots:
            self._load.samples("late").add(max(perf_counter_ns() - due_ns, 0))
            connection = self._resting.pop() if self._resting else None
            try:
                connection = connection or await Connection.open(self._load.endpoint)
                reply = await connection.request(Request(shot.method, shot.path, shot.headers))
                self._load.samples("first_byte").add(reply.first_byte_ns - due_ns)
                self._load.samples("whole").add(reply.end_ns - due_ns)
                complaint = _complaint(shot, reply)
                if not complaint:
                    self._load.answered(1, reply.size_bytes)
                if not complaint and connection.reusable:
                    self._resting.append(connection)
                    connection = None
            except OSError as error:
                complaint = f"{shot.method} {shot.path}: {error}"
            finally:
                if connection is not None:
                    connection.close()
        if complaint:
            self._load.failed(complaint)
        return complaint


def _complaint(shot: Shot, reply: Reply) -> str:
    expected = 0 if shot.method == "HEAD" else shot.size_bytes
    if (reply.status, reply.size_bytes) == (shot.status, expected):
        return ""
    return f"{shot.method} {shot.path} gave {reply.status} with {reply.size_bytes} bytes"
