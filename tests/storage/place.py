"""What a test does with any blob store: stage, put, read, list, cancel; and what it needs to know of where one lies."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from storage.blobstore import CHUNK_BYTES, BlobReader, BlobStore, BlockingWriter, Span, StoredObject
from storage.blocking import Pool
from storage.digest import Digest, Hasher

SMALL = b"a small blob, as image configurations are"
LARGE = bytes(range(251)) * 2611 + b"the end"  # two and a half chunks, and no period of a power of two
HOSTILE_IDS = ["", ".", "..", "../x", "a/b", "/etc/passwd", "A", "a.key", "a\0b", "a\n", "ä", "x" * 65]
HOSTILE_KEYS = ["", ".", "..", "/etc/passwd", "../../etc/passwd", "staging/a", "blobs/sha256", "a\0b", "x" * 5000]


class Place(Protocol):
    """Where a store lies, as somebody who can restart it and damage it sees it."""

    async def open(self) -> BlobStore:
        """A store that is ready for use; the second one sees what the first one stored."""
        ...

    async def cut(self, key: str, size_bytes: int) -> None:
        """Damage the object, behind the store's back: keep only its first bytes."""
        ...


async def stage(store: BlobStore, staging_id: str, content: bytes) -> None:
    """Leave the bytes in a new staging area."""
    async with store.stage(staging_id, create=True) as staging:
        if content:
            await staging.write(content, Hasher())


async def put(store: BlobStore, staging_id: str, content: bytes) -> StoredObject:
    """Publish the bytes and discard the staging area."""
    async with store.stage(staging_id, create=True) as staging:
        for start in range(0, len(content), 1 << 20):
            await staging.write(content[start : start + (1 << 20)], Hasher())
        stored = await staging.publish(Digest.of(content))
        await staging.discard()
    return stored


async def drop(store: BlobStore, staging_id: str) -> StoredObject | None:
    """Discard a staging area that nobody comes back for, and tell what was published from it."""
    async with store.stage(staging_id, create=False) as staging:
        published = await staging.published()
        await staging.discard()
    return published


async def read(reader: BlobReader) -> bytes:
    """All chunks, each of a size that the contract allows."""
    content = bytearray()
    async for chunk in reader.chunks():
        assert 1 <= len(chunk) <= CHUNK_BYTES
        content += chunk
    return bytes(content)


async def content_of(store: BlobStore, stored: StoredObject, span: Span | None = None) -> bytes:
    """The bytes of a span, by default of the whole blob."""
    async with store.open(stored, span or Span(0, stored.size_bytes)) as reader:
        return await read(reader)


async def objects_of(store: BlobStore) -> dict[str, StoredObject]:
    """What `scan` lists, by key."""
    async with store.scan() as objects:
        return {stored.key: stored async for stored in objects}


async def areas_of(store: BlobStore) -> dict[str, int]:
    """What `scan_staging` lists."""
    async with store.scan_staging() as areas:
        return dict([area async for area in areas])


async def hand_over(writer: BlockingWriter, *parts: bytes | memoryview) -> None:
    """Hand parts over as a writer expects it: off the loop."""
    await Pool("hands", 1).run(writer.write, parts)


async def cancel_after(turns: int, call: Callable[[], Awaitable[object]]) -> None:
    """Run the call and cancel it after so many turns of the scheduler."""

    async def count_down(scope: trio.CancelScope) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_down, nursery.cancel_scope)
        await call()
        nursery.cancel_scope.cancel()
