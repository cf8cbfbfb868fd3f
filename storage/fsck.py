"""Checking what is stored against what is on record: every blob re-hashed, every stored object accounted for.

Runs beside a serving gateway. It reports; only with `repair` it changes anything, and then it never destroys bytes
that could still be wanted: damaged objects are put aside in quarantine, where readers do not find them, and the next
push of the same digest heals the row. Objects without a row go through the removals like any other garbage.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from storage.blobstore import Span, StoredObject
from storage.content import Content
from storage.database import Database
from storage.digest import Digest, Hasher
from storage.errors import BlobUnknown, Damaged
from storage.metadata import garbage
from storage.records import BlobRecord

_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `kind`: missing, damaged, orphan. `images` name some that suffer.

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
        after = 0
        while batch := await self._database.survey(garbage.every_blob, after=after, limit=_ROWS):
            after = batch[-1].id
            good = []
            for blob in batch:
                finding = await self._check(blob)
                if finding is not None:
                    self.totals.findings += 1
                    yield finding
                elif blob.damaged_at is None:
                    good.append(blob)
            if good:
                await self._database.transaction(garbage.mark_verified, good, now=self._now())
        for storage_id in list(self._content.storage_names()):
            objects = await stack.enter_async_context(self._content.store(storage_id).scan())
            async for stored in objects:
                finding = await self._look_for_row(storage_id, stored)
                if finding is not None:
                    self.totals.orphans += 1
                    self.totals.findings += 1
                    yield finding

    def _now(self) -> int:
        return int(self._clock())

    # --- rows -------------------------------------------------------------------------------------------------------

    async def _check(self, blob: BlobRecord) -> Finding | None:
        self.totals.blobs += 1
        if blob.damaged_at is not None:
            return await self._bad(blob, "damaged", "found damaged before; the next push of it heals it")
        try:
            actual = await self._digest(blob)
        except BlobUnknown:
            return await self._bad(blob, "missing", "the store does not have it")
        except Damaged as error:
            return await self._bad(blob, "damaged", str(error))
        if actual != blob.stored.digest:
            return await self._bad(blob, "damaged", f"its bytes have digest {actual}")
        return None

    async def _digest(self, blob: BlobRecord) -> Digest:
        """What the stored bytes hash to; asks the store itself, whose `BlobUnknown` means no more than that."""
        hasher = Hasher()
        whole = Span(0, blob.stored.size_bytes)
        async with self._content.store(blob.storage_id).open(blob.stored, whole) as reader:
            async for chunk in reader.chunks():
                hasher.update(chunk)  # at most 256 KiB: 0.15 ms, less than a hop to a thread and back
                self.totals.read_bytes += len(chunk)
        return hasher.digest()

    async def _bad(self, blob: BlobRecord, kind: str, detail: str) -> Finding | None:
        current = await self._database.survey(garbage.every_blob, after=blob.id - 1, limit=1)
        if not current or current[0].stored.key != blob.stored.key or current[0].damaged_at != blob.damaged_at:
            return None  # removed or healed while we read it
        images = await self._database.survey(garbage.images_of, blob.id)
        if self._repair and not await self._put_aside(blob):
            return None
        name = self._content.storage_names().get(blob.storage_id, "")
        stored = blob.stored
        return Finding(kind, name, stored.key, stored.digest, stored.stored_bytes, detail, tuple(images), self._repair)

    async def _put_aside(self, blob: BlobRecord) -> bool:
        """Keep readers away from the row, then from the bytes; False if the row was healed meanwhile.

        Done again for what was found before, as a crash may have come between the two.
        """
        if blob.damaged_at is None and not await self._database.transaction(
            garbage.mark_damaged, blob, now=self._now()
        ):
            return False
        with suppress(BlobUnknown):
            await self._content.store(blob.storage_id).quarantine(blob.stored.key)
        return True

    # --- objects ----------------------------------------------------------------------------------------------------

    async def _look_for_row(self, storage_id: int, stored: StoredObject) -> Finding | None:
        """An orphan is older than the grace period: younger objects without a row may be commits in flight."""
        if stored.created_at > self._now() - self._grace_s:
            return None
        if await self._database.survey(garbage.is_key_used, storage_id, stored):
            return None
        if self._repair and not await self._database.transaction(
            garbage.remove_orphan, storage_id, stored, now=self._now()
        ):
            return None  # a commit that waited for long has come to its row after all
        name = self._content.storage_names()[storage_id]
        return Finding(
            "orphan", name, stored.key, stored.digest, stored.stored_bytes, "no row has it", (), self._repair
        )
