"""A blob store whose whole blobs are checked while they are read: nobody gets the last chunk of wrong bytes.

For stores that are far away, where bytes may change on the way or lie about. It costs the hash, 0.55 CPU s/GiB. Spans
of a blob are given as they come: nobody has all the bytes, so nobody can tell. Blobs that the store keeps compressed
have checks of their own. Everything else is the origin's.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from storage.blobstore import BlobReader, BlobStore, OpenFile, Properties, Span, Staging, StoredObject, check_span
from storage.digest import Digest, Hasher
from storage.filesystem_layout import IDENTITY
from storage.intake import Intakes
from storage.intake_reading import Verified

DamageReport = Callable[[StoredObject], Awaitable[object]]
"""Told that an object of the origin has other bytes than its digest says; see `storage.damage.DamageReports`."""


class CheckedStore:
    """See `blobstore.BlobStore` and the module docstring. Nothing to close; `intakes` runs the reports of damage."""

    def __init__(self, origin: BlobStore, intakes: Intakes, *, on_damage: DamageReport | None = None) -> None:
        self.origin: Final = origin
        """Where the bytes really lie, for what only it can do, and for whoever checks it."""
        self.on_damage = on_damage
        """May be set once, before anything is read: what it needs is often made after the stores."""
        self._intakes = intakes

    @property
    def properties(self) -> Properties:
        """The origin's."""
        return self.origin.properties

    def open(self, stored: StoredObject, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """See `blobstore.BlobStore.open`; ValueError for a span outside the blob."""
        return self._open_origin(stored, span)

    @asynccontextmanager
    async def _open_origin(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        check_span(span, size_bytes=stored.size_bytes)
        async with self.origin.open(stored, span) as reader:
            if stored.encoding != IDENTITY or not stored.size_bytes or span != Span(0, stored.size_bytes):
                yield reader
            else:
                yield _CheckedReader(reader, stored, report=partial(self._tell, stored))

    def _tell(self, stored: StoredObject) -> None:
        """Report in a task that the reader, who is about to fail, does not take along."""
        self._intakes.run_beside(partial(self._report, stored))

    async def _report(self, stored: StoredObject) -> None:
        if self.on_damage is not None:
            await self.on_damage(stored)

    async def remove(self, key: str) -> None:
        """See `blobstore.BlobStore.remove`."""
        await self.origin.remove(key)

    async def quarantine(self, key: str) -> None:
        """See `blobstore.BlobStore.quarantine`."""
        await self.origin.quarantine(key)

    async def stat(self, key: str) -> StoredObject:
        """See `blobstore.BlobStore.stat`."""
        return await self.origin.stat(key)

    def stage(self, staging_id: str, *, create: bool) -> AbstractAsyncContextManager[Staging]:
        """See `blobstore.BlobStore.stage`."""
        return self.origin.stage(staging_id, create=create)

    async def adopt(self, path: Path, digest: Digest, size_bytes: int, *, staging_id: str) -> StoredObject:
        """See `blobstore.BlobStore.adopt`."""
        return await self.origin.adopt(path, digest, size_bytes, staging_id=staging_id)

    def scan(self) -> AbstractAsyncContextManager[AsyncIterator[StoredObject]]:
        """See `blobstore.BlobStore.scan`."""
        return self.origin.scan()

    def scan_staging(self) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, int]]]:
        """See `blobstore.BlobStore.scan_staging`."""
        return self.origin.scan_staging()


class _CheckedReader:
    """A whole blob as it comes from the origin, with its digest checked before the last chunk."""

    def __init__(self, reader: BlobReader, stored: StoredObject, *, report: Callable[[], None]) -> None:
        self._reader = reader
        self._stored = stored
        self._report = report

    @property
    def file(self) -> OpenFile | None:
        """What the origin offers: a file of its own is as good as any."""
        return self._reader.file

    def chunks(self) -> AsyncIterator[bytes]:
        """See `blobstore.BlobReader.chunks`."""
        what, digest = f"object {self._stored.key}", self._stored.digest
        return Verified(self._reader.chunks(), Hasher(), digest=digest, what=what, report=self._report)
