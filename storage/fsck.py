"""Checking what is stored against what is on record: every blob re-hashed, every stored object accounted for.

Runs beside a serving gateway. It reports; only with `repair` it changes anything, and then it never destroys bytes
that could still be wanted: damaged objects are put aside in quarantine, where readers do not find them, and the next
push of the same digest heals the row. Objects without a row go through the removals like any other garbage.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from storage.blobstore import Span
from storage.content import Content, FoundBlob
from storage.database import Database
from storage.digest import Digest, Hasher
from storage.errors import BlobUnknown, Damaged
from storage.metadata import garbage
from storage.records import BlobRecord

_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `kind`: missing, damaged, orphan. `images` name some that suffer."""

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
        """Everything found wrong, as it is found; `totals` grows meanwhile. `Unavailable` ends it, nothing is lost."""
        found = self._look()
        try:
            yield found
        finally:
            await found.aclose()  # type: ignore[attr-defined]  # _look() is a generator

    async def _look(self) -> AsyncIterator[Finding]:
        after = 0
        while batch := await self._database.survey(garbage.every_blob, after=after, limit=_ROWS):
            after = batch[-1].id
            for blob in batch:
                if blob.damaged_at is None and (finding := await self._check(blob)) is not None:
                    self.totals.findings += 1
                    yield finding
        for storage_id in list(self._content.storage_names()):
            async for finding in self._orphans(storage_id):
                self.totals.findings += 1
                yield finding

    async def _check(self, blob: BlobRecord) -> Finding | None:
        self.totals.blobs += 1
        name = self._content.storage_names().get(blob.storage_id, "")
        hasher = Hasher()
        try:
            whole = Span(0, blob.stored.size_bytes)
            async with self._content.open(FoundBlob(blob, name), whole) as reader:
                async for chunk in reader.chunks():
                    hasher.update(chunk)  # at most 256 KiB: 0.15 ms, less than a hop to a thread and back
                    self.totals.read_bytes += len(chunk)
        except BlobUnknown:
            return await self._bad(blob, name, "missing", "the store does not have it")
        except Damaged as error:
            return await self._bad(blob, name, "damaged", str(error))
        if hasher.digest() != blob.stored.digest:
            return await self._bad(blob, name, "damaged", f"its bytes have digest {hasher.digest()}")
        await self._database.transaction(garbage.mark_verified, blob, now=int(self._clock()))
        return None

    async def _bad(self, blob: BlobRecord, name: str, kind: str, detail: str) -> Finding | None:
        current = await self._database.survey(garbage.every_blob, after=blob.id - 1, limit=1)
        if not current or current[0].stored.key != blob.stored.key:
            return None  # removed or healed while we read it
        images = await self._database.survey(garbage.images_of, blob.id)
        if self._repair:
            await self._database.transaction(garbage.mark_damaged, blob, now=int(self._clock()))
            if kind == "damaged":
                await self._content.store(blob.storage_id).quarantine(blob.stored.key)
        stored = blob.stored
        return Finding(kind, name, stored.key, stored.digest, stored.stored_bytes, detail, tuple(images), self._repair)

    async def _orphans(self, storage_id: int) -> AsyncIterator[Finding]:
        """Objects without a row that are older than the grace period: younger ones may be commits in flight."""
        name = self._content.storage_names()[storage_id]
        oldest = int(self._clock()) - self._grace_s
        async with self._content.store(storage_id).scan() as objects:
            async for stored in objects:
                if stored.created_at > oldest:
                    continue
                if await self._database.survey(garbage.is_key_used, storage_id, stored.key):
                    continue
                self.totals.orphans += 1
                repaired = False
                if self._repair:
                    now = int(self._clock())
                    repaired = await self._database.transaction(garbage.remove_orphan, storage_id, stored.key, now=now)
                yield Finding(
                    "orphan", name, stored.key, stored.digest, stored.stored_bytes, "no row has it", (), repaired
                )
