"""Blocking calls leave the event loop here, through named and sized thread limiters, and nowhere else.

A limiter is a promise about resources: how many threads disk work may hold, how many a password hash. The
default limiter of Trio is never used, so one kind of work cannot starve another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import trio

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """Threads in use, threads allowed and callers waiting for one, at this instant."""

    name: str
    busy: int
    size: int
    waiting: int


class Pool:
    """At most `size` threads at once for one named kind of blocking work."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self._limiter = trio.CapacityLimiter(size)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` in a thread and give its result; waits for a free thread.

        Cancellation while waiting for a thread is immediate; once the call runs it is never abandoned, because
        a thread that writes must not outlive the code that believes it stopped. Keep each call short.
        """
        return await trio.to_thread.run_sync(
            lambda: call(*args, **kwargs), limiter=self._limiter, thread_name=self.name
        )

    async def look(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, for calls that change nothing and may take long: who is cancelled does not wait for its end.

        Its thread, and its place among the `size`, are taken until it ends by itself.
        """
        return await trio.to_thread.run_sync(
            lambda: call(*args, **kwargs), limiter=self._limiter, thread_name=self.name, abandon_on_cancel=True
        )

    def statistics(self) -> PoolStatistics:
        """A snapshot for metrics."""
        state = self._limiter.statistics()
        return PoolStatistics(self.name, state.borrowed_tokens, int(state.total_tokens), state.tasks_waiting)
