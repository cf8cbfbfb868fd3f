"""Checking what is stored against what is on record: every blob re-hashed, every stored object accounted for.

Runs beside a serving gateway. It reports; only with `repair` it changes anything, and then it never destroys bytes
that could still be wanted: damaged objects and objects without a row are put aside in quarantine, where readers do not
find them, and the next push of the same digest heals the row. When most of a storage is wrong at once, then more likely
the volume or the database is: that is reported and nothing is touched.
"""

import errno
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from storage.blobstore import StoredObject
from storage.content import Content
from storage.damage import judge
from storage.database import Database
from storage.digest import Digest
from storage.errors import BlobUnknown, Unavailable
from storage.metadata import blobs, garbage
from storage.records import BlobRecord

_ROWS: Final = 200
# More findings than this, and more than half of all: no repair. A guess; below it a small test registry may be a ruin.
_FEW: Final = 10
_UNMOUNTED: Final = "most blobs of this storage are: it looks unmounted, so none was marked"
_FOREIGN: Final = (
    "no row has it, as most objects of this storage; none was touched: the database may be new, or an older backup"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `images` name some that suffer.

    `kind`: missing, damaged, unreadable, orphan; and healed, for what was marked as damaged and is whole.

    `repaired`: nothing is left to do here; a missing or damaged blob is whole again after the next push of it.
    """

    kind: str
    storage: str
    key: str
    digest: Digest
    stored_bytes: int
    detail: str
    images: tuple[str, ...]
    repaired: bool


@dataclass(slots=True)
class FsckTotals:
    """What was looked at."""

    blobs: int = 0
    read_bytes: int = 0
    orphans: int = 0
    findings: int = 0


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is wrong with one blob; `is_withheld`: reported only, whatever the operator asked for."""

    kind: str
    detail: str
    is_withheld: bool = False


@dataclass(slots=True)
class _Census:
    """Per storage: how many rows there are, and the ids of those whose bytes could not be had."""

    rows: Counter[int] = field(default_factory=Counter)
    doubtful: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))


