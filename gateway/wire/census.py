"""Who is connected to this worker: how many, who rests, and who has to make room. Knows no bytes and no HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

LAST_CALL_S: Final = 0.25
"""After the stop signal a resting connection may still bring the request that was under way to us. One round trip
across the world; a guess."""


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A snapshot for metrics."""

    open: int
    """Connections being served now."""
    resting: int
    """Of these, between requests."""
    accepted_total: int
    turned_away_total: int
    """Refused because the worker was full and nobody rested."""
    stalled_total: int
    """Dropped because they did not read what they had asked for."""


class Census:
    """See the module docstring. One per worker, used from its event loop only."""

    def __init__(self, max_connections: int) -> None:
        self._max = max_connections
        self._open = 0
        self._resting: dict[trio.CancelScope, None] = {}  # in the order in which they went to rest
        self._accepted = 0
        self._turned_away = 0
        self._stalled = 0
        self._closing = False

    def admit(self) -> bool:
        """Count a new connection in, sending the longest resting one home when full. False: there is no room."""
        if self._open >= self._max:
            longest = next((scope for scope in self._resting if not scope.cancel_called), None)
            if longest is None:
                self._turned_away += 1
                return False
            longest.cancel()
        self._open += 1
        self._accepted += 1
        return True

    def leave(self) -> None:
        """Count an admitted connection out."""
        self._open -= 1

    def note_stalled(self) -> None:
        """A reader was dropped for taking too little."""
        self._stalled += 1

    @contextmanager
    def resting(self, timeout_s: float) -> Iterator[trio.CancelScope]:
        """Wait here for a connection's next request: a scope that ends after `timeout_s`, at the stop, or to make room.

        The caller asks the scope whether it was cancelled.
        """
        with trio.CancelScope(deadline=trio.current_time() + timeout_s) as scope:
            if self._closing:
                self._hurry(scope)
            self._resting[scope] = None
            try:
                yield scope
            finally:
                del self._resting[scope]

    def last_call(self) -> None:
        """Send everybody home who rests or comes to rest, `LAST_CALL_S` from then."""
        self._closing = True
        for scope in self._resting:
            self._hurry(scope)

    @property
    def closing(self) -> bool:
        """Whether connections end after the answer that they are busy with."""
        return self._closing

    def statistics(self) -> ConnectionStatistics:
        """Numbers at this instant."""
        return ConnectionStatistics(self._open, len(self._resting), self._accepted, self._turned_away, self._stalled)

    def _hurry(self, scope: trio.CancelScope) -> None:
        scope.deadline = min(scope.deadline, trio.current_time() + LAST_CALL_S)
