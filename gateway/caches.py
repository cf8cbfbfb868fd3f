"""What a worker does for caches beside answering: times of pulls are written down, and each stays within its bounds.

Decides which repositories are caches and what their settings allow; how something goes is storage's business.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gateway.edge.pulls import Pulls
from gateway.jobs import Job
from gateway.logs import get_logger
from gateway.upstream.settings import UpstreamSettings, upstream_of
from storage import Bounds, Database, Eviction, RepositoryRecord, StorageError
from storage.metadata import repositories

_PULLS_S: Final = 60.0
"""How exact the times of pulls are."""
_BOUNDS_S: Final = 600.0
"""How long a cache may be too large; what is evicted becomes free with the next sweeps, hours later."""
_DEADLINE_S: Final = 3000.0
"""For one look at all caches; what is left is for the next."""
_PAGE: Final = 100
_DAY_S: Final = 86400
_log = get_logger(__name__)


def cache_jobs(database: Database, pulls: Pulls, *, clock: Callable[[], float]) -> Sequence[Job]:
    """The jobs for the caches of an installation."""
    return [
        Job("pull_times", _PULLS_S, partial(pulls.flush, database), at_end=True),
        Job("cache_bounds", _BOUNDS_S, _Caches(database, clock=clock), alone=True, deadline_s=_DEADLINE_S),
    ]


class _Caches:
    """One look at all caches."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._eviction = Eviction(database, clock=clock)

    async def __call__(self) -> None:
        """Each that has bounds, one after the other; one that fails does not keep the others from theirs."""
        after: str | None = ""
        while after is not None:
            page = await self._database.survey(
                repositories.page, project=None, after=after, limit=_PAGE, readable_by=None
            )
            for record in page:
                if (bounds := _bounds(record)) is not None:
                    await self._keep(record, bounds)
            after = page[-1].full_name if len(page) == _PAGE else None

    async def _keep(self, record: RepositoryRecord, bounds: Bounds) -> None:
        try:
            report = await self._eviction.run(record.id, bounds)
        except StorageError as error:
            _log.warning("cache_bounds_failed", repository=record.full_name, error=str(error))
            return
        if report.freed_bytes:
            _log.info(
                "cache_evicted",
                repository=record.full_name,
                old_manifests=report.old_manifests,
                cold_manifests=report.cold_manifests,
                freed_bytes=report.freed_bytes,
            )
        if report.over_bytes:
            _log.warning("cache_too_large", repository=record.full_name, over_bytes=report.over_bytes)


def _bounds(record: RepositoryRecord) -> Bounds | None:
    """What the repository may hold; None: it is no cache, or has no bounds, or may not fetch anything again."""
    if record.repository_type != "proxy":
        return None
    try:
        upstream = upstream_of(record.settings)
    except ValueError as error:  # a newer version wrote them
        _log.warning("cache_settings_unknown", repository=record.full_name, error=str(error))
        return None
    if upstream is None or upstream.is_offline or (upstream.max_bytes is None and upstream.keep_by_age is None):
        return None
    return _bounds_of(upstream)


def _bounds_of(upstream: UpstreamSettings) -> Bounds:
    age = upstream.keep_by_age
    if age is None:
        return Bounds(max_bytes=upstream.max_bytes)
    pulled_in_days = age.match_pulled_in_last_days
    return Bounds(
        max_bytes=upstream.max_bytes,
        max_age_s=age.max_age_days * _DAY_S,
        pulled_within_s=None if pulled_in_days is None else pulled_in_days * _DAY_S,
    )
