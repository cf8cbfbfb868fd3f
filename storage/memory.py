"""A blob store in this process' memory, for tests and for throw-away runs: it forgets everything with the process.

Same contract as every other store, and deliberately no faster way around any of its rules.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

import trio

from storage import durable
from storage.blobstore import (
    CHUNK_BYTES,
    BlobReader,
    BlockingWriter,
    OpenFile,
    Properties,
    Span,
    Staging,
    StoredObject,
    check_span,
    check_staging_id,
)
from storage.blocking import Pool
from storage.digest import CANONICAL, Digest, Hasher
from storage.errors import BlobUnknown, Busy, Damaged, UploadUnknown

# Bytes hashed between two checkpoints, about 0.6 ms.
_HASH_TURN_BYTES: Final = 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MemoryStatistics:
    """What is held now."""

    staging_held: int
    readers_open: int
    stored_bytes: int


@dataclass(slots=True)
class _Area:
    """A staging area; `published` is the key of the object that was last made from it."""

    changed_at: int
    content: bytearray = field(default_factory=bytearray)
    is_held: bool = False
    published: str | None = None


@dataclass(frozen=True, slots=True)
class _Object:
    digest: Digest
    content: bytes
    created_at: int

    def describe(self, key: str) -> StoredObject:
        size_bytes = len(self.content)
        return StoredObject(key, self.digest, size_bytes, size_bytes, "identity", self.created_at)


class MemoryStore:
    """See `blobstore.BlobStore`. `clock` gives Unix seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._pool = Pool("memory", 1)
        self._areas: dict[str, _Area] = {}
        self._objects: dict[str, _Object] = {}
        self._set_aside: dict[str, _Object] = {}
        self._readers_open = 0

    @property
    def properties(self) -> Properties:
        """There are no files."""
        return Properties("memory", has_files=False)

    def statistics(self) -> MemoryStatistics:
        """A snapshot for metrics."""
        held = sum(area.is_held for area in self._areas.values())
        return MemoryStatistics(held, self._readers_open, sum(len(each.content) for each in self._objects.values()))

    async def prepare(self) -> None:
        """Nothing to do; here because every store has it."""
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def stage(self, staging_id: str, *, create: bool) -> AsyncIterator[Staging]:
        """See `blobstore.BlobStore.stage`; ValueError for a malformed id."""
        check_staging_id(staging_id)
        await trio.lowlevel.checkpoint()
        area = self._areas.get(staging_id)
        if area is None:
            if not create:
                raise UploadUnknown(f"no staging area {staging_id}")
            area = self._areas[staging_id] = _Area(changed_at=self._now())
        if area.is_held:
            raise Busy(f"staging area {staging_id} is held by somebody else")
        area.is_held = True
        staging = MemoryStaging(staging_id, areas=self._areas, objects=self._objects, now=self._now)
        try:
            yield staging
        finally:
            staging.let_go()

    async def adopt(self, path: Path, digest: Digest, size_bytes: int, *, staging_id: str) -> StoredObject:
        """See `blobstore.BlobStore.adopt`: the bytes are copied."""
        async with self.stage(staging_id, create=True) as staging:
            with durable.failures_of(f"blob {digest}"):
                content = await self._pool.run(path.read_bytes)
            if len(content) != size_bytes:
                raise Damaged(f"blob {digest}: {len(content)} bytes are in the file, not {size_bytes}")
            if content:
                await staging.write(content, Hasher())
            return await staging.publish(digest)

    def scan_staging(self) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, int]]]:
        """See `blobstore.BlobStore.scan_staging`; held ones are among them."""
        return _each([(staging_id, area.changed_at) for staging_id, area in self._areas.items()])

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """See `blobstore.BlobStore.open`; ValueError for a span outside the blob."""
        check_span(span, size_bytes=stored.size_bytes)
        await trio.lowlevel.checkpoint()
        content = self._find(stored.key).content
        if len(content) != stored.size_bytes:
            raise Damaged(f"object {stored.key} has {len(content)} bytes, not {stored.size_bytes}")
        self._readers_open += 1
        try:
            yield _Reader(content, span)
        finally:
            self._readers_open -= 1

    async def stat(self, key: str) -> StoredObject:
        """See `blobstore.BlobStore.stat`."""
        await trio.lowlevel.checkpoint()
        return self._find(key).describe(key)

    async def remove(self, key: str) -> None:
        """See `blobstore.BlobStore.remove`."""
        await trio.lowlevel.checkpoint()
        self._objects.pop(key, None)

    async def quarantine(self, key: str) -> None:
        """See `blobstore.BlobStore.quarantine`."""
        await trio.lowlevel.checkpoint()
        if key not in self._objects and key in self._set_aside:
            return
        self._set_aside[key] = self._find(key)
        del self._objects[key]

    def scan(self) -> AbstractAsyncContextManager[AsyncIterator[StoredObject]]:
        """See `blobstore.BlobStore.scan`."""
        return _each([found.describe(key) for key, found in self._objects.items()])

    def _find(self, key: str) -> _Object:
        try:
            return self._objects[key]
        except KeyError:
            raise BlobUnknown(f"no object {key[:200]}") from None

    def _now(self) -> int:
        return int(self._clock())


