"""Worker threads for bytes: what would make the event loop wait for a disk, or hold it with encryption and hashing.

The server's own pool, as it knows nothing of storage's; like those it is named and sized.
"""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import trio

P = ParamSpec("P")
T = TypeVar("T")

SIZE: Final = 8
"""Threads per process: with two cores more bring nothing, and as many slow disks are waited for side by side."""


class Threads:
    """At most so many at once. One per worker."""

    def __init__(self, size: int = SIZE) -> None:
        self._limiter = trio.CapacityLimiter(size)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` in a thread and give its result; waits for a free thread.

        Cancellation is immediate while it waits for a thread. Then it waits for the call, which therefore has to be
        short, or to ask `trio.from_thread.check_cancelled` now and then.
        """
        return await trio.to_thread.run_sync(  # noqa: TID251  # a named and sized limiter, as in storage.blocking
            lambda: call(*args, **kwargs), limiter=self._limiter, thread_name="wire"
        )

    @property
    def are_wanted(self) -> bool:
        """Whether somebody waits for a thread: who has one for long should give it back. May be asked in a thread."""
        return self._limiter.statistics().tasks_waiting > 0
