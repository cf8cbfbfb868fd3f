"""Caches within their bounds: what goes and in which order, and that what is left is whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import Bounds, Database, Eviction, EvictionReport, ReferenceRecord, SqliteDatabase, Transaction
from storage.metadata import blobs, garbage, images, manifests, pulls, repositories
from tests.storage.metadata.pieces import blob, digest, document, image, layer, manifest
from tests.storage.metadata.samples import NOW

REST_S = 100
STORED = 7
"""Bytes of each blob, as it is stored."""


@dataclass
class Cache:
    """A repository with one image, a time, and what is done to it."""

    database: Database
    now: int = NOW

    async def fetch(self, name: str, layers: Sequence[str], children: Sequence[str] = (), place: str = "img") -> None:
        """A manifest comes, then its layers."""

        def act(tx: Transaction) -> None:
            target = image(tx, f"hub/cache/{place}")
            needs = [layer(each, blob(tx, each, target, now=self.now)) for each in layers]
            needs += [ReferenceRecord("child", document(each).digest, 5, None) for each in children]
            manifest(tx, target, name, needs)

        await self.database.transaction(act)

    async def pull(self, name: str, at: int) -> None:
        """Note a pull."""
        await self.database.transaction(pulls.note, [(1, document(name).digest, at)])

    async def evict(self, **bounds: int) -> EvictionReport:
        """One run."""
        return await Eviction(self.database, rest_s=REST_S, clock=lambda: self.now).run(1, Bounds(**bounds))

    async def held(self, *names: str, place: str = "img") -> set[str]:
        """Which of these manifests and layers the image has."""

        def look(tx: Transaction) -> set[str]:
            target = image_id(tx, place)
            found = {name for name in names if manifests.find(tx, target, document(name).digest, deleted=True)}
            return found | {name for name in names if blobs.linked(tx, target, digest(name))}

        return await self.database.read(look)

    async def size(self) -> int:
        """What the repository holds."""
        return await self.database.survey(pulls.stored_bytes, 1)


def image_id(tx: Transaction, name: str) -> int:
    """The id of the cache's image."""
    record = repositories.find(tx, "hub", "cache")
    assert record is not None
    found = images.find(tx, record.id, name)
    assert found is not None
    return found.id


@pytest.fixture
async def cache(any_database: Database) -> Cache:
    """A cache with three manifests that came at the same time and were pulled one after the other."""
    made = Cache(any_database)
    await made.fetch("one", ["shared", "a"])
    await made.fetch("two", ["shared", "b"])
    await made.fetch("six", ["c"])
    for at, name in enumerate(("six", "one", "two")):
        await made.pull(name, NOW + 10 + at)
    made.now = NOW + 1000
    return made


async def test_without_bounds_nothing_goes(cache: Cache) -> None:
    """Nor does it within the bounds."""
    assert await cache.evict() == EvictionReport()
    assert await cache.evict(max_bytes=await cache.size(), max_age_s=1001) == EvictionReport()


async def test_the_least_recently_pulled_goes_until_it_fits(cache: Cache) -> None:
    """Exactly as much as is needed, with what it alone needs; the report says what came of it."""
    size = await cache.size()
    report = await cache.evict(max_bytes=size - 1)
    assert report == EvictionReport(cold_manifests=1, freed_bytes=STORED + 3)
    assert await cache.size() == size - STORED - 3
    assert await cache.held("one", "two", "six", "shared", "a", "b", "c") == {"one", "two", "shared", "a", "b"}


async def test_row_p8_of_two_images_that_share_layers_the_other_stays_whole(cache: Cache) -> None:
    """Security row P8: what the kept one needs is neither unlinked nor does the sweep take its bytes."""
    report = await cache.evict(max_bytes=2 * STORED + 3)
    assert (report.cold_manifests, report.over_bytes) == (2, 0)
    assert await cache.held("one", "two", "shared", "a", "b") == {"two", "shared", "b"}

    def sweep(tx: Transaction) -> list[int]:
        page = garbage.loose_blobs(tx, cutoff=cache.now, after=0, limit=100)
        wanted = {name: blobs.find(tx, 1, digest(name)) for name in ("a", "c")}
        assert page.found == sorted(found.id for found in wanted.values() if found is not None)
        return page.found

    assert len(await cache.database.survey(sweep)) == 2


async def test_what_was_used_just_now_stays(cache: Cache) -> None:
    """However small the cache is to be; the report says by how much it is too large."""
    await cache.pull("one", cache.now - REST_S + 1)
    report = await cache.evict(max_bytes=0)
    assert await cache.held("one", "two", "six") == {"one"}
    assert report.over_bytes == await cache.size() == 2 * STORED + 3
    cache.now += 1
    assert (await cache.evict(max_bytes=0)).over_bytes == 0
    assert await cache.size() == 0


async def test_an_index_stays_whole_or_goes_with_its_children(cache: Cache) -> None:
    """A child that nobody pulled by itself is kept by its index; without it they go together."""
    await cache.fetch("linux", ["d"])
    await cache.fetch("index", [], ["linux", "never fetched"])
    await cache.pull("index", NOW + 50)
    await cache.evict(max_bytes=STORED + 10)
    assert await cache.held("one", "two", "six", "linux", "index", "d") == {"linux", "index", "d"}
    await cache.evict(max_bytes=STORED + 9)
    assert await cache.size() == 0


async def test_what_is_old_goes_whatever_its_size(cache: Cache) -> None:
    """By when it came alone, or unless it was pulled lately."""
    await cache.evict(max_age_s=1000, pulled_within_s=989)
    assert await cache.held("one", "two", "six") == {"two"}  # pulled 988 s ago
    report = await cache.evict(max_age_s=1000)
    assert (report.old_manifests, await cache.size()) == (1, 0)


async def test_blobs_without_a_manifest_go_first(cache: Cache) -> None:
    """They were asked for by themselves; one that was just linked stays."""
    size = await cache.size()

    def act(tx: Transaction) -> None:
        target = image(tx, "hub/cache/img")
        blob(tx, "alone", target)
        blob(tx, "young", target, now=cache.now)

    await cache.database.transaction(act)
    report = await cache.evict(max_bytes=size + STORED)
    assert report == EvictionReport(freed_bytes=STORED)
    assert await cache.held("one", "two", "six", "alone", "young") == {"one", "two", "six", "young"}


async def test_more_manifests_than_one_look_gives(database_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages are gone through, in the order of use over all images."""
    monkeypatch.setattr("storage.eviction._LOOK", 20)
    async with SqliteDatabase(database_file) as database:
        cache = Cache(database, now=NOW + 5000)

        def fill(tx: Transaction) -> None:
            for number in range(110):
                target = image(tx, f"hub/cache/{number % 3}")
                manifest(tx, target, f"{number:04}")
                pulls.note(tx, [(target.id, document(f"{number:04}").digest, NOW + 1 + number)])

        await database.transaction(fill)
        report = await cache.evict(max_bytes=4 * 60)
        assert report.cold_manifests == 50
        found = await database.survey(pulls.coldest, 1, limit=2000)
        assert [each.used_at for each in found] == [NOW + 1 + number for number in range(50, 110)]