class MemoryStaging:
    """A held staging area; see `blobstore.Staging`."""

    def __init__(
        self, staging_id: str, *, areas: dict[str, _Area], objects: dict[str, _Object], now: Callable[[], int]
    ) -> None:
        self._staging_id = staging_id
        self._areas = areas
        self._objects = objects
        self._now = now
        self._area = areas[staging_id]
        self._is_held = True
        self._dropped = False

    @property
    def staging_id(self) -> str:
        """The id that the caller made."""
        return self._staging_id

    @property
    def offset(self) -> int:
        """Number of bytes held."""
        return len(self._area.content)

    def let_go(self) -> None:
        """Let go and keep the bytes."""
        self._area.is_held = self._is_held = False

    async def write(self, chunk: bytes | bytearray | memoryview, hasher: Hasher) -> None:
        """See `blobstore.Staging.write`."""
        await trio.lowlevel.checkpoint()
        self.append((chunk,), hasher)

    async def writer(self, hasher: Hasher) -> BlockingWriter:
        """See `blobstore.Staging.writer`."""
        await trio.lowlevel.checkpoint()
        self._held()
        return _Writer(self, hasher)

    def hasher(self) -> None:
        """See `blobstore.Staging.hasher`: none is kept."""

    async def settle(self, hasher: Hasher | None) -> None:  # noqa: ARG002  # the contract's shape
        """See `blobstore.Staging.settle`: what was written is where it will be."""
        await trio.lowlevel.checkpoint()

    def append(self, parts: Sequence[bytes | bytearray | memoryview], hasher: Hasher) -> None:
        """For `write` and `writer`, in any thread: the area has one holder."""
        area = self._held()
        for part in parts:
            area.content += part
            hasher.update(part)
        area.changed_at = self._now()

    def verifies(self, digest: Digest, size_bytes: int) -> bool:  # noqa: ARG002  # the contract's shape
        """See `blobstore.Staging.verifies`: who writes here hashes."""
        return False

    async def receive(self, digest: Digest, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:  # noqa: ARG002
        """See `blobstore.Staging.receive`: not offered, as `verifies` says."""
        raise ValueError(f"{size_bytes} bytes of {digest} cannot be verified here: write them")

    async def rehash(self, hasher: Hasher) -> None:
        """See `blobstore.Staging.rehash`. If it is cancelled, forget the hasher: it has seen some bytes."""
        area = self._held()
        for start in range(0, len(area.content), _HASH_TURN_BYTES):
            await trio.lowlevel.checkpoint()
            hasher.update(area.content[start : start + _HASH_TURN_BYTES])

    async def truncate(self, size_bytes: int) -> None:
        """See `blobstore.Staging.truncate`; ValueError beyond the offset."""
        await trio.lowlevel.checkpoint()
        area = self._held()
        if not 0 <= size_bytes <= len(area.content):
            raise ValueError(f"cannot truncate {len(area.content)} bytes to {size_bytes}")
        del area.content[size_bytes:]
        area.changed_at = self._now()

    async def publish(self, digest: Digest) -> StoredObject:
        """See `blobstore.Staging.publish`."""
        await trio.lowlevel.checkpoint()
        area = self._held()
        if digest.algorithm != CANONICAL:
            raise ValueError(f"objects are named by sha256, not by {digest.algorithm}")
        key = area.published = f"{digest.hex}.{self._staging_id}"
        if key not in self._objects:
            self._objects[key] = _Object(digest, bytes(area.content), self._now())
        return self._objects[key].describe(key)

    async def published(self) -> StoredObject | None:
        """See `blobstore.Staging.published`."""
        await trio.lowlevel.checkpoint()
        key = self._area.published
        if self._dropped or key is None or key not in self._objects:
            return None
        return self._objects[key].describe(key)

    async def discard(self) -> None:
        """See `blobstore.Staging.discard`."""
        await trio.lowlevel.checkpoint()
        if not self._dropped:
            self._dropped = True
            del self._areas[self._staging_id]

    def _held(self) -> _Area:
        if self._dropped:
            raise UploadUnknown(f"staging area {self._staging_id} was discarded")
        if not self._is_held:
            raise ValueError(f"staging area {self._staging_id} is no longer held")
        return self._area


class _Writer:
    def __init__(self, staging: MemoryStaging, hasher: Hasher) -> None:
        self._staging = staging
        self._hasher = hasher

    @property
    def is_full(self) -> bool:
        return False

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        self._staging.append(parts, self._hasher)

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()


class _Reader:
    def __init__(self, content: bytes, span: Span) -> None:
        self._chunks = _Chunks(content, span)

    @property
    def file(self) -> OpenFile | None:
        return None

    def chunks(self) -> AsyncIterator[bytes]:
        return self._chunks


class _Chunks:
    def __init__(self, content: bytes, span: Span) -> None:
        self._content = content
        self._position = span.start
        self._stop = span.stop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._position >= self._stop:
            raise StopAsyncIteration
        await trio.lowlevel.checkpoint()
        chunk = self._content[self._position : min(self._position + CHUNK_BYTES, self._stop)]
        self._position += len(chunk)
        return chunk


@asynccontextmanager
async def _each(items: Sequence[T]) -> AsyncIterator[AsyncIterator[T]]:
    async def iterate() -> AsyncGenerator[T, None]:
        for item in items:
            await trio.lowlevel.checkpoint()
            yield item

    async with aclosing(iterate()) as iterator:
        yield iterator
