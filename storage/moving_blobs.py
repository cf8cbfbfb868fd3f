"""Bytes of one installation for another: each blob read from the old store, hashed, and published in the new one.

What the new installation has on record is looked at and kept, so an interrupted move goes on where it was. A blob whose
bytes the old store cannot give as its row says is lost: told, and left out. Any other trouble ends the move.
"""

import errno
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from storage.blobstore import BlobStore, Span, Staging, StoredObject
from storage.damage import judge
from storage.database import Database, Transaction
from storage.digest import Digest, Hasher
from storage.errors import BlobUnknown, Busy, Damaged, StorageError, Unavailable, UploadUnknown
from storage.metadata import blobs, garbage, moving
from storage.records import BlobRecord

_ROWS: Final = 200
_TIDY_DEADLINE_S: Final = 5.0
# A blob that is stored anew each time we look is being healed and lost over and over.
_ATTEMPTS: Final = 3
# As fsck has it: more than this, and more than half of all, and it is the volume that is missing.
_FEW: Final = 10
_SHOWN: Final = 1000


@dataclass(frozen=True, slots=True)
class Installation:
    """An open database and its stores by name; the names are rows of both databases."""

    database: Database
    stores: Mapping[str, BlobStore]


@dataclass(frozen=True, slots=True)
class LostBlob:
    """A blob that the old store cannot give, why, and some images that need it."""

    storage: str
    digest: Digest
    size_bytes: int
    detail: str
    images: tuple[str, ...]


@dataclass(slots=True)
class MoveTotals:
    """What a move did. `lost` names the first thousand of `lost_blobs`."""

    copied_blobs: int = 0
    copied_bytes: int = 0
    kept_blobs: int = 0
    lost_blobs: int = 0
    rows: int = 0
    lost: list[LostBlob] = field(default_factory=list)


class _Lost(Exception):
    """The old store cannot give these bytes."""


