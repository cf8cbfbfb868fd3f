"""The sweep: gives back what nothing needs any more, online, without stopping a single write.

It reads reference rows only: it never parses a manifest and never lists a store. Each step works in small batches of
their own transactions, so a push waits a moment at most; each destructive statement checks again at the instant it
acts (`storage.metadata.garbage`). Keys are never reused, so removing one cannot hit what a push published meanwhile.
Killed at any point, the next run goes on: what was decided is in the rows. Trouble means keep.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from storage.content import Content
from storage.database import Database
from storage.errors import Busy, StorageError, UploadUnknown
from storage.metadata import garbage, uploads
from storage.metadata.garbage import Doomed, Removal
from storage.records import BlobRecord, UploadRecord

T = TypeVar("T")

# Rows per transaction: some milliseconds of the one write lock, which pushes wait for. Measured with 100,000 blobs
# in docs/decisions/0004; a purged manifest takes its reference rows along, which may be hundreds.
_BATCH: Final = 100
_MANIFESTS: Final = 10
# Rows looked at in one reading, without any lock: about 5 ms of a thread.
_LOOK: Final = 1000
# Troubles that are told one by one; a store that is gone would tell of every key.
_TOLD: Final = 20
# A store that failed so often in a row is left alone until the next run.
_FAILURES: Final = 10


@dataclass(slots=True)
class SweepReport:
    """What one run did. `trouble` names what could not be done and was therefore kept, the first few one by one."""

    expired_uploads: int = 0
    purged_manifests: int = 0
    lapsed_links: int = 0
    condemned_blobs: int = 0
    removed_blobs: int = 0
    removed_bytes: int = 0
    trouble: list[str] = field(default_factory=list)

    def tell(self, what: str, error: StorageError) -> None:
        """Add to `trouble`; from a certain number on only that there is more."""
        if len(self.trouble) < _TOLD:
            self.trouble.append(f"{what}: {error}")
        elif len(self.trouble) == _TOLD:
            self.trouble.append("and more of the kind")


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """Grace periods in seconds; see `docs/configuration.md`, section garbage."""

    grace_s: int = 86400
    undelete_s: int = 86400
    upload_expiry_s: int = 86400


class Sweep:
    """One run at a time over all processes: the caller holds the lease `garbage`."""

    def __init__(
        self,
        database: Database,
        content: Content,
        settings: SweepSettings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._content = content
        self._settings = settings
        self._clock = clock

    def _now(self) -> int:
        return int(self._clock())

    async def run(self) -> SweepReport:
        """One whole run. Raises nothing of storage's: trouble ends up in the report, and what it concerns is kept.

        May be cancelled at any time; the next run goes on.
        """
        report = SweepReport()
        for name, step in self.steps().items():
            try:
                await step(report)
            except StorageError as error:
                report.tell(name, error)
        return report

    def steps(self) -> Mapping[str, Callable[[SweepReport], Awaitable[None]]]:
        """The steps of a run by name, in their order. Each one is sound alone, and stops at the first trouble."""
        return {
            "expire_uploads": self._expire_uploads,
            "drop_lost_staging": self._drop_lost_staging,
            "purge_manifests": self._purge_manifests,
            "lapse_links": self._lapse_links,
            "condemn_blobs": self._condemn_blobs,
            "remove_rows": self._remove_rows,
            "remove_bytes": self._remove_bytes,
        }

    @asynccontextmanager
    async def prospects(self) -> AsyncIterator[AsyncIterator[Doomed]]:
        """Every blob that no manifest needs, or only deleted ones, with what awaits it; changes nothing."""
        async with aclosing(self._prospects()) as found:
            yield found

    async def _prospects(self) -> AsyncGenerator[Doomed, None]:
        after: int | None = 0
        while after is not None:
            page = await self._database.survey(
                garbage.prospects,
                grace_s=self._settings.grace_s,
                undelete_s=self._settings.undelete_s,
                now=self._now(),
                after=after,
                limit=_LOOK,
            )
            for doomed in page.found:
                yield doomed
            after = page.next_after

    # --- uploads ------------------------------------------------------------------------------------------------

    async def _expire_uploads(self, report: SweepReport) -> None:
        """Close sessions that nobody used for long, and free their bytes."""
        cutoff, after = self._now() - self._settings.upload_expiry_s, ""
        while batch := await self._database.survey(uploads.idle_since, cutoff=cutoff, after=after, limit=_BATCH):
            after = batch[-1].id
            for upload in batch:
                try:
                    report.expired_uploads += await self._expire(upload, cutoff)
                except StorageError as error:
                    report.tell(f"upload {upload.id}", error)

    async def _expire(self, upload: UploadRecord, cutoff: int) -> bool:
        """Under the hold: a request that is using the session right now keeps it, however slow its client is.

        The row goes first: should we die then, `_drop_lost_staging` finds the bytes.
        """
        try:
            async with self._content.store(upload.storage_id).stage(upload.id, create=False) as staging:
                if not await self._database.transaction(uploads.expire, upload.id, cutoff=cutoff):
                    return False
                await self._content.free(upload.storage_id, staging)
                return True
        except Busy:
            return False
        except UploadUnknown:  # its first byte never came
            return await self._database.transaction(uploads.expire, upload.id, cutoff=cutoff)

    async def _drop_lost_staging(self, report: SweepReport) -> None:
        """Free staging areas whose session has gone: a crash or a failing disk came between the two."""
        cutoff = self._now() - self._settings.upload_expiry_s
        for storage_id in list(self._content.storage_names()):
            old: list[str] = []
            async with self._content.store(storage_id).scan_staging() as areas:
                async for staging_id, changed_at in areas:
                    if changed_at <= cutoff:
                        old.append(staging_id)
                    if len(old) == _BATCH:
                        await self._drop_lost(storage_id, old, report)
                        old = []
            await self._drop_lost(storage_id, old, report)

    async def _drop_lost(self, storage_id: int, staging_ids: list[str], report: SweepReport) -> None:
        known = await self._database.survey(uploads.known, staging_ids)
        for staging_id in staging_ids:
            if staging_id in known:
                continue
            try:
                async with self._content.store(storage_id).stage(staging_id, create=False) as staging:
                    await self._content.free(storage_id, staging)
            except (Busy, UploadUnknown):  # somebody finishes it just now, or has
                continue
            except StorageError as error:
                report.tell(f"staging area {staging_id}", error)

    # --- rows ---------------------------------------------------------------------------------------------------

    async def _purge_manifests(self, report: SweepReport) -> None:
        """Drop manifests whose undelete window is over; what they needed gets a grace period of its own."""
        cutoff = self._now() - self._settings.undelete_s
        while purged := await self._database.transaction(
            garbage.purge_deleted, cutoff=cutoff, now=self._now(), limit=_MANIFESTS
        ):
            report.purged_manifests += purged

    async def _lapse_links(self, report: SweepReport) -> None:
        """Take away links that are older than the grace period and that no manifest of their image needs."""
        cutoff = self._now() - self._settings.grace_s
        after: garbage.LinkKey | None = garbage.FIRST_LINK
        while after is not None:
            page = await self._database.survey(garbage.lapsed_links, cutoff=cutoff, after=after, limit=_LOOK)
            for batch in _batches(page.found):
                report.lapsed_links += await self._database.transaction(garbage.lapse, batch, cutoff=cutoff)
            after = page.next_after

    async def _condemn_blobs(self, report: SweepReport) -> None:
        """Put the tombstone on blobs that nothing links."""
        await self._pardon()
        cutoff, after = self._now() - self._settings.grace_s, 0
        while True:
            page = await self._database.survey(garbage.loose_blobs, cutoff=cutoff, after=after, limit=_LOOK)
            for batch in _batches(page.found):
                report.condemned_blobs += await self._database.transaction(garbage.condemn, batch, now=self._now())
            if page.next_after is None:
                return
            after = page.next_after

    async def _pardon(self) -> None:
        after = 0
        while found := await self._database.survey(garbage.wrongly_condemned, after=after, limit=_BATCH):
            await self._database.transaction(garbage.pardon, found)
            after = found[-1]

    async def _remove_rows(self, report: SweepReport) -> None:
        """Remove blobs that were condemned a grace period ago; their keys are then among the removals."""
        cutoff = self._now() - self._settings.grace_s
        after: BlobRecord | None = None
        while batch := await self._database.survey(garbage.ripe_blobs, cutoff=cutoff, after=after, limit=_BATCH):
            after = batch[-1]
            sizes = await self._database.transaction(garbage.remove, batch, cutoff=cutoff, now=self._now())
            report.removed_blobs += len(sizes)
            report.removed_bytes += sum(sizes)

    async def _remove_bytes(self, report: SweepReport) -> None:
        """Free the bytes of all removals; where a store fails, the rest stays for the next run."""
        after = garbage.FIRST_REMOVAL
        failures: dict[int, int] = {}
        while batch := await self._database.survey(garbage.removals_due, after=after, limit=_BATCH):
            after = (batch[-1].storage_id, batch[-1].key)
            done = [removal for removal in batch if await self._remove_key(removal, failures, report)]
            if done:
                await self._database.transaction(garbage.removals_done, done)

    async def _remove_key(self, removal: Removal, failures: dict[int, int], report: SweepReport) -> bool:
        so_far = failures.get(removal.storage_id, 0)
        if so_far >= _FAILURES:
            return False
        try:
            await self._content.store(removal.storage_id).remove(removal.key)
        except StorageError as error:
            report.tell(removal.key, error)
            failures[removal.storage_id] = so_far + 1
            return False
        failures[removal.storage_id] = 0
        return True


def _batches(found: list[T]) -> list[list[T]]:
    return [found[start : start + _BATCH] for start in range(0, len(found), _BATCH)]
