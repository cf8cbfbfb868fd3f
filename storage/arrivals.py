"""Blobs on their way in from upstreams: fetched once, read by everybody who wants them as they come, then published.

What an arrival is and who fetches is said in `storage.arrival`, how it grows in `storage.intake`, where in
`storage.arrivals_files`. Knows repositories, images, digests; no upstreams, no HTTP, no rights: whoever comes here may
read the repository, and its own upstream (the `Source`) is asked.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import trio

from storage.arrival import Arrival, Counts
from storage.arrivals_files import ArrivalsDirectory, is_after_boot, machine_id, note_boot
from storage.blobstore import BlobReader, Span, check_span
from storage.blocking import Pool
from storage.content import Content
from storage.database import Database, Transaction
from storage.digest import Digest
from storage.errors import StorageError, StorageFull, Unavailable
from storage.filesystem_reading import PageCache
from storage.hotset_files import Entry
from storage.intake import Intake, Intakes
from storage.intake_reading import FollowingReader
from storage.intake_source import Source
from storage.leasing import LIFETIME_S, Lease
from storage.metadata import clock as clocks
from storage.metadata import leases
from storage.records import RepositoryRecord

MOST: Final = 128
"""Fetches for one repository at once; who wants more blobs waits. A fetch goes on when its reader leaves and holds a
file: without a bound, whoever may pull could have the process open files until it takes no connection any more."""
_LEASES: Final = "arrival/"


@dataclass(frozen=True, slots=True)
class Place:
    """Who wants a blob: an image of a repository. It gets the link once the blob is published."""

    repository: RepositoryRecord
    image: str


@dataclass(frozen=True, slots=True)
class ArrivalsStatistics:
    """Now: `arriving` in this process. Since the start, besides what `arrival.Counts` says: `refused` for want of room.

    `unpublished`: blobs that were right and could not be stored then.
    """

    arriving: int
    published: int
    published_bytes: int
    unpublished: int
    waited: int
    spared: int
    refused: int


class Arrivals:
    """All blobs that are on their way in to this process. `prepare` before anything else, `upkeep` every minute or so.

    `is_shared`: other machines use the same database; then a lease says which of them fetches. `intakes` hosts the
    fetches, which none of their readers can stop; when it ends they do, and other processes take over.
    `reserve_bytes` stay free on the disk: for who finds no room, its upstream is read through without being kept.
    """

    def __init__(
        self,
        directory: Path,
        *,
        content: Content,
        database: Database,
        intakes: Intakes,
        pool: Pool,
        is_shared: bool,
        reserve_bytes: int = 1 << 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = directory.absolute()
        self._content = content
        self._database = database
        self._intakes = intakes
        self._pool = pool
        self._is_shared = is_shared
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self._machine = ""
        self._directories: dict[int, ArrivalsDirectory] = {}
        self._flying: WeakValueDictionary[str, Arrival] = WeakValueDictionary()
        self._counts = Counts()
        self._cache = PageCache()

    async def prepare(self) -> None:
        """Make the directories, one for each storage that `content` knows, and remove what nobody comes back for.

        Raises `Unavailable` or `StorageFull`.
        """
        self._directories = {
            storage_id: ArrivalsDirectory(self._root / name, reserve_bytes=self._reserve_bytes, clock=self._clock)
            for storage_id, name in self._content.storage_names().items()
        }
        self._machine = await self._pool.run(self._prepare)

    def _prepare(self) -> str:
        for directory in self._directories.values():
            directory.create()
        is_new_boot = is_after_boot(self._root)
        for directory in self._directories.values():
            directory.tidy(is_after_boot=is_new_boot)
        note_boot(self._root)
        return machine_id(self._root)

    async def upkeep(self) -> int:
        """Remove what nobody came back for in ten minutes; how many files. For every process: they do not collide.

        Raises `Unavailable` or `StorageFull`.
        """
        removed = 0
        for directory in self._directories.values():
            removed += await self._pool.run(directory.tidy)
        if self._is_shared:
            await self._database.transaction(self._forget_leases)
        return removed

    def _forget_leases(self, tx: Transaction) -> int:
        return leases.drop_expired(tx, _LEASES, before=clocks.now(tx, self._clock) - 10 * LIFETIME_S)

    def statistics(self) -> ArrivalsStatistics:
        """A snapshot for metrics."""
        return ArrivalsStatistics(
            arriving=len(self._flying),
            published=self._counts.published,
            published_bytes=self._counts.published_bytes,
            unpublished=self._counts.unpublished,
            waited=self._counts.waited,
            spared=self._counts.spared,
            refused=sum(directory.refused for directory in self._directories.values()),
        )

    # --- reading ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open(
        self, place: Place, digest: Digest, size_bytes: int, source: Source, span: Span
    ) -> AsyncIterator[BlobReader]:
        """Read the blob as it comes, from wherever it is fetched already; the first one who wants it starts the fetch.

        For a blob that is not linked in the image. The reader has what `FollowingReader` has: `pieces` to send from the
        file while it grows; or it is a plain one of the store, if the blob was published meanwhile. The last byte of a
        span is given only once the digest of the blob was found right, else there is `Damaged`: upstreams are not
        believed. What nobody can read is raised here, before anything was given: what `source` raised, with its
        `__cause__`; or `Unavailable`. Leaving never stops the fetch. ValueError for a span outside of the blob.
        """
        check_span(span, size_bytes=size_bytes)
        arrival = await self._admitted(place, digest, size_bytes)
        async with self._join(arrival, place, source) as intake:
            await intake.begun()
            has_nothing = intake.is_homeless and not intake.released_bytes
            found = await arrival.find(place.image) if has_nothing else None
            if found is None:
                with closing(self._follow(arrival, place, intake, span)) as reader:
                    if has_nothing:
                        await reader.begin()
                    yield reader
                return
        async with self._content.open(found, span) as kept:
            yield kept

    async def fetch(self, place: Place, digest: Digest, size_bytes: int, source: Source) -> None:
        """Bring the blob in, to the end and linked in the image; together with everybody who reads it.

        Raises what `open` raises, and what kept it from being stored: `StorageFull` or `Unavailable`. Cancelling stops
        the waiting only.
        """
        arrival = await self._admitted(place, digest, size_bytes)
        async with self._join(arrival, place, source) as intake:
            await intake.wait_ended()
        if not await arrival.link_rest():
            raise _not_stored(arrival, source)

    async def _admitted(self, place: Place, digest: Digest, size_bytes: int) -> Arrival:
        """The arrival, as soon as it is one of those that may be fetched; no await between that and its use."""
        repository_id = place.repository.id
        await trio.lowlevel.checkpoint()
        while True:
            arrival = self._arrival(place, digest, size_bytes)
            if self._intakes.find(arrival, arrival.entry.key) is not None:
                return arrival
            if self._intakes.count(lambda area: isinstance(area, Arrival) and area.is_for(repository_id)) < MOST:
                return arrival
            await self._intakes.wait_for_an_end()

    def _arrival(self, place: Place, digest: Digest, size_bytes: int) -> Arrival:
        """The arrival of that blob in that repository. Sizes are claims too: another size is another arrival."""
        repository = place.repository
        self._content.store(repository.storage_id)  # `Unavailable` if it is configured no more
        key = f"{repository.id}/{digest}/{size_bytes}"
        found = self._flying.get(key)
        if found is None:
            lease = Lease(f"{_LEASES}{repository.id}/{digest}", self._machine, self._database, self._clock)
            found = self._flying[key] = Arrival(
                self._directories[repository.storage_id],
                Entry(key, digest, size_bytes),
                repository,
                content=self._content,
                database=self._database,
                intakes=self._intakes,
                pool=self._pool,
                lease=lease if self._is_shared else None,
                counts=self._counts,
            )
        return found

    @asynccontextmanager
    async def _join(self, arrival: Arrival, place: Place, source: Source) -> AsyncIterator[Intake]:
        arrival.image_names.add(place.image)
        async with self._intakes.join(arrival, arrival.entry, source) as intake:
            if arrival.is_settled:  # a moment ago, and not for us
                self._intakes.run_beside(arrival.link_rest)
            yield intake

    def _follow(self, arrival: Arrival, place: Place, intake: Intake, span: Span) -> FollowingReader:
        alone = _Alone(intake.source, arrival, place.image, self._content)
        return FollowingReader(
            intake,
            span,
            intakes=self._intakes,
            pool=self._pool,
            cache=self._cache,
            report=_nothing,
            alone=alone,
            is_trusted=False,
        )


@dataclass(frozen=True, slots=True)
class _Alone:
    """Where a reader goes on by itself: at the store if the blob was published meanwhile, else at the upstream."""

    source: Source
    arrival: Arrival
    image: str
    content: Content

    @property
    def name(self) -> str:
        return self.source.name

    def read(self, span: Span) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._read(span)

    @asynccontextmanager
    async def _read(self, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        found = await self.arrival.find(self.image)
        if found is None:
            async with self.source.read(span) as chunks:
                yield chunks
            return
        async with self.content.open(found, span) as reader:
            given = reader.chunks()
            if isinstance(given, AsyncGenerator):
                async with aclosing(given):
                    yield given
            else:
                yield given


def _not_stored(arrival: Arrival, source: Source) -> StorageError:
    """Why a blob that came is not stored; for one task alone, as a traceback is."""
    failure = arrival.failure
    if failure is None:
        return StorageFull(f"{source.name} found no room on the local disk")
    kind = StorageFull if isinstance(failure, StorageFull) else Unavailable
    error = kind(f"{source.name} could not be stored: {failure}")
    error.__cause__ = failure
    return error


def _nothing() -> None:
    """Wrong bytes of an upstream are its own business: they are not ours, so nothing of ours is damaged."""