class BlobMover:
    """Brings every blob of `source` to `target`; `storage_ids` gives the new id of each old storage.

    Of storages in `shared` both installations have the same place: their bytes stay, and only rows are made.
    `progress` is called with numbers of bytes that are dealt with. With `reread` every blob of the new installation is
    read back and hashed, else its size is looked up.
    """

    def __init__(
        self,
        source: Installation,
        target: Installation,
        *,
        storage_ids: Mapping[int, int],
        names: Mapping[int, str],
        shared: Collection[str],
        totals: MoveTotals,
        reread: bool,
        workers: int,
        progress: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._target = target
        self._storage_ids = storage_ids
        self._names = names
        self._shared = shared
        self._totals = totals
        self._reread = reread
        self._workers = workers
        self._progress = progress
        self._clock = clock
        self._passes = 0
        self._looked_at = self._unreadable = 0
        self.lost: set[int] = set()
        """Ids of rows whose bytes are not in the new installation."""

    async def run(self) -> None:
        """One pass over all blobs. Raises `Unavailable` and `StorageFull`; what was copied until then stays."""
        self._passes += 1
        failures: list[StorageError] = []
        send, receive = trio.open_memory_channel[tuple[BlobRecord, BlobRecord | None]](0)
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                async for blob, copy in receive.clone():
                    try:
                        await self._bring(blob, copy)
                    except StorageError as error:
                        failures.append(error)
                        nursery.cancel_scope.cancel()

            for _ in range(self._workers):
                nursery.start_soon(work)
            async with send:
                try:
                    await self._feed(send)
                except StorageError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def _feed(self, send: "trio.MemorySendChannel[tuple[BlobRecord, BlobRecord | None]]") -> None:
        after = 0
        while batch := await self._source.database.survey(garbage.every_blob, after=after, limit=_ROWS):
            after = batch[-1].id
            for storage_id in {blob.storage_id for blob in batch}:
                here = [blob for blob in batch if blob.storage_id == storage_id]
                digests = [str(blob.stored.digest) for blob in here]
                known = await self._target.database.survey(moving.copies, self._storage_ids[storage_id], digests)
                for blob in here:
                    await send.send((blob, known.get(str(blob.stored.digest))))

    # --- one blob ---------------------------------------------------------------------------------------------------

    async def _bring(self, blob: BlobRecord, copy: BlobRecord | None) -> None:
        """Have the blob in the new installation, or count it among the lost."""
        self._looked_at += 1
        store = self._new_store(blob.storage_id)
        broken: str | None = None
        if copy is not None and copy.damaged_at is None:
            if self._passes > 1:
                return  # the first pass of this run has seen to it
            if self._is_theirs(blob, copy) and await self._is_good(store, copy.stored):
                self._totals.kept_blobs += 1
                self._progress(blob.stored.size_bytes)
                return
            broken = copy.stored.key
        for _ in range(_ATTEMPTS):
            try:
                await self._fetch(blob, store, broken)
            except _Lost as error:
                current = await self._current(blob)
                if current is None:
                    return  # removed meanwhile: no image needs it
                if current.stored.key == blob.stored.key:
                    await self._lose(blob, str(error))
                    return
                blob = current
            else:
                self._found_again(blob)
                return
        raise Unavailable(f"blob {blob.stored.digest} is stored anew over and over in the old installation")

    def _is_theirs(self, blob: BlobRecord, copy: BlobRecord) -> bool:
        """Whether the copy may be relied on: in a shared place the old installation frees any key but its row's."""
        return self._names[blob.storage_id] not in self._shared or copy.stored.key == blob.stored.key

    async def _fetch(self, blob: BlobRecord, store: BlobStore, broken: str | None) -> None:
        """Bring the bytes, or only the row where they stay; raises `_Lost`."""
        if self._names[blob.storage_id] in self._shared:
            if not await self._is_good(store, blob.stored):
                raise _Lost("the store does not have it as its row says")
            await self._put_on_record(blob, blob.stored, broken)
            self._totals.kept_blobs += 1
            self._progress(blob.stored.size_bytes)
        else:
            await self._copy(blob, store, broken)
            self._totals.copied_blobs += 1
            self._totals.copied_bytes += blob.stored.size_bytes

    def _found_again(self, blob: BlobRecord) -> None:
        if blob.id in self.lost:  # pushed anew since an earlier pass of this run
            self.lost.remove(blob.id)
            self._totals.lost_blobs -= 1
            self._totals.lost[:] = [lost for lost in self._totals.lost if lost.digest != blob.stored.digest]

    async def _copy(self, blob: BlobRecord, store: BlobStore, broken: str | None) -> None:
        """Copy the bytes and put them on record. Raises `_Lost`."""
        storage_id, digest = self._storage_ids[blob.storage_id], blob.stored.digest
        is_on_record = False
        async with store.stage(str(uuid.uuid4()), create=True) as staging:
            try:
                await self._fill(staging, blob)
                stored = await staging.publish(digest)
                if not await self._is_good(store, stored):
                    raise Damaged(f"blob {digest} is not in the new installation as it was sent there")
                await self._put_on_record(blob, stored, broken)
                is_on_record = True
            finally:  # what fails here the next run makes up for
                with trio.move_on_after(_TIDY_DEADLINE_S, shield=True), suppress(StorageError):
                    if is_on_record:
                        await staging.discard()
                    else:
                        await _free(self._target.database, storage_id, store, staging, now=int(self._clock()))

    async def _put_on_record(self, blob: BlobRecord, stored: StoredObject, broken: str | None) -> None:
        await self._target.database.transaction(
            _put_on_record,
            self._storage_ids[blob.storage_id],
            stored,
            blob.id,
            broken=broken,
            now=int(self._clock()),
        )

    async def _fill(self, staging: Staging, blob: BlobRecord) -> None:
        stored = blob.stored
        hasher = Hasher()
        async with AsyncExitStack() as stack:
            with _told_as_lost():
                store = self._source.stores[self._names[blob.storage_id]]
                reader = await stack.enter_async_context(store.open(stored, Span(0, stored.size_bytes)))
            chunks = aiter(reader.chunks())
            while True:
                with _told_as_lost():
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                await staging.write(chunk, hasher)
                self._progress(len(chunk))
        if hasher.digest() != stored.digest:
            raise _Lost(f"its bytes have digest {hasher.digest()}")

    async def _is_good(self, store: BlobStore, stored: StoredObject) -> bool:
        """Whether the new store has the whole object; its bytes are hashed again if that was asked for."""
        try:
            if (await store.stat(stored.key)).size_bytes != stored.size_bytes:
                return False
            return not self._reread or await judge(store, stored) is None
        except (BlobUnknown, Damaged):
            return False

    async def _current(self, blob: BlobRecord) -> BlobRecord | None:
        return await self._source.database.read(blobs.get, blob.id)

    async def _lose(self, blob: BlobRecord, detail: str) -> None:
        if blob.id in self.lost:
            return
        self.lost.add(blob.id)
        self._totals.lost_blobs += 1
        self._progress(blob.stored.size_bytes)
        self._unreadable += blob.damaged_at is None
        if self._unreadable > _FEW and self._unreadable * 2 > self._looked_at:
            raise Unavailable(
                f"most blobs of the old installation cannot be read ({detail}): is the volume of the storage "
                f"{self._names[blob.storage_id]} mounted?"
            )
        if len(self._totals.lost) < _SHOWN:
            images = tuple(await self._source.database.survey(garbage.images_of, blob.id))
            name = self._names[blob.storage_id]
            self._totals.lost.append(LostBlob(name, blob.stored.digest, blob.stored.size_bytes, detail, images))

    def _new_store(self, storage_id: int) -> BlobStore:
        return self._target.stores[self._names[storage_id]]


async def drop_leftovers(installation: Installation, storage_ids: Mapping[str, int], *, now: int) -> None:
    """Free what an interrupted move left in staging; for an installation that nobody else writes to."""
    for name, store in installation.stores.items():
        async with store.scan_staging() as areas:
            async for staging_id, _ in areas:
                with suppress(Busy, UploadUnknown):
                    async with store.stage(staging_id, create=False) as staging:
                        await _free(installation.database, storage_ids[name], store, staging, now=now)


async def _free(database: Database, storage_id: int, store: BlobStore, staging: Staging, *, now: int) -> None:
    """Drop an area, and the object that was published from it unless a row has it.

    Should that be interrupted, the object is among the removals or its area is still there: it is not forgotten.
    """
    stored = await staging.published()
    if stored is not None and await database.transaction(garbage.remove_orphan, storage_id, stored, now=now):
        await store.remove(stored.key)
    await staging.discard()


def _put_on_record(
    tx: Transaction, storage_id: int, stored: StoredObject, old_id: int, *, broken: str | None, now: int
) -> None:
    is_new = blobs.find(tx, storage_id, stored.digest) is None
    blob_id = blobs.settle(tx, storage_id, stored.digest, stored, broken=broken, now=now)
    found = blobs.find(tx, storage_id, stored.digest)
    if blob_id is None or found is None:
        raise Unavailable(f"blob {stored.digest} was removed as soon as it was there")
    garbage.mark_verified(tx, [found], now=now)
    if is_new:
        moving.take_id(tx, blob_id, old_id)


@contextmanager
def _told_as_lost() -> Iterator[None]:
    """What the old store says of one object is no trouble with the store."""
    try:
        yield
    except (BlobUnknown, Damaged) as error:
        raise _Lost(str(error)) from error
    except Unavailable as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO:
            raise _Lost(str(error)) from error
        raise
