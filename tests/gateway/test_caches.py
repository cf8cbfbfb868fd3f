"""Which repositories are kept within which bounds, and that one in trouble does not stop the others."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.caches import cache_jobs
from gateway.edge.pulls import Kind, Pulled, Pulls, Way
from gateway.jobs import Job
from gateway.upstream.settings import UPSTREAM, KeepByAge, UpstreamSettings
from storage import Database, SqliteDatabase, Transaction
from storage.metadata import manifests, pulls
from tests.storage.metadata.pieces import document, image, manifest
from tests.storage.metadata.samples import NOW, repository

DAY_S = 86400
URLS = ("https://registry.example",)


@pytest.fixture
async def database(database_file: Path) -> AsyncIterator[Database]:
    """An empty one."""
    async with SqliteDatabase(database_file) as opened:
        yield opened


def job(database: Database, name: str, *, now: int, collected: Pulls | None = None) -> Job:
    """The job of that name."""
    made = cache_jobs(database, collected or Pulls(), clock=lambda: now)
    return {each.name: each for each in made}[name]


def cache(tx: Transaction, /, name: str, *, kind: str = "proxy", settings: str | None = None, **given: Any) -> None:
    """A repository with an upstream, and one manifest of five bytes that came at `NOW`."""
    text = settings or f'{{"{UPSTREAM}":{UpstreamSettings(URLS, **given).to_json()}}}'
    repository(tx, f"hub/{name}", repository_type=kind, settings=text)
    manifest(tx, image(tx, f"hub/{name}/img"), "12345")


async def left(database: Database) -> set[str]:
    """The repositories that have their manifest."""

    def look(tx: Transaction) -> set[str]:
        found = set()
        for name in ("age", "broken", "free", "hosted", "offline", "pulled", "small", "wide"):
            place = image(tx, f"hub/{name}/img")
            if manifests.find(tx, place.id, document("12345").digest):
                found.add(name)
        return found

    return await database.transaction(look)


async def test_each_cache_is_kept_within_its_own_bounds(database: Database) -> None:
    """By bytes, by age, or unless it was pulled lately; neither hosted ones nor what may fetch nothing again."""
    offline = KeepByAge(1)

    def fill(tx: Transaction) -> None:
        cache(tx, "small", max_bytes=4)
        cache(tx, "wide", max_bytes=5)
        cache(tx, "free")
        cache(tx, "age", keep_by_age=KeepByAge(2))
        cache(tx, "pulled", keep_by_age=KeepByAge(2, 3))
        cache(tx, "offline", max_bytes=0, keep_by_age=offline, is_offline=True)
        cache(tx, "hosted", kind="hosted", max_bytes=0)
        cache(tx, "broken", settings='{"upstream":{"urls":["https://a.example"],"from_the_future":1}}')
        pulls.note(tx, [(image(tx, "hub/pulled/img").id, document("12345").digest, NOW + 1)])

    await database.transaction(fill)
    with structlog.testing.capture_logs() as events:
        await job(database, "cache_bounds", now=NOW + 2 * DAY_S - 1).run()
    assert await left(database) == {"age", "broken", "free", "hosted", "offline", "pulled", "wide"}
    told = {(event["event"], event["repository"]) for event in events}
    assert told == {("cache_evicted", "hub/small"), ("cache_settings_unknown", "hub/broken")}

    await job(database, "cache_bounds", now=NOW + 2 * DAY_S).run()
    assert await left(database) == {"broken", "free", "hosted", "offline", "pulled", "wide"}
    await job(database, "cache_bounds", now=NOW + 3 * DAY_S + 1).run()
    assert await left(database) == {"broken", "free", "hosted", "offline", "wide"}


async def test_a_cache_that_cannot_be_made_small_enough_is_told_of(database: Database) -> None:
    """What is being pulled is left alone; an operator sees that the bound is too small."""
    await database.transaction(cache, "small", max_bytes=1)
    with structlog.testing.capture_logs() as events:
        await job(database, "cache_bounds", now=NOW + 1).run()
    assert [(event["event"], event["over_bytes"]) for event in events] == [("cache_too_large", 4)]


async def test_very_many_repositories_are_all_looked_at(database: Database) -> None:
    """More than one page of them."""

    def fill(tx: Transaction) -> None:
        for number in range(205):
            repository(tx, f"a/{number:03}")
        cache(tx, "small", max_bytes=4)
        repository(tx, "zoo/last")
        cache(tx, "wide", max_bytes=4)

    await database.transaction(fill)
    await job(database, "cache_bounds", now=NOW + DAY_S).run()
    assert await left(database) == set()


async def test_one_that_fails_does_not_keep_the_others_from_their_bounds(database: Database) -> None:
    """A repository whose rows cannot be read is told of and passed over."""

    def fill(tx: Transaction) -> None:
        cache(tx, "age", max_bytes=4)
        cache(tx, "small", max_bytes=4)
        tx.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE DELETE ON manifests WHEN OLD.image_id = 1"
            " BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )

    await database.transaction(fill)
    with structlog.testing.capture_logs() as events:
        await job(database, "cache_bounds", now=NOW + DAY_S).run()
    assert [(event["event"], event["repository"]) for event in events] == [
        ("cache_bounds_failed", "hub/age"),
        ("cache_evicted", "hub/small"),
    ]
    assert await left(database) == {"age"}


async def test_collected_pulls_are_written_also_at_the_end(database: Database) -> None:
    """Each worker writes its own, every minute; one worker of the installation looks at the bounds."""
    await database.transaction(cache, "small")
    collected = Pulls(clock=lambda: NOW + 9)
    digest = document("12345").digest
    collected.note(Pulled(Kind.MANIFEST, 1, "img", "latest", digest, None, image_id=1), way=Way.LANE)
    times, bounds = (job(database, name, now=NOW, collected=collected) for name in ("pull_times", "cache_bounds"))
    assert (times.every_s, times.at_end, times.alone) == (60, True, False)
    assert (bounds.at_end, bounds.alone) == (False, True)
    await times.run()
    assert [each.pulled_at for each in await database.survey(pulls.coldest, 1, limit=9)] == [NOW + 9]
