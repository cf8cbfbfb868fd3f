"""Tasks that go on beside a block of code and end with it. Knows nothing of what they do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the block is left, however it is left.

    What the block raises comes out as it is, not in the nursery's group: whoever opens several of these, one in the
    other, need not look for it. What a task raises cancels the block and comes out in a group, as from any nursery.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001 - raised again below, outside of the nursery
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
