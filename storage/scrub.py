"""The scrub: re-hashes what was verified longest ago, so that rot is found before somebody needs the bytes.

Everything is verified once per cycle: a run does the share of its period that has not been done yet, by whomever, and
what is done is in the rows (`blobs.verified_at`). So it may be stopped at any time, by a lease that is lost too, and
the next run, here or elsewhere, goes on. Reads at a bounded rate. What is damaged is looked at twice, then marked and
put aside (`storage.damage`); what cannot be read now is left for later; what is missing is reported and left to
`sluice fsck`, which can tell a lost object from a lost volume.

Give it a `Content` whose stores are those that really hold the bytes: a hot set in front would verify its own copies.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from storage.content import Content
from storage.damage import FoundDamage, judge, set_aside
from storage.database import Database
from storage.errors import BlobUnknown, StorageError, Unavailable
from storage.metadata import blobs, garbage, verification
from storage.records import BlobRecord

_PAGE: Final = 100
_NOTED_BYTES: Final = 64 * 1024 * 1024
"""Verified before it is written down; what a stopped run may do again."""
_CATCH_UP_S: Final = 1.0
"""Of time in which it did not read, so much is made up for; or a long pause would be followed by a burst."""
_TROUBLES: Final = 10
"""Blobs that are missing or cannot be read, after which a run ends: then more likely the store is in trouble."""


@dataclass(frozen=True, slots=True)
class ScrubSettings:
    """`cycle_s`: in this time everything is verified once. `period_s`: over which its share is counted."""

    bytes_per_s: int = 16 * 1024 * 1024
    cycle_s: int = 30 * 86400
    period_s: int = 86400


@dataclass(slots=True)
class ScrubReport:
    """What one run did. `due_bytes`: its share. `troubles`: missing or unreadable, in words, and left as they are."""

    due_bytes: int = 0
    blobs: int = 0
    read_bytes: int = 0
    damaged: list[FoundDamage] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """False if too much trouble ended it."""
        return len(self.troubles) < _TROUBLES


class Scrub:
    """See the module docstring; run it under a lease, as often as you like."""

    def __init__(
        self,
        database: Database,
        content: Content,
        settings: ScrubSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives Unix seconds, for the rows."""
        self._database = database
        self._content = content
        self._settings = settings or ScrubSettings()
        self._clock = clock
        self._good: list[BlobRecord] = []
        self._free_at = 0.0  # when what was read is paid for
        self._share_bytes = 0
        self.report = ScrubReport()
        """Of the run that is on, or of the last one; grows while it runs."""

    async def run(self) -> ScrubReport:
        """Verify what is due. Raises `Unavailable` and `StorageFull` of the database; what was done stands.

        Cancelling it loses at most what was not written down yet, and nothing is left half done.
        """
        self.report = ScrubReport()
        self._free_at, self._share_bytes = trio.current_time(), 0
        since = self._now() - self._settings.period_s
        every, done = await self._database.survey(verification.totals, since=since)
        due = math.ceil(every * self._settings.period_s / self._settings.cycle_s) - done
        self.report.due_bytes = max(0, due)
        place = verification.FIRST
        while self._goes_on():
            page = await self._database.survey(verification.least_recent, before=since, after=place, limit=_PAGE)
            if not page:
                break
            for blob, place in page:  # noqa: B007 - the last one is where the next page begins
                if not self._goes_on():
                    break
                await self._look(blob)
            await self._note()
        return self.report

    def _now(self) -> int:
        return int(self._clock())

    def _goes_on(self) -> bool:
        return self._share_bytes < self.report.due_bytes and self.report.is_complete

    async def _look(self, blob: BlobRecord) -> None:
        self.report.blobs += 1
        try:
            detail = await self._judge(blob)
            if detail is not None:  # once more: what went wrong may have been the way here
                detail = await self._judge(blob)
        except BlobUnknown:
            if await self._is_current(blob):
                self.report.troubles.append(f"{blob.stored.key}: the store does not have it; run `sluice fsck`")
            return
        except Unavailable as error:
            self.report.troubles.append(f"{blob.stored.key}: {error}")
            return
        self._share_bytes += blob.stored.stored_bytes
        if detail is not None:
            await self._damaged(blob, detail)
            return
        self._good.append(blob)
        if sum(each.stored.size_bytes for each in self._good) >= _NOTED_BYTES:
            await self._note()

    async def _judge(self, blob: BlobRecord) -> str | None:
        return await judge(self._content.store(blob.storage_id), blob.stored, pace=self._pace)

    async def _pace(self, size_bytes: int) -> None:
        self.report.read_bytes += size_bytes
        now = trio.current_time()
        self._free_at = max(self._free_at, now - _CATCH_UP_S) + size_bytes / self._settings.bytes_per_s
        await trio.sleep_until(self._free_at)

    async def _is_current(self, blob: BlobRecord) -> bool:
        """Whether the row still is as it was: else the object was rightly removed meanwhile."""
        current = await self._database.read(blobs.get, blob.id)
        return current is not None and current.stored.key == blob.stored.key and current.damaged_at is None

    async def _damaged(self, blob: BlobRecord, detail: str) -> None:
        images = await self._database.survey(garbage.images_of, blob.id)
        try:
            if not await set_aside(self._database, self._content, blob, now=self._now()):
                return
        except StorageError as error:
            self.report.troubles.append(f"{blob.stored.key}: {detail}, but it could not be put aside: {error}")
            return
        name = self._content.storage_names().get(blob.storage_id, "")
        self.report.damaged.append(FoundDamage(name, blob.stored, detail, tuple(images)))

    async def _note(self) -> None:
        good, self._good = self._good, []
        if good:
            await self._database.transaction(garbage.mark_verified, good, now=self._now())
