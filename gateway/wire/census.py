"""Who is connected to this worker: how many, from where, who rests, and who has to make room. Knows no bytes, no HTTP.

A connection that rests holds nothing but its place here: one task (`watch`) ends all rests that last too long, so that
resting costs no timer of its own.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

LAST_CALL_S: Final = 0.25
"""After the stop signal a resting connection may still bring the request that was under way to us. One round trip
across the world; a guess."""
_LOOK_S: Final = 0.25
"""Between two looks at who rests too long: each costs 0.1 us per resting connection."""


_REFUSED_ALOUD: Final = 64
"""Refusals on their way at once, each with a descriptor of its own beyond the limit; more are just closed."""


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A snapshot for metrics."""

    open: int
    """Connections being served now."""
    resting: int
    """Of these, between requests."""
    accepted_total: int
    turned_away_total: int
    """Refused because the worker was full and nobody rested, or because their address had too many already."""
    stalled_total: int
    """Dropped because they did not read what they had asked for."""


@dataclass(slots=True, eq=False)
class Guest:
    """One connection's place. Its owner runs inside `scope`, which is cancelled only while it rests."""

    address: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    rests_until: float = math.inf


class Census:
    """See the module docstring. One per worker, used from its event loop only."""

    def __init__(
        self,
        max_connections: int,
        *,
        max_per_address: int | None = None,
        unlimited: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`max_per_address` does not hold for addresses that are `unlimited`, such as proxies."""
        self._max = max_connections
        self._max_per_address = max_per_address
        self._unlimited = unlimited
        self._open = 0
        self._by_address: Counter[str] = Counter()
        self._resting: dict[Guest, None] = {}  # in the order in which they went to rest
        self._accepted = 0
        self._turned_away = 0
        self._stalled = 0
        self._refusals = 0
        self._closing = False
        self._alarm = trio.CancelScope()
        self._alarm_at = math.inf

    def admit(self, address: str) -> Guest | None:
        """Count a new connection in, sending the longest resting one home when full. None: there is no room."""
        if self._has_too_many(address) or (self._open >= self._max and not self._make_room()):
            self._turned_away += 1
            return None
        self._open += 1
        self._by_address[address] += 1
        self._accepted += 1
        return Guest(address)

    @contextmanager
    def refusing(self) -> Iterator[bool]:
        """Around the refusal of a connection that was not admitted: whether there is room to say so."""
        self._refusals += 1
        try:
            yield self._refusals <= _REFUSED_ALOUD
        finally:
            self._refusals -= 1

    def leave(self, guest: Guest) -> None:
        """Count an admitted connection out."""
        self._resting.pop(guest, None)
        self._open -= 1
        self._by_address[guest.address] -= 1
        if not self._by_address[guest.address]:
            del self._by_address[guest.address]

    def note_stalled(self) -> None:
        """A reader was dropped for taking too little."""
        self._stalled += 1

    def rest(self, guest: Guest, timeout_s: float) -> None:
        """Its scope is cancelled after `timeout_s`, at the stop, or to make room, unless it `wake`s before."""
        until = trio.current_time() + (min(timeout_s, LAST_CALL_S) if self._closing else timeout_s)
        guest.rests_until = until
        self._resting[guest] = None
        if until < self._alarm_at:
            self._set_alarm(until)

    def wake(self, guest: Guest) -> bool:
        """It has something to do; False if it was told to go a moment before."""
        return self._resting.pop(guest, guest) is None

    def last_call(self) -> None:
        """Send everybody home who rests or comes to rest, `LAST_CALL_S` from then."""
        self._closing = True
        soon = trio.current_time() + LAST_CALL_S
        for guest in self._resting:
            guest.rests_until = min(guest.rests_until, soon)
        self._set_alarm(min(self._alarm_at, soon))

    async def watch(self) -> None:
        """End the rests that last too long; runs until it is cancelled. One task per worker does this."""
        while True:
            with trio.CancelScope(deadline=self._alarm_at) as self._alarm:
                await trio.sleep_forever()
            now = trio.current_time()
            for guest in [guest for guest in self._resting if guest.rests_until <= now]:
                self._send_home(guest)
            earliest = min((guest.rests_until for guest in self._resting), default=math.inf)
            self._alarm_at = max(earliest, now + _LOOK_S)

    @property
    def closing(self) -> bool:
        """Whether connections end after the answer that they are busy with."""
        return self._closing

    def statistics(self) -> ConnectionStatistics:
        """Numbers at this instant."""
        return ConnectionStatistics(self._open, len(self._resting), self._accepted, self._turned_away, self._stalled)

    def _has_too_many(self, address: str) -> bool:
        limit = self._max_per_address
        return limit is not None and self._by_address[address] >= limit and not self._unlimited(address)

    def _make_room(self) -> bool:
        longest = next(iter(self._resting), None)
        if longest is None:
            return False
        self._send_home(longest)
        return True

    def _send_home(self, guest: Guest) -> None:
        del self._resting[guest]
        guest.scope.cancel()

    def _set_alarm(self, at: float) -> None:
        self._alarm_at = at
        self._alarm.deadline = at
