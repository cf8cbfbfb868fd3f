"""A hot set in front of any blob store: a pull that is warm on this machine costs the store nothing.

What is asked for decides the way:
- kept here: the local file, for sendfile;
- a whole blob, or at least half of one, that is not: an intake, which all readers on the machine share;
- less of it: from the origin, unless the part has come in already with an intake that runs;
- what the set does not take (too large for it, no room, compressed at rest): from the origin. A whole blob's digest is
  checked then too, before its last chunk.
Everything else is the origin's. Copies are found by key and keys are never reused, so a copy can be superfluous but
never stale; a reader came here through a row, which decides whether the blob exists.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from storage.blobstore import BlobReader, BlobStore, OpenFile, Properties, Span, StoredObject, check_span
from storage.checked_store import CheckedStore, DamageReport
from storage.digest import Digest
from storage.filesystem_layout import IDENTITY
from storage.filesystem_reading import (
    CLOSE_DEADLINE_S,
    Chunks,
    FileReader,
    PageCache,
    PlainBytes,
    close_descriptor,
)
from storage.hotset import HotSet
from storage.hotset_files import Entry
from storage.intake import Intake, Intakes
from storage.intake_reading import FollowingReader

_GATHERED_SHARE: Final = 2
"""One out of so many bytes of a blob have to be asked for, to be worth fetching all of it."""


class HotSetStore(CheckedStore):
    """See `blobstore.BlobStore` and the module docstring. Nothing to close; `hotset` and `intakes` are the caller's."""

    def __init__(
        self, origin: BlobStore, hotset: HotSet, intakes: Intakes, *, on_damage: DamageReport | None = None
    ) -> None:
        super().__init__(origin, intakes, on_damage=on_damage)
        self.hotset: Final = hotset
        self._cache = PageCache()

    @property
    def properties(self) -> Properties:
        """No promise of files: there is one when a blob is kept here."""
        properties = self.origin.properties
        return replace(properties, name=f"hot set, {properties.name}", has_files=False)

    # --- reading ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """See `blobstore.BlobStore.open`; ValueError for a span outside the blob."""
        check_span(span, size_bytes=stored.size_bytes)
        await trio.lowlevel.checkpoint()
        async with self._open(stored, span) as reader:
            yield reader

    def _open(self, stored: StoredObject, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        entry = Entry(stored.key, stored.digest, stored.size_bytes)
        if stored.encoding != IDENTITY or not span.size_bytes or not self.hotset.admits(entry):
            return self._open_origin(stored, span)
        return self._open_admitted(stored, span, entry)

    @asynccontextmanager
    async def _open_admitted(self, stored: StoredObject, span: Span, entry: Entry) -> AsyncIterator[BlobReader]:
        running = self._intakes.find(self.hotset, stored.key)
        descriptor = await self.hotset.open(entry) if running is None else None
        if descriptor is not None:
            async with self._open_kept(descriptor, stored, span) as reader:
                yield reader
            return
        has_come = running is not None and running.released_bytes >= span.stop
        if has_come or span.size_bytes * _GATHERED_SHARE >= stored.size_bytes:
            source = _Object(self.origin, stored)
            found_damaged = partial(self._report, stored)
            async with self._intakes.join(self.hotset, entry, source, on_damage=found_damaged) as intake:
                await intake.begun()
                if not intake.is_homeless:
                    with closing(self._follow(intake, span, stored)) as reader:
                        yield reader
                    return
        async with self._open_origin(stored, span) as reader:
            yield reader

    def _follow(self, intake: Intake, span: Span, stored: StoredObject) -> FollowingReader:
        return FollowingReader(
            intake,
            span,
            intakes=self._intakes,
            pool=self.hotset.pool,
            cache=self._cache,
            report=partial(self._tell, stored),
        )

    @asynccontextmanager
    async def _open_kept(self, descriptor: int, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        try:
            what = f"object {stored.key}"
            source = PlainBytes(descriptor, what)
            chunks = Chunks(source, span, what=what, pool=self.hotset.pool, cache=self._cache)
            yield FileReader(chunks, OpenFile(descriptor, span.start, span.stop))
        finally:
            with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await close_descriptor(descriptor, self.hotset.pool)

    async def adopt(self, path: Path, digest: Digest, size_bytes: int, *, staging_id: str) -> StoredObject:
        """See `blobstore.BlobStore.adopt`; a link to the file stays here, so that the next pull is warm."""
        stored = await self.origin.adopt(path, digest, size_bytes, staging_id=staging_id)
        if stored.encoding == IDENTITY:
            await self.hotset.adopt(Entry(stored.key, digest, size_bytes), path)
        return stored

    # --- the origin's, with a look at what lies here ----------------------------------------------------------------

    async def remove(self, key: str) -> None:
        """See `blobstore.BlobStore.remove`."""
        await self.origin.remove(key)
        await self._forget(key)

    async def quarantine(self, key: str) -> None:
        """See `blobstore.BlobStore.quarantine`; the local copy is simply dropped."""
        await self.origin.quarantine(key)
        await self._forget(key)

    async def _forget(self, key: str) -> None:
        self._intakes.forget(self.hotset, key)
        await self.hotset.forget(key)


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of a store as the source of an intake."""

    origin: BlobStore
    stored: StoredObject

    @property
    def name(self) -> str:
        return f"object {self.stored.key}"

    @asynccontextmanager
    async def read(self, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.origin.open(self.stored, span) as reader:
            chunks = reader.chunks()
            if isinstance(chunks, AsyncGenerator):
                async with aclosing(chunks):
                    yield chunks
            else:
                yield chunks
