"""Connections at rest, and how many may be open. Knows no HTTP; opens nothing itself.

The one that rested shortest is taken first, so that those too many grow old. There is no task that closes old ones: it
happens when the pool is next used, and what rests until then is bounded.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from storage.transfer.connection import Connection
from storage.transfer.origin import Origin

IDLE_LIMIT_S: Final = 20.0
"""Below what servers and middle boxes allow: nginx 75 s, Ceph's beast 65 s, AWS some 20 s as is told."""


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """Connections in use and at rest, how many there may be, who waits for one, and since the start: opened, reused."""

    in_use: int
    idle: int
    size: int
    waiting: int
    opened: int
    reused: int


@dataclass(frozen=True, slots=True)
class _Resting:
    origin: Origin
    connection: Connection
    since: float


class ConnectionPool:
    """At most `size` connections, in use and at rest together."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._slots = trio.Semaphore(size)
        self._resting: list[_Resting] = []  # the one that came last at the end
        self._closed = False
        self._opened = 0
        self._reused = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """The right to use one connection; waits for it in turn, as long as it takes.

        Raises trio.ClosedResourceError after `close`.
        """
        async with self._slots:
            if self._closed:
                raise trio.ClosedResourceError("this client was closed")
            yield

    def take(self, origin: Origin) -> Connection | None:
        """A connection at rest that seems alive, if there is one. Call it within `slot`; others are closed."""
        self._close_old()
        for place in range(len(self._resting) - 1, -1, -1):
            if self._resting[place].origin == origin:
                connection = self._resting.pop(place).connection
                if connection.is_usable():
                    self._reused += 1
                    return connection
                connection.close()
        return None

    def make_room(self) -> None:
        """Before a connection is opened, within `slot`: close the one that rested longest, if all places are taken."""
        self._opened += 1
        if self._in_use + len(self._resting) > self._size:
            self._resting.pop(0).connection.close()

    def keep(self, origin: Origin, connection: Connection) -> None:
        """Let it rest. Call it within `slot`; after `close` it is closed."""
        if self._closed:
            connection.close()
            return
        self._resting.append(_Resting(origin, connection, trio.current_time()))
        self._close_old()

    def close(self) -> None:
        """Close what rests; what is in use is closed by its user."""
        self._closed = True
        while self._resting:
            self._resting.pop().connection.close()

    def statistics(self) -> ConnectionStatistics:
        """A snapshot for metrics."""
        return ConnectionStatistics(
            in_use=self._in_use,
            idle=len(self._resting),
            size=self._size,
            waiting=self._slots.statistics().tasks_waiting,
            opened=self._opened,
            reused=self._reused,
        )

    @property
    def _in_use(self) -> int:
        return self._size - self._slots.value

    def _close_old(self) -> None:
        oldest = trio.current_time() - IDLE_LIMIT_S
        while self._resting and self._resting[0].since <= oldest:
            self._resting.pop(0).connection.close()