class Fsck:
    """One check of everything; see the module docstring."""

    def __init__(
        self,
        database: Database,
        content: Content,
        *,
        repair: bool = False,
        grace_s: int = 86400,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._content = content
        self._repair = repair
        self._grace_s = grace_s
        self._clock = clock
        self.totals = FsckTotals()

    @asynccontextmanager
    async def findings(self) -> AsyncIterator[AsyncIterator[Finding]]:
        """Everything found wrong, as it is found; `totals` grows meanwhile.

        `Unavailable` and `StorageFull` end it: what was found and repaired until then stands.
        """
        async with AsyncExitStack() as stack:
            found = await stack.enter_async_context(aclosing(self._look(stack)))
            yield found

    async def _look(self, stack: AsyncExitStack) -> AsyncGenerator[Finding, None]:
        """`stack` closes what is opened here, because a generator may be left at any `yield`."""
        census = _Census()
        for step in (self._rows(census), self._doubtful(census)):
            found = await stack.enter_async_context(aclosing(step))
            async for finding in found:
                self.totals.findings += 1
                yield finding
        for storage_id in list(self._content.storage_names()):
            foreign = await self._is_foreign(storage_id, rows=census.rows[storage_id])
            objects = await stack.enter_async_context(self._content.store(storage_id).scan())
            async for stored in objects:
                finding_or_none = await self._look_for_row(storage_id, stored, foreign=foreign)
                if finding_or_none is not None:
                    self.totals.orphans += 1
                    self.totals.findings += 1
                    yield finding_or_none

    def _now(self) -> int:
        return int(self._clock())

    # --- rows -------------------------------------------------------------------------------------------------------

    async def _rows(self, census: _Census) -> AsyncGenerator[Finding, None]:
        """What can be told at once; blobs that a lost disk would take too are left for `_doubtful`."""
        after = 0
        while batch := await self._database.survey(garbage.every_blob, after=after, limit=_ROWS):
            after = batch[-1].id
            good = []
            for blob in batch:
                self.totals.blobs += 1
                census.rows[blob.storage_id] += 1
                verdict = await self._judge(blob)
                finding: Finding | None = None
                if blob.damaged_at is not None:
                    finding = await self._judged_before(blob, verdict)
                elif verdict is None:
                    good.append(blob)
                elif verdict.kind == "damaged":
                    finding = await self._bad(blob, verdict)
                else:
                    census.doubtful[blob.storage_id].append(blob.id)
                if finding is not None:
                    yield finding
            if good:
                await self._database.transaction(garbage.mark_verified, good, now=self._now())

    async def _doubtful(self, census: _Census) -> AsyncGenerator[Finding, None]:
        """Blobs that could not be read, looked at again now that it is known how many they are."""
        for storage_id, blob_ids in census.doubtful.items():
            unmounted = _is_most(len(blob_ids), census.rows[storage_id])
            for blob_id in blob_ids:
                blob = await self._database.read(blobs.get, blob_id)
                if blob is None or blob.damaged_at is not None:
                    continue  # removed meanwhile, or judged by another
                verdict = await self._judge(blob)
                if verdict is None:
                    continue
                if unmounted:
                    verdict = _Verdict(verdict.kind, f"{verdict.detail}; {_UNMOUNTED}", is_withheld=True)
                finding = await self._bad(blob, verdict)
                if finding is not None:
                    yield finding

    async def _judge(self, blob: BlobRecord) -> _Verdict | None:
        """What is wrong with the blob's bytes; None if nothing is."""
        try:
            detail = await judge(self._content.store(blob.storage_id), blob.stored, pace=self._count)
        except BlobUnknown:
            return _Verdict("missing", "the store does not have it")
        except Unavailable as error:
            if not _is_bad_medium(error):
                raise
            return _Verdict("unreadable", str(error))
        return None if detail is None else _Verdict("damaged", detail)

    async def _count(self, size_bytes: int) -> None:
        self.totals.read_bytes += size_bytes

    async def _judged_before(self, blob: BlobRecord, verdict: _Verdict | None) -> Finding | None:
        """A blob that was marked as damaged: heal it if it is whole; put it aside only if it has just failed again."""
        if verdict is None and not self._repair:
            detail = "marked as damaged, but its bytes are right: repair clears the mark"
            return await self._bad(blob, _Verdict("damaged", detail))
        if verdict is None:
            if not await self._database.transaction(garbage.mark_sound, blob, now=self._now()):
                return None
            return await self._finding(blob, "healed", "was marked as damaged, but its bytes are right", repaired=True)
        if verdict.kind == "missing":
            return await self._bad(blob, _Verdict("damaged", "found damaged before; the next push of it heals it"))
        return await self._bad(blob, verdict)

    async def _bad(self, blob: BlobRecord, verdict: _Verdict) -> Finding | None:
        current = await self._database.read(blobs.get, blob.id)
        if current is None or current.stored.key != blob.stored.key or current.damaged_at != blob.damaged_at:
            return None  # removed or healed while we read it
        repair = self._repair and not verdict.is_withheld
        finding = await self._finding(blob, verdict.kind, verdict.detail, repaired=repair)
        if repair and not await self._put_aside(blob, verdict):
            return None
        return finding

    async def _finding(self, blob: BlobRecord, kind: str, detail: str, *, repaired: bool) -> Finding:
        images = await self._database.survey(garbage.images_of, blob.id)
        name = self._content.storage_names().get(blob.storage_id, "")
        stored = blob.stored
        return Finding(kind, name, stored.key, stored.digest, stored.stored_bytes, detail, tuple(images), repaired)

    async def _put_aside(self, blob: BlobRecord, verdict: _Verdict) -> bool:
        """Keep readers away from the row, then from the bytes; False if the row was healed meanwhile.

        Done again for what was found before and fails again, as a crash may have come between the two. What cannot be
        read stays where it is: if the disk gives it back one day, the next check clears the mark.
        """
        if blob.damaged_at is None and not await self._database.transaction(
            garbage.mark_damaged, blob, now=self._now()
        ):
            return False
        if verdict.kind == "damaged":
            with suppress(BlobUnknown):
                await self._content.store(blob.storage_id).quarantine(blob.stored.key)
        return True

    # --- objects ----------------------------------------------------------------------------------------------------

    async def _is_foreign(self, storage_id: int, *, rows: int) -> bool:
        """Whether so many objects have no row that not they are wrong, but the database is; asked before a repair."""
        if not self._repair:
            return False
        looked_at = orphans = 0
        async with self._content.store(storage_id).scan() as objects:
            async for stored in objects:
                if self._is_old(stored):
                    looked_at += 1
                    orphans += await self._is_orphan(storage_id, stored)
        return _is_most(orphans, looked_at) or (rows == 0 and orphans > _FEW)

    def _is_old(self, stored: StoredObject) -> bool:
        """Older than the grace period: younger objects without a row may be commits in flight."""
        return stored.created_at <= self._now() - self._grace_s

    async def _is_orphan(self, storage_id: int, stored: StoredObject) -> bool:
        return not await self._database.survey(garbage.is_key_used, storage_id, stored)

    async def _look_for_row(self, storage_id: int, stored: StoredObject, *, foreign: bool) -> Finding | None:
        if not self._is_old(stored) or not await self._is_orphan(storage_id, stored):
            return None
        repair = self._repair and not foreign
        if repair and not await self._put_orphan_aside(storage_id, stored):
            return None  # a commit that waited for long has come to its row after all
        name = self._content.storage_names()[storage_id]
        detail = _FOREIGN if foreign else "no row has it"
        return Finding("orphan", name, stored.key, stored.digest, stored.stored_bytes, detail, (), repair)

    async def _put_orphan_aside(self, storage_id: int, stored: StoredObject) -> bool:
        """First the key is given up, so that no commit can come to rely on it; the sweep then finds nothing there."""
        if not await self._database.transaction(garbage.remove_orphan, storage_id, stored, now=self._now()):
            return False
        with suppress(BlobUnknown):
            await self._content.store(storage_id).quarantine(stored.key)
        return True


def _is_most(bad: int, total: int) -> bool:
    return bad > _FEW and bad * 2 > total


def _is_bad_medium(error: Unavailable) -> bool:
    """Whether only these bytes cannot be had (a bad sector), and not the store as a whole."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO
