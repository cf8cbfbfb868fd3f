"""Images that are fetched ahead: a list of them, one after the other, with everything that a pull would fetch.

It goes the way of a pull, so what is here already costs nothing, and what others fetch at that moment is fetched once.
An image that cannot be had does not stop the others. How far it is stands in the database, as any worker may be asked.

Projects have turns, image by image: of one project one image is worked on at a time, and who waits is next after one
image of each of the others, however long their lists are.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Self

import trio

from gateway.logs import get_logger
from gateway.oci import manifest
from gateway.oci.errors import RegistryError
from gateway.oci.manifest import Descriptor, Manifest
from gateway.oci.names import Reference
from gateway.repositories.contract import ArrivingBlob, Repository
from gateway.repositories.rows import blobs_of
from gateway.upstream.errors import UpstreamError
from storage import Database, Pool, Span, StorageError, WarmUpRecord, open_background
from storage.metadata import warm_ups

MOST_IMAGES: Final = 1000
"""Of one list: with a hundred bytes each it still is a body of the management API."""
MOST_OF_PROJECT: Final = 8
"""Lists of one project that one worker takes."""
MOST_AT_ONCE: Final = 64
"""Lists that one worker takes: a list is 64 KiB of names at most, and writes how far it is now and then."""
_WORKING: Final = 4
"""Images, each of another project: each fills disk and spends an upstream's budget."""
_BLOBS_AT_ONCE: Final = 4
_DEEPEST: Final = 4  # an index in an index in an index: more is a mistake or an attack (row C4)
_MOST_CHILDREN: Final = 1000
_MOST_FAILURES: Final = 50
_MAX_REASON_CHARS: Final = 200
_TELL_EVERY_S: Final = 2.0
_SIGN_OF_LIFE_S: Final = 20.0
"""Written when nothing has changed: well within the minute after which a list counts as lost."""
_LAST_WORD_S: Final = 3.0
_log = get_logger(__name__)


class TooManyWarmUps(Exception):
    """A worker has enough lists to work on, of this project or at all. A retry helps when one of them is done."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that is to be here, by its name inside the repository."""

    image: str
    reference: Reference

    def __str__(self) -> str:
        return f"{self.image}{'@' if ':' in str(self.reference) else ':'}{self.reference}"


Heard = Callable[[int], None]
"""Told of each blob that is here now, with the bytes that came for it: 0 if it was here before."""


class Warming:
    """One image on its way here; `pool` is where manifests are parsed."""

    def __init__(
        self, repository: Repository, image: str, *, platforms: Sequence[str], pool: Pool, heard: Heard
    ) -> None:
        """`platforms`: of an index, only what is for these (`os/architecture`, with any variant or one); empty: all."""
        self._repository = repository
        self._image = image
        self._platforms = platforms
        self._pool = pool
        self._heard = heard
        self._seen: set[str] = set()
        self._limiter = trio.CapacityLimiter(_BLOBS_AT_ONCE)

    async def run(self, reference: Reference, *, depth: int = 0) -> None:
        """Until manifest, children and blobs are here. Raises `RegistryError`, `UpstreamError`, `StorageError`."""
        if depth > _DEEPEST or len(self._seen) > _MOST_CHILDREN or str(reference) in self._seen:
            return
        self._seen.add(str(reference))
        document = (await self._repository.manifest(self._image, reference)).document
        found = await self._pool.run(manifest.parse, document.content, document.media_type)
        await self._fetch_blobs(found)
        for child in found.children:
            if self._is_wanted(child):
                await self.run(child.digest, depth=depth + 1)

    def _is_wanted(self, child: Descriptor) -> bool:
        if not self._platforms or child.platform is None:
            return True
        return any(child.platform == each or child.platform.startswith(f"{each}/") for each in self._platforms)

    async def _fetch_blobs(self, found: Manifest) -> None:
        wanted = {each.digest: each for each in blobs_of(found) if not each.is_foreign}
        async with trio.open_nursery() as nursery:
            for each in wanted.values():
                nursery.start_soon(self._fetch, each)

    async def _fetch(self, descriptor: Descriptor) -> None:
        async with self._limiter:
            found = await self._repository.find_blob(self._image, descriptor.digest)
            if not isinstance(found, ArrivingBlob):
                self._heard(0)
                return
            # The last byte is given once all were verified; the others need not pass through here.
            last = Span(max(found.size_bytes - 1, 0), found.size_bytes)
            async with found.open(last) as reader:
                async for _ in reader.chunks():
                    pass
            self._heard(found.size_bytes)


class _Share:
    """What one project has of a worker. `count`: its lists that are not done."""

    def __init__(self, everybody: trio.CapacityLimiter) -> None:
        self.count = 0
        self._everybody = everybody
        self._own = trio.CapacityLimiter(1)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Work on one image within it. Both queues are first come, first served: no project stands in one twice."""
        async with self._own, self._everybody:
            yield


class WarmUps:
    """All lists that this worker works on. Made by `open`; its end stops them, and says so in their rows."""

    def __init__(self, nursery: trio.Nursery, database: Database, *, clock: Callable[[], float]) -> None:
        self._nursery = nursery
        self._database = database
        self._clock = clock
        self._pool = Pool("warm-parse", 1)
        self._everybody = trio.CapacityLimiter(_WORKING)
        self._projects: dict[int, _Share] = {}
        self._count = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database, *, clock: Callable[[], float] = time.time) -> AsyncIterator[Self]:
        """For as long as the context lasts. `clock`: Unix seconds. What is raised inside comes out as it is."""
        async with open_background() as nursery:
            yield cls(nursery, database, clock=clock)

    async def begin(
        self, repository: Repository, wanted: Sequence[Wanted], *, platforms: Sequence[str] = ()
    ) -> WarmUpRecord:
        """Begin to fetch these ahead, and give the row to look at; goes on when whoever asked has left.

        `repository` was opened for the caller whose rights count. Raises `TooManyWarmUps`, `StorageError`.
        """
        share = self._enter(repository.record.project_id)
        try:
            now = int(self._clock())
            row = await self._database.transaction(warm_ups.begin, repository.record.id, images=len(wanted), now=now)
        except BaseException:
            self._leave(repository.record.project_id)
            raise
        run = _Run(self._database, self._pool, self._clock, row)
        self._nursery.start_soon(self._work, run, share, repository, wanted, platforms)
        return row

    def _enter(self, project_id: int) -> _Share:
        share = self._projects.get(project_id) or _Share(self._everybody)
        if share.count >= MOST_OF_PROJECT:
            raise TooManyWarmUps(
                f"{MOST_OF_PROJECT} lists of this project are being fetched ahead already: try again when one is done"
            )
        if self._count >= MOST_AT_ONCE:
            raise TooManyWarmUps(f"{MOST_AT_ONCE} lists are being fetched ahead already: try again when one is done")
        self._projects[project_id] = share
        share.count += 1
        self._count += 1
        return share

    def _leave(self, project_id: int) -> None:
        share = self._projects[project_id]
        share.count -= 1
        self._count -= 1
        if not share.count:
            del self._projects[project_id]

    async def _work(
        self,
        run: "_Run",
        share: _Share,
        repository: Repository,
        wanted: Sequence[Wanted],
        platforms: Sequence[str],
    ) -> None:
        try:
            await run.work(share, repository, wanted, platforms)
        except Exception as error:  # noqa: BLE001  # a defect of ours; it ends this list and not the worker
            _log.error("warm_up_failed", exc_info=error)
        finally:
            self._leave(repository.record.project_id)


class _Run:
    """One list, and its row."""

    def __init__(self, database: Database, pool: Pool, clock: Callable[[], float], row: WarmUpRecord) -> None:
        self._database = database
        self._pool = pool
        self._clock = clock
        self._row = row
        self._written = row
        self._written_at = trio.current_time()

    async def work(
        self,
        share: _Share,
        repository: Repository,
        wanted: Sequence[Wanted],
        platforms: Sequence[str],
    ) -> None:
        """To the end of the list, or until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell)
                for each in wanted:
                    async with share.turn():
                        await self._warm(repository, each, platforms)
                self._row = replace(self._row, state=warm_ups.DONE)
                nursery.cancel_scope.cancel()
        finally:
            if self._row.state == warm_ups.RUNNING:
                self._row = replace(self._row, state=warm_ups.STOPPED)
            with trio.move_on_after(_LAST_WORD_S, shield=True):
                await self._write()

    async def _warm(self, repository: Repository, wanted: Wanted, platforms: Sequence[str]) -> None:
        warming = Warming(repository, wanted.image, platforms=platforms, pool=self._pool, heard=self._heard)
        try:
            await warming.run(wanted.reference)
        except* (RegistryError, UpstreamError, StorageError) as group:
            self._failed(wanted, _first(group))
        self._row = replace(self._row, images_done=self._row.images_done + 1)

    def _heard(self, fetched_bytes: int) -> None:
        self._row = replace(self._row, blobs=self._row.blobs + 1, fetched_bytes=self._row.fetched_bytes + fetched_bytes)

    def _failed(self, wanted: Wanted, error: BaseException) -> None:
        _log.warning("image_not_fetched_ahead", image=str(wanted), error=str(error))
        failure = (str(wanted), str(error)[:_MAX_REASON_CHARS])
        self._row = replace(self._row, failures=(*self._row.failures, failure)[:_MOST_FAILURES])

    async def _tell(self) -> None:
        """Now and then also when nothing changed: whoever reads the row sees that somebody is at it."""
        while True:
            await trio.sleep(_TELL_EVERY_S)
            if self._row != self._written or trio.current_time() >= self._written_at + _SIGN_OF_LIFE_S:
                await self._write()

    async def _write(self) -> None:
        """Trouble of the database stops no fetching; the next time it is written anew."""
        row = self._row
        try:
            await self._database.transaction(warm_ups.put, replace(row, updated_at=int(self._clock())))
        except StorageError as error:
            _log.warning("warm_up_not_written", error=str(error))
        else:
            self._written, self._written_at = row, trio.current_time()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
