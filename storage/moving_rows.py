"""Rows on their way from one database to the other: a snapshot read in one thread, a transaction fed in another.

Both sides are in the middle of a transaction of their own, so they meet in a short queue: memory is bounded by its
length, whatever the size of the installation, and whoever ends first ends the other. Knows no tables.
"""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from storage.errors import Unavailable

T = TypeVar("T")


class Gone(Exception):
    """The reader wants no more."""


class Pipe(Generic[T]):
    """A queue of at most `bound` items between two threads; blocks both, so never for the event loop."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._items: deque[T] = deque()
        self._state = threading.Condition()
        self._is_complete = False
        self._is_left = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Hand one over; waits for room. Raises `Gone` once the reader has left, or after `fail`."""
        with self._state:
            self._state.wait_for(lambda: self._is_left or len(self._items) < self._bound)
            if self._is_left or self._error is not None:
                raise Gone
            self._items.append(item)
            self._state.notify_all()

    def complete(self) -> None:
        """That was all."""
        with self._state:
            self._is_complete = True
            self._state.notify_all()

    def fail(self, error: BaseException) -> None:
        """There will be no more, for that reason; the reader gets it raised. Does nothing after `complete`."""
        with self._state:
            if not self._is_complete and self._error is None:
                self._error = error
                self._state.notify_all()

    def leave(self) -> None:
        """The reader takes no more, whether or not it had everything. Safe to call twice, and by any thread."""
        with self._state:
            self._is_left = True
            self._items.clear()
            self._state.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items in order. Raises what the writer failed with, and `Unavailable` if the reader was made to leave."""
        while True:
            with self._state:
                self._state.wait_for(
                    lambda: bool(self._items) or self._is_complete or self._is_left or self._error is not None
                )
                if self._is_left:
                    raise Unavailable("the move was interrupted")
                if self._items:
                    item = self._items.popleft()
                    self._state.notify_all()
                elif self._error is not None:
                    raise self._error
                else:
                    return
            yield item
