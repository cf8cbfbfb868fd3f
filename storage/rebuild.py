"""Rows from bytes: puts on record what the stores hold and the database does not know.

For a database that was lost, or restored from a backup that is older than the bytes. Only lists the stores, unless it
is told to verify; so a bucket costs one request for a thousand blobs. Who may read what stands in no store: links,
manifests and tags come from a backup or with the next push, and what no image needs goes with the garbage collection
after its grace period. Changes no row that has its bytes, and removes nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from storage.blobstore import StoredObject
from storage.content import Content
from storage.damage import judge
from storage.database import Database, Transaction
from storage.digest import Digest
from storage.errors import BlobUnknown, Damaged
from storage.metadata import blobs, moving
from storage.records import BlobRecord

_BATCH: Final = 200
_SHOWN: Final = 1000
_EMPTY: Final = Digest.of(b"")


@dataclass(frozen=True, slots=True)
class Unusable:
    """An object that no row can stand for, and why."""

    storage: str
    key: str
    detail: str


@dataclass(slots=True)
class RebuildTotals:
    """What was found. `kept`: objects with a row, or with a digest that another sound object has.

    `unusable` names the first thousand of `unusable_objects`.
    """

    objects: int = 0
    added: int = 0
    healed: int = 0
    kept: int = 0
    read_bytes: int = 0
    unusable_objects: int = 0
    unusable: list[Unusable] = field(default_factory=list)


class Rebuild:
    """One run over all configured storages; may run beside a serving gateway, and again after it was interrupted.

    `verify`: hash every object before it gets a row.
    """

    def __init__(
        self, database: Database, content: Content, *, verify: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._content = content
        self._verify = verify
        self._clock = clock
        self.totals = RebuildTotals()

    async def run(self) -> RebuildTotals:
        """Look through every store. `Unavailable` and `StorageFull` end it: what was put on record until then stays."""
        for storage_id in list(self._content.storage_names()):
            batch: list[StoredObject] = []
            async with self._content.store(storage_id).scan() as objects:
                async for stored in objects:
                    self.totals.objects += 1
                    batch.append(stored)
                    if len(batch) == _BATCH:
                        await self._look_at(storage_id, batch)
                        batch = []
            await self._look_at(storage_id, batch)
        return self.totals

    async def _look_at(self, storage_id: int, batch: Sequence[StoredObject]) -> None:
        digests = [str(stored.digest) for stored in batch]
        rows = await self._database.survey(moving.copies, storage_id, digests)
        wanted: dict[Digest, tuple[StoredObject, str | None]] = {}
        for stored in batch:
            row = rows.get(str(stored.digest))
            if not await self._is_wanted(storage_id, stored, row) or await self._is_settled(storage_id, stored, wanted):
                self.totals.kept += 1
            elif (detail := await self._fault(storage_id, stored)) is not None:
                self._tell(storage_id, stored, detail)
            else:
                wanted[stored.digest] = (stored, row.stored.key if row else None)
        if wanted:
            added, healed = await self._database.transaction(
                _put_on_record, storage_id, list(wanted.values()), now=int(self._clock())
            )
            self.totals.added += added
            self.totals.healed += healed
            self.totals.kept += len(wanted) - added - healed

    async def _is_wanted(self, storage_id: int, stored: StoredObject, row: BlobRecord | None) -> bool:
        """Whether the object would serve better than what is on record; it may have been given up."""
        if row is None:
            return True
        if row.stored.key == stored.key:
            return False
        return row.damaged_at is not None or not await self._is_there(storage_id, row.stored)

    async def _is_settled(
        self, storage_id: int, stored: StoredObject, wanted: dict[Digest, tuple[StoredObject, str | None]]
    ) -> bool:
        """Whether an object of the same digest is about to be put on record, and is there: a bucket lists markers."""
        first, _ = wanted.get(stored.digest, (None, None))
        if first is None:
            return False
        if await self._is_there(storage_id, first):
            return True
        self._tell(storage_id, first, "the store does not have it, or not whole")
        return False

    async def _is_there(self, storage_id: int, stored: StoredObject) -> bool:
        try:
            return (await self._content.store(storage_id).stat(stored.key)).size_bytes == stored.size_bytes
        except (BlobUnknown, Damaged):
            return False

    async def _fault(self, storage_id: int, stored: StoredObject) -> str | None:
        """Why no row can stand for the object; None if one can."""
        if stored.size_bytes == 0 and stored.digest != _EMPTY:
            return "its size cannot be told"
        if not self._verify:
            return None
        try:
            return await judge(self._content.store(storage_id), stored, pace=self._count)
        except BlobUnknown as error:
            return str(error)

    async def _count(self, size_bytes: int) -> None:
        self.totals.read_bytes += size_bytes

    def _tell(self, storage_id: int, stored: StoredObject, detail: str) -> None:
        self.totals.unusable_objects += 1
        if len(self.totals.unusable) < _SHOWN:
            name = self._content.storage_names()[storage_id]
            self.totals.unusable.append(Unusable(name, stored.key, detail))


def _put_on_record(
    tx: Transaction, storage_id: int, wanted: Sequence[tuple[StoredObject, str | None]], *, now: int
) -> tuple[int, int]:
    """How many rows were made, and how many were healed; what others did meanwhile stands."""
    added = healed = 0
    for stored, broken in wanted:
        before = blobs.find(tx, storage_id, stored.digest)
        if blobs.is_given_up(tx, storage_id, stored.key):
            continue  # the sweep has taken it for garbage since it was listed
        if before is not None and before.damaged_at is None and before.stored.key != broken:
            continue  # a push has brought another copy: settling would give this one up
        blobs.settle(tx, storage_id, stored.digest, stored, broken=broken, now=now)
        added += before is None
        healed += before is not None
    return added, healed
