"""The sweep: gives back what nothing needs any more, online, without stopping a single write.

It reads reference rows only: it never parses a manifest and never lists a store. Each step works in small batches of
their own transactions, so a push waits a moment at most; each destructive statement checks again at the instant it
acts (`storage.metadata.garbage`). Keys are never reused, so removing one cannot hit what a push published meanwhile.
Killed at any point, the next run goes on: what was decided is in the rows. Trouble means keep.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from storage.content import Content
from storage.database import Database
from storage.errors import Busy, StorageError
from storage.metadata import garbage, uploads
from storage.metadata.garbage import Doomed
from storage.records import UploadRecord

# Rows per transaction: some milliseconds of the one write lock, which pushes wait for.
_BATCH: Final = 100
_LOOK_AHEAD: Final = 1000


@dataclass(slots=True)
class SweepReport:
    """What one run did. `trouble` names what could not be done and was therefore kept."""

    expired_uploads: int = 0
    purged_manifests: int = 0
    lapsed_links: int = 0
    condemned_blobs: int = 0
    removed_blobs: int = 0
    removed_bytes: int = 0
    trouble: list[str] = field(default_factory=list)


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
        """One whole run. Raises nothing of storage's: trouble ends up in the report, and what it concerns is kept."""
        report = SweepReport()
        steps = (
            self._expire_uploads,
            self._drop_lost_staging,
            self._purge_manifests,
            self._lapse_links,
            self._condemn,
            self._remove_rows,
            self._remove_bytes,
        )
        for step in steps:
            try:
                await step(report)
            except StorageError as error:
                report.trouble.append(f"{step.__name__.strip('_')}: {error}")
        return report

    @asynccontextmanager
    async def prospects(self) -> AsyncIterator[AsyncIterator[Doomed]]:
        """Every blob that no manifest needs, with the bytes, the reason, and when it will go; changes nothing."""

        async def look() -> AsyncIterator[Doomed]:
            after = 0
            while batch := await self._database.survey(
                garbage.prospects, grace_s=self._settings.grace_s, after=after, limit=_LOOK_AHEAD
            ):
                after = batch[-1].blob_id
                for doomed in batch:
                    yield doomed

        found = look()
        try:
            yield found
        finally:
            await found.aclose()  # type: ignore[attr-defined]  # look() is a generator

    # --- uploads ------------------------------------------------------------------------------------------------

    async def _expire_uploads(self, report: SweepReport) -> None:
        cutoff, after = self._now() - self._settings.upload_expiry_s, ""
        while batch := await self._database.survey(uploads.idle_since, cutoff=cutoff, after=after, limit=_BATCH):
            after = batch[-1].id
            for upload in batch:
                report.expired_uploads += await self._expire(upload, cutoff)

    async def _expire(self, upload: UploadRecord, cutoff: int) -> bool:
        """The row first: should we die here, `_drop_lost_staging` finds the bytes. A busy session is in use: kept."""
        if not await self._database.transaction(uploads.expire, upload.id, cutoff=cutoff):
            return False
        try:
            await self._drop(upload.storage_id, upload.id)
        except Busy:  # a request took hold of it a moment ago; it will find its session gone, and we the bytes later
            return True
        return True

    async def _drop(self, storage_id: int, staging_id: str) -> None:
        """Free a staging area, and the object that was published from it if its commit never came to a row."""
        key = await self._content.store(storage_id).drop_staging(staging_id)
        if key is not None:
            await self._database.transaction(garbage.remove_orphan, storage_id, key, now=self._now())

    async def _drop_lost_staging(self, report: SweepReport) -> None:  # noqa: ARG002  # one shape for all steps
        cutoff = self._now() - self._settings.upload_expiry_s
        for storage_id in list(self._content.storage_names()):
            async with self._content.store(storage_id).scan_staging() as areas:
                old = [staging_id async for staging_id, changed_at in areas if changed_at <= cutoff]
            for start in range(0, len(old), _BATCH):
                batch = old[start : start + _BATCH]
                known = await self._database.survey(uploads.known, batch)
                for staging_id in batch:
                    if staging_id not in known:
                        await self._drop_if_free(storage_id, staging_id)

    async def _drop_if_free(self, storage_id: int, staging_id: str) -> None:
        try:
            await self._drop(storage_id, staging_id)
        except Busy:
            await trio.lowlevel.checkpoint()

    # --- rows ---------------------------------------------------------------------------------------------------

    async def _purge_manifests(self, report: SweepReport) -> None:
        cutoff = self._now() - self._settings.undelete_s
        while purged := await self._database.transaction(
            garbage.purge_deleted, cutoff=cutoff, now=self._now(), limit=_BATCH
        ):
            report.purged_manifests += purged

    async def _lapse_links(self, report: SweepReport) -> None:
        cutoff = self._now() - self._settings.grace_s
        while found := await self._database.survey(garbage.lapsed_links, cutoff=cutoff, limit=_BATCH):
            lapsed = await self._database.transaction(garbage.lapse, found, cutoff=cutoff)
            report.lapsed_links += lapsed
            if not lapsed:  # all of them came back to life in between: they are no business of this run
                return

    async def _condemn(self, report: SweepReport) -> None:
        await self._database.transaction(garbage.pardon)
        cutoff = self._now() - self._settings.grace_s
        while found := await self._database.survey(garbage.loose_blobs, cutoff=cutoff, limit=_BATCH):
            condemned = await self._database.transaction(garbage.condemn, found, now=self._now())
            report.condemned_blobs += condemned
            if not condemned:
                return

    async def _remove_rows(self, report: SweepReport) -> None:
        cutoff = self._now() - self._settings.grace_s
        while batch := await self._database.survey(garbage.ripe_blobs, cutoff=cutoff, limit=_BATCH):
            sizes = await self._database.transaction(garbage.remove, batch, cutoff=cutoff, now=self._now())
            report.removed_blobs += len(sizes)
            report.removed_bytes += sum(sizes)
            if not sizes:
                return

    async def _remove_bytes(self, report: SweepReport) -> None:
        while batch := await self._database.survey(garbage.removals_due, limit=_BATCH):
            done = 0
            for removal in batch:
                try:
                    await self._content.store(removal.storage_id).remove(removal.key)
                except StorageError as error:
                    report.trouble.append(f"{removal.key}: {error}")
                    continue
                await self._database.transaction(garbage.removal_done, removal)
                done += 1
            if done < len(batch):  # the store is in trouble; the next run tries again
                return
