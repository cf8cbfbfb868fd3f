"""What a worker does for its stores beside answering: strays in buckets, hot sets, and the check of stored bytes.

Decides when and under whose lease; how is storage's business. What is found damaged becomes one event in the log.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.config import Settings
from gateway.installation import Stores
from gateway.jobs import Job
from gateway.logs import get_logger
from storage import Content, DamageReports, Database, FoundDamage, HotSetStore, Scrub, ScrubSettings

if TYPE_CHECKING:
    from storage import S3Store

_HOT_SET_S: Final = 60.0
"""Between two looks at the room of a hot set; one worker of the machine does it, the others find it locked."""
_STRAY_S: Final = 6 * 3600.0
"""What nobody's row knows of stays this long: the row that will is written seconds after it, minutes in an outage."""
SWEEP_S: Final = 3000.0
"""For one sweep: each removal in a bucket is two requests, and what is left is for the next."""
_SCRUB_S: Final = 86400.0
_log = get_logger(__name__)


def watch_damage(database: Database, stores: Stores, content: Content, *, clock: Callable[[], float]) -> None:
    """Have what pulls find damaged in buckets looked at, marked and put aside. Before anything is read."""
    for name, store in stores.checked.items():
        store.on_damage = DamageReports(
            database,
            content,
            storage=name,
            origin=store.origin,
            tell=_tell_damage,
            tell_too_many=partial(_tell_too_many, name),
            clock=clock,
        )


def store_jobs(settings: Settings, database: Database, stores: Stores, *, clock: Callable[[], float]) -> Sequence[Job]:
    """The jobs for these stores."""
    jobs = [
        *(
            Job(
                f"strays/{name}",
                settings.garbage.interval_s,
                partial(_sweep_strays, name, bucket),
                alone=True,
                deadline_s=SWEEP_S,
            )
            for name, bucket in stores.buckets.items()
        ),
        *(
            Job(f"hot_set/{name}", _HOT_SET_S, partial(_keep_hot_set, name, store))
            for name, store in stores.hot.items()
        ),
    ]
    if settings.scrub.enabled:
        scrub = _Scrub(settings, database, stores, clock=clock)
        jobs.append(Job("scrub", settings.scrub.interval_s, scrub, alone=True, deadline_s=_SCRUB_S))
    return jobs


async def _sweep_strays(name: str, bucket: "S3Store") -> None:
    if swept := await bucket.sweep_strays(_STRAY_S):
        _log.info("strays_removed", storage=name, count=swept)


async def _keep_hot_set(name: str, store: HotSetStore) -> None:
    report = await store.hotset.upkeep()
    if report.damaged:
        _log.error("hot_set_damaged", storage=name, files=report.damaged)


class _Scrub:
    """One run of the scrub, over the stores that really hold the bytes."""

    def __init__(self, settings: Settings, database: Database, stores: Stores, *, clock: Callable[[], float]) -> None:
        self._content = Content(database, {**stores.all, **stores.buckets}, clock=clock)
        given = ScrubSettings(bytes_per_s=settings.scrub.bytes_per_s, cycle_s=settings.scrub.cycle_s)
        self._scrub = Scrub(database, self._content, given, clock=clock)

    async def __call__(self) -> None:
        await self._content.prepare()
        report = await self._scrub.run()
        for found in report.damaged:
            _tell_damage(found)
        if report.blobs:
            _log.info("scrubbed", blobs=report.blobs, read_bytes=report.read_bytes, trouble=report.troubles or None)


def _tell_too_many(storage: str) -> None:
    """Answers with wrong bytes are broken off as before; only nothing more is put aside on this process's word."""
    _log.error(
        "too_much_damage",
        storage=storage,
        do="check this machine's memory and network; if other replicas find the same, run `sluice fsck`",
    )


def _tell_damage(found: FoundDamage) -> None:
    _log.error(
        "blob_set_aside",
        storage=found.storage,
        digest=str(found.stored.digest),
        key=found.stored.key,
        detail=found.detail,
        images=found.images,
    )
