"""Caches stay within their bounds: what is old goes, and then what was not used for the longest time.

Works on rows alone, in small transactions that pushes and pulls wait for a moment at most; each looks again at what it
takes at that instant (`storage.metadata.pulls`). Bytes are freed by the next sweeps, when nothing links them any more.
Killed at any point, nothing is half gone; the next run goes on. Decides nothing about which repositories are caches.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from storage.database import Database, Transaction
from storage.metadata import pulls
from storage.metadata.pulls import EVER
from storage.records import ColdManifest

T = TypeVar("T")

# One reading looks at every manifest of a repository, whatever it gives back: so it gives many.
_LOOK: Final = 500
# Manifests per transaction, each with the children of an index and some hundred reference rows at worst.
_BATCH: Final = 5
REST_S: Final = 600
"""What was used so lately is being pulled perhaps: its layers are still to come."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a cache may hold; None: without end.

    `max_bytes`: as `pulls.stored_bytes` counts. What came `max_age_s` seconds ago or earlier goes, unless
    `pulled_within_s` is given and it was pulled less than so many seconds ago.
    """

    max_bytes: int | None = None
    max_age_s: int | None = None
    pulled_within_s: int | None = None


@dataclass(slots=True)
class EvictionReport:
    """What one run did. A manifest that went with its index is not counted by itself.

    `over_bytes`: by how much the cache is too large still, because what is left was used just now or needed by that.
    """

    old_manifests: int = 0
    cold_manifests: int = 0
    freed_bytes: int = 0
    over_bytes: int = 0


class Eviction:
    """One run at a time per repository, over all processes: the caller sees to that."""

    def __init__(self, database: Database, *, rest_s: int = REST_S, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._rest_s = rest_s
        self._clock = clock

    async def run(self, repository_id: int, bounds: Bounds) -> EvictionReport:
        """Bring the repository within its bounds. Raises `StorageError`: what was done until then stays done.

        May be cancelled at any time; the next run goes on.
        """
        report = EvictionReport()
        if bounds.max_age_s is not None:
            await self._drop_old(repository_id, bounds.max_age_s, bounds.pulled_within_s, report)
        if bounds.max_bytes is not None:
            await self._drop_cold(repository_id, bounds.max_bytes, report)
        return report

    async def _drop_old(
        self, repository_id: int, max_age_s: int, pulled_within_s: int | None, report: EvictionReport
    ) -> None:
        now = int(self._clock())
        came_by = now - max(max_age_s, self._rest_s)
        pulled_by = EVER if pulled_within_s is None else now - max(pulled_within_s, self._rest_s)
        after: tuple[int, int] | None = pulls.FIRST
        while after is not None:
            page = await self._database.survey(
                pulls.old, repository_id, came_by=came_by, pulled_by=pulled_by, after=after, limit=_LOOK
            )
            for batch in _batches([_Going(cold, came_by, pulled_by) for cold in page]):
                gone = await self._database.transaction(_evict, batch, enough_bytes=EVER)
                report.old_manifests += gone.manifests
                report.freed_bytes += gone.freed_bytes
            after = _next(page)

    async def _drop_cold(self, repository_id: int, max_bytes: int, report: EvictionReport) -> None:
        """Least recently used first, until it fits. Several times over: what an index leaves behind may be next.

        What no manifest needs goes before: blobs that were asked for by themselves.
        """
        latest = int(self._clock()) - self._rest_s
        report.over_bytes = await self._database.survey(pulls.stored_bytes, repository_id) - max_bytes
        before = None
        if report.over_bytes > 0:
            await self._drop_loose(repository_id, latest, report)
        while report.over_bytes > 0 and report.cold_manifests != before:
            before = report.cold_manifests
            await self._drop_coldest(repository_id, latest, report)
        report.over_bytes = max(report.over_bytes, 0)

    async def _drop_loose(self, repository_id: int, latest: int, report: EvictionReport) -> None:
        while found := await self._database.survey(pulls.loose, repository_id, linked_by=latest, limit=_LOOK):
            for batch in _batches(found):
                freed_bytes = await self._database.transaction(pulls.unlink, batch, linked_by=latest)
                report.freed_bytes += freed_bytes
                report.over_bytes -= freed_bytes

    async def _drop_coldest(self, repository_id: int, latest: int, report: EvictionReport) -> None:
        after: tuple[int, int] | None = pulls.FIRST
        while after is not None:
            page = await self._database.survey(pulls.coldest, repository_id, after=after, limit=_LOOK)
            going = [_Going(cold, cold.used_at, cold.used_at) for cold in page if cold.used_at <= latest]
            for batch in _batches(going):
                gone = await self._database.transaction(_evict, batch, enough_bytes=report.over_bytes)
                report.cold_manifests += gone.manifests
                report.freed_bytes += gone.freed_bytes
                report.over_bytes -= gone.freed_bytes
                if report.over_bytes <= 0:
                    return
            after = _next(page) if len(going) == len(page) else None


@dataclass(frozen=True, slots=True)
class _Going:
    """A manifest that goes unless it came or was pulled after these times."""

    cold: ColdManifest
    came_by: int
    pulled_by: int


@dataclass(frozen=True, slots=True)
class _Gone:
    manifests: int
    freed_bytes: int


def _evict(tx: Transaction, batch: Sequence[_Going], *, enough_bytes: int) -> _Gone:
    manifests = freed_bytes = 0
    for each in batch:
        if freed_bytes >= enough_bytes:
            break
        freed = pulls.evict(tx, each.cold.manifest_id, came_by=each.came_by, pulled_by=each.pulled_by)
        if freed is not None:
            manifests += 1
            freed_bytes += freed
    return _Gone(manifests, freed_bytes)


def _batches(going: list[T]) -> list[list[T]]:
    return [going[start : start + _BATCH] for start in range(0, len(going), _BATCH)]


def _next(page: Sequence[ColdManifest]) -> tuple[int, int] | None:
    return (page[-1].used_at, page[-1].manifest_id) if len(page) == _LOOK else None
