"""boto3 in threads as a data plane: what is only hard when a thread is in the way. The rest is in `test_s3_bucket`."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing

import pytest
import trio

from storage.errors import BlobUnknown, Unavailable
from storage.s3.bucket import Bucket
from storage.transfer import Stream
from tests.servers.bucket_server import S3Server
from tests.storage.s3.buckets import opened, settings_for

pytestmark = pytest.mark.slow
CONTENT = bytes(range(256)) * (16 << 10)


@pytest.fixture
async def bucket(radosgw: S3Server, bucket: str) -> AsyncIterator[Bucket]:
    """A bucket by the slow plane, plain."""
    async with opened(settings_for(radosgw, bucket, data_plane="boto3")) as ready:
        yield ready


class SourceFailed(Exception):
    """What a client that leaves makes its body raise."""


async def test_source_that_fails(bucket: Bucket) -> None:
    """What the source raises on the loop comes out as it is, through the thread, and nothing is stored."""

    async def breaking() -> AsyncIterator[bytes]:
        yield b"some"
        await trio.lowlevel.checkpoint()
        raise SourceFailed

    with pytest.raises(SourceFailed):
        await bucket.put("broken", Stream(9, breaking()))
    with pytest.raises(BlobUnknown):
        await bucket.head("broken")


@pytest.mark.parametrize("promised", [3, 5], ids=["longer", "shorter"])
async def test_source_that_breaks_its_promise(bucket: Bucket, promised: int) -> None:
    """A source of another length than it promised stores nothing, and nobody waits for what does not come."""

    async def four() -> AsyncGenerator[bytes, None]:
        await trio.lowlevel.checkpoint()
        yield b"four"

    async with aclosing(four()) as chunks:
        with pytest.raises(Unavailable, match="promised"):
            await bucket.put("another", Stream(promised, chunks))
    with pytest.raises(BlobUnknown):
        await bucket.head("another")


async def test_cancelled_while_the_source_is_silent(bucket: Bucket) -> None:
    """A push whose client fell silent can be cancelled although a thread waits for its bytes."""

    async def silent() -> AsyncGenerator[bytes, None]:
        yield b"some"
        await trio.sleep_forever()

    async with aclosing(silent()) as chunks, trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_stuck, nursery.cancel_scope)
        await bucket.put("silent", Stream(9, chunks))
    with pytest.raises(BlobUnknown):
        await bucket.head("silent")


async def _cancel_when_stuck(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked(0.2)
    scope.cancel()


async def test_readers_that_leave_early(bucket: Bucket) -> None:
    """More readers that leave than there are threads and connections leave nothing taken."""
    await bucket.put("large", CONTENT)
    for _ in range(20):
        async with AsyncExitStack() as stack:
            download = await stack.enter_async_context(bucket.get("large"))
            assert CONTENT.startswith(await anext(download.chunks()))
    async with bucket.get("large") as download:
        assert b"".join([chunk async for chunk in download.chunks()]) == CONTENT
