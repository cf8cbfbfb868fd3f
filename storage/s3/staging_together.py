"""Tasks of one call: their errors come out as they are, never as a group."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from storage.errors import StorageError


@asynccontextmanager
async def hosted() -> AsyncIterator[trio.Nursery]:
    """A nursery for the time of the block, whose tasks are cancelled at its end.

    What the block raises comes out as it is, not in a group; its tasks raise nothing but mistakes of ours.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                raised = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup:
        if raised is None:
            raise
        raise raised from raised.__cause__


async def together(*calls: Callable[[], Awaitable[object]]) -> None:
    """Run the calls side by side, each to its end, and raise the first error of storage that one of them met."""
    errors: list[StorageError] = []

    async def run(call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except StorageError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(run, call)
    if errors:
        raise errors[0]
