"""The gateway as it is, over a store that takes bytes slowly: `python -m tests.memory.slow_gateway RATE serve ...`.

Only the time that a write takes differs; the bytes go the whole ordinary way.
"""

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from gateway import app
from gateway.cli import main
from storage import Digest, FilesystemStore, Hasher, Staging, StoredObject
from storage.blobstore import BlockingWriter


class SlowWriter:
    """The same, in a thread."""

    def __init__(self, writer: BlockingWriter, bytes_per_s: float) -> None:
        self._writer = writer
        self._bytes_per_s = bytes_per_s

    @property
    def is_full(self) -> bool:
        """As full as the writer behind it."""
        return self._writer.is_full

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Take the parts, slowly."""
        self._writer.write(parts)
        time.sleep(sum(len(part) for part in parts) / self._bytes_per_s)

    async def room(self) -> None:
        """Passed on."""
        await self._writer.room()


class SlowStaging:
    """A staging area whose writes take as long as a slow disk's."""

    def __init__(self, staging: Staging, bytes_per_s: float) -> None:
        self._staging = staging
        self._bytes_per_s = bytes_per_s

    @property
    def staging_id(self) -> str:
        """See `Staging`."""
        return self._staging.staging_id

    @property
    def offset(self) -> int:
        """See `Staging`."""
        return self._staging.offset

    async def write(self, chunk: bytes | bytearray | memoryview, hasher: Hasher) -> None:
        """Take the chunk, slowly."""
        await self._staging.write(chunk, hasher)
        await trio.sleep(len(chunk) / self._bytes_per_s)

    async def writer(self, hasher: Hasher) -> BlockingWriter | None:
        """See `Staging`; as slow as `write`."""
        writer = await self._staging.writer(hasher)
        return None if writer is None else SlowWriter(writer, self._bytes_per_s)

    def hasher(self) -> Hasher | None:
        """See `Staging`."""
        return self._staging.hasher()

    async def settle(self, hasher: Hasher | None) -> None:
        """See `Staging`."""
        await self._staging.settle(hasher)

    def verifies(self, digest: Digest, size_bytes: int) -> bool:
        """See `Staging`."""
        return self._staging.verifies(digest, size_bytes)

    async def receive(self, digest: Digest, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """See `Staging`."""
        await self._staging.receive(digest, size_bytes, chunks)

    async def rehash(self, hasher: Hasher) -> None:
        """See `Staging`."""
        await self._staging.rehash(hasher)

    async def truncate(self, size_bytes: int) -> None:
        """See `Staging`."""
        await self._staging.truncate(size_bytes)

    async def publish(self, digest: Digest) -> StoredObject:
        """See `Staging`."""
        return await self._staging.publish(digest)

    async def published(self) -> StoredObject | None:
        """See `Staging`."""
        return await self._staging.published()

    async def discard(self) -> None:
        """See `Staging`."""
        await self._staging.discard()


class SlowStore(FilesystemStore):
    """A directory store on a slow disk."""

    bytes_per_s = 1e9

    @asynccontextmanager
    async def stage(self, staging_id: str, *, create: bool) -> AsyncIterator[Staging]:
        """See `BlobStore.stage`."""
        async with super().stage(staging_id, create=create) as staging:
            yield SlowStaging(staging, self.bytes_per_s)


if __name__ == "__main__":
    SlowStore.bytes_per_s = float(sys.argv.pop(1))
    vars(app)["FilesystemStore"] = SlowStore  # the one seam: the gateway composes its stores there
    main()
