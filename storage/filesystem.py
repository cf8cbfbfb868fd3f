"""A blob store in a directory. The format on disk is docs/storage-format.md.

Every object is one read-only file that is written once and never changed; several processes may use one directory at
the same time. Wants a local file system with flock; hard links save a copy. It knows no rows and no repositories.
"""

import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import trio

from storage import durable
from storage.blobstore import BlobReader, OpenFile, Properties, Span, Staging, StoredObject, check_span
from storage.blocking import Pool
from storage.digest import Digest
from storage.errors import BlobUnknown, Damaged
from storage.filesystem_layout import IDENTITY, Layout, ObjectName, open_object
from storage.filesystem_reading import (
    CLOSE_DEADLINE_S,
    Chunks,
    FileReader,
    PageCache,
    PlainBytes,
    Source,
    close_descriptor,
)
from storage.filesystem_staging import FilesystemStaging, hold
from storage.seekable import Frames

COMPRESSIONS: Final = ("off", "auto")
# Objects looked at in one turn of a thread: about 5 ms with warm directories.
_SCAN_BATCH: Final = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FilesystemStatistics:
    """What this process holds of the store now."""

    staging_held: int
    readers_open: int


class FilesystemStore:
    """See `blobstore.BlobStore`. Call `prepare` once before anything else; there is nothing to close.

    `compression`: `off`, or `auto` to keep what compresses well as seekable zstd. It decides for new objects only;
    objects of both kinds are readable always.
    """

    def __init__(self, root: Path, *, pool: Pool, compression: str = "off") -> None:
        if compression not in COMPRESSIONS:
            raise ValueError(f"unknown compression {compression!r}: use one of {', '.join(COMPRESSIONS)}")
        self._layout = Layout(root)
        self._pool = pool
        self._compress = compression == "auto"
        self._cache = PageCache()
        self._staging_held = 0
        self._readers_open = 0

    @property
    def properties(self) -> Properties:
        """Readers of objects that are not compressed offer a descriptor."""
        return Properties("filesystem", has_files=True)

    def statistics(self) -> FilesystemStatistics:
        """A snapshot for metrics."""
        return FilesystemStatistics(self._staging_held, self._readers_open)

    async def prepare(self) -> None:
        """Make the directories and the marker, durably. Raises `Unavailable` or `StorageFull`; repeating it is fine."""
        await self._pool.run(self._prepare)

    def _prepare(self) -> None:
        with durable.failures_of("store directories"):
            self._layout.create()
            self._layout.mark()

    async def is_blank(self) -> bool:
        """Whether no store was ever prepared here, as in the mount point of a volume that is not mounted.

        Ask before `prepare`. Directories from before there were markers are not blank once they have an object.
        """
        return await self._pool.run(self._is_blank)

    def _is_blank(self) -> bool:
        with durable.failures_of("store directories"):
            return self._layout.is_blank()

    # --- staging ------------------------------------------------------------------------------------------------

    def stage(self, staging_id: str, *, create: bool) -> AbstractAsyncContextManager[Staging]:
        """See `blobstore.BlobStore.stage`; ValueError for a malformed id."""
        return self._stage(staging_id, create=create)

    @asynccontextmanager
    async def _stage(self, staging_id: str, *, create: bool) -> AsyncIterator[FilesystemStaging]:
        descriptor = await self._pool.run(hold, self._layout, staging_id, create=create)
        staging = FilesystemStaging(
            self._layout, staging_id, descriptor=descriptor, pool=self._pool, compress=self._compress
        )
        self._staging_held += 1
        try:
            yield staging
        finally:
            self._staging_held -= 1
            with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await staging.close()

    async def adopt(self, path: Path, digest: Digest, size_bytes: int, *, staging_id: str) -> StoredObject:
        """See `blobstore.BlobStore.adopt`: a second name if both lie on one file system; or compressed."""
        async with self._stage(staging_id, create=True) as staging:
            return await staging.adopt(path, digest, size_bytes)

    def scan_staging(self) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, int]]]:
        """See `blobstore.BlobStore.scan_staging`; held ones are among them."""
        return self._walked(self._layout.walk_staging())

    # --- objects ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """See `blobstore.BlobStore.open`; ValueError for a span outside the blob."""
        check_span(span, size_bytes=stored.size_bytes)
        descriptor, source = await self._pool.run(self._open, stored, span.start)
        self._readers_open += 1
        try:
            file = OpenFile(descriptor, span.start, span.stop) if isinstance(source, PlainBytes) else None
            chunks = Chunks(source, span, what=f"object {stored.key}", pool=self._pool, cache=self._cache)
            yield FileReader(chunks, file)
        finally:
            self._readers_open -= 1
            with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await close_descriptor(descriptor, self._pool)

    def _open(self, stored: StoredObject, start: int) -> tuple[int, Source]:
        name = ObjectName.parse(stored.key)
        what = f"object {stored.key}"
        with durable.failures_of(what):
            try:
                descriptor = open_object(self._layout.object_path(name), name)
            except FileNotFoundError as error:
                raise self._layout.absent_object(stored.key) from error
            try:
                return descriptor, _source(descriptor, name, stored, start)
            except BaseException:
                os.close(descriptor)
                raise

    async def stat(self, key: str) -> StoredObject:
        """See `blobstore.BlobStore.stat`; raises `Damaged` for a compressed object without a valid table."""
        return await self._pool.run(self._stat, key)

    def _stat(self, key: str) -> StoredObject:
        name = ObjectName.parse(key)
        with durable.failures_of(f"object {key}"):
            try:
                return self._layout.look(name)
            except FileNotFoundError as error:
                raise self._layout.absent_object(key) from error

    async def remove(self, key: str) -> None:
        """See `blobstore.BlobStore.remove`. A key that no object can have is absent."""
        await self._pool.run(self._remove, key)

    def _remove(self, key: str) -> None:
        with suppress(BlobUnknown), durable.failures_of(f"object {key}"):
            name = ObjectName.parse(key)
            try:
                self._layout.object_path(name).unlink(missing_ok=True)
                self._layout.sync_fan_out(name)  # also when absent: it may have been removed by one who then crashed
            except FileNotFoundError as error:
                raise self._layout.absent_object(key) from error

    async def quarantine(self, key: str) -> None:
        """See `blobstore.BlobStore.quarantine`; the file is then in `quarantine/`. Raises `BlobUnknown`."""
        await self._pool.run(self._quarantine, key)

    def _quarantine(self, key: str) -> None:
        name = ObjectName.parse(key)
        aside = self._layout.quarantine_path(name)
        with durable.failures_of(f"object {key}"):
            try:
                self._layout.object_path(name).rename(aside)
            except FileNotFoundError as error:
                if not os.path.lexists(aside):
                    raise self._layout.absent_object(key) from error
            durable.sync_directory(self._layout.quarantine)
            self._layout.sync_fan_out(name)

    def scan(self) -> AbstractAsyncContextManager[AsyncIterator[StoredObject]]:
        """See `blobstore.BlobStore.scan`."""
        return self._walked(self._layout.walk())

    @asynccontextmanager
    async def _walked(self, walk: Generator[T, None, None]) -> AsyncIterator[AsyncIterator[T]]:
        with closing(walk):
            async with aclosing(self._in_batches(walk)) as items:
                yield items

    async def _in_batches(self, walk: Iterator[T]) -> AsyncGenerator[T, None]:
        while batch := await self._pool.run(_take, walk):
            for item in batch:
                yield item


def _source(descriptor: int, name: ObjectName, stored: StoredObject, start: int) -> Source:
    """What gives the blob's bytes, after checking that the file has the size that the row says."""
    what = f"object {stored.key}"
    if name.encoding == IDENTITY:
        source: Source = PlainBytes(descriptor, what)
        size_bytes = os.fstat(descriptor).st_size
    else:
        source = frames = Frames(descriptor, what, start=start)
        size_bytes = frames.size_bytes
    if size_bytes != stored.size_bytes:
        raise Damaged(f"{what} has {size_bytes} bytes, not {stored.size_bytes}")
    return source


def _take(walk: Iterator[T]) -> list[T]:
    with durable.failures_of("scan of the store"):
        return list(itertools.islice(walk, _SCAN_BATCH))
