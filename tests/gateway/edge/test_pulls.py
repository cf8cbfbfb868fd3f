"""Pulls are counted by what was pulled and by who answered; when manifests were pulled is written down in time."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from gateway.edge import pulls as pulls_module
from gateway.edge.pulls import Kind, Pulled, Pulls, Way
from storage import Database, Digest, SqliteDatabase, Transaction, Unavailable
from storage.metadata import pulls as rows
from tests.storage.metadata.pieces import document, image, manifest
from tests.storage.metadata.samples import NOW

BLOB = Pulled(Kind.BLOB, 1, "app", "sha256:x", Digest.of(b""), None, image_id=1)


def test_pulls_are_counted() -> None:
    """By kind and way; the snapshot does not change afterwards."""
    pulls = Pulls()
    pulls.note(BLOB, way=Way.LANE)
    pulls.note(BLOB, way=Way.LANE)
    before = pulls.statistics()
    pulls.note(BLOB, way=Way.APPLICATION)

    assert before == {(Kind.BLOB, Way.LANE): 2}
    assert pulls.statistics() == {(Kind.BLOB, Way.LANE): 2, (Kind.BLOB, Way.APPLICATION): 1}


class Time:
    """Seconds that pass when a test says so."""

    now = NOW + 10

    def __call__(self) -> float:
        """The time."""
        return self.now


NAMES = [f"manifest {number}" for number in range(150)]


@pytest.fixture
async def database(database_file: Path) -> AsyncIterator[Database]:
    """One image with many manifests."""

    def fill(tx: Transaction) -> None:
        place = image(tx, "hub/cache/img")
        for name in NAMES:
            manifest(tx, place, name)

    async with SqliteDatabase(database_file) as opened:
        await opened.transaction(fill)
        yield opened


def pulled(name: str, image_id: int | None = 1) -> Pulled:
    """A pull of the manifest of that name."""
    return Pulled(Kind.MANIFEST, 1, "img", "latest", document(name).digest, None, image_id=image_id)


async def times(database: Database) -> dict[Digest, int]:
    """When manifests were pulled, as it is written down."""
    found = await database.survey(rows.coldest, 1, limit=1000)
    return {each.digest: each.pulled_at for each in found if each.pulled_at is not None}


async def test_the_last_pull_of_each_manifest_is_written_down(database: Database) -> None:
    """Once; neither blobs nor manifests that were found in no image are."""
    clock = Time()
    pulls = Pulls(clock=clock)
    for name in NAMES[:-1]:
        pulls.note(pulled(name), way=Way.LANE)
    pulls.note(pulled(NAMES[-1], None), way=Way.LANE)
    pulls.note(BLOB, way=Way.LANE)
    clock.now += 5
    pulls.note(pulled(NAMES[0]), way=Way.APPLICATION)
    await pulls.flush(database)

    expected = {document(name).digest: NOW + 10 for name in NAMES[:-1]}
    assert await times(database) == expected | {document(NAMES[0]).digest: NOW + 15}
    clock.now += 5
    await pulls.flush(database)
    assert max((await times(database)).values()) == NOW + 15


async def test_what_could_not_be_written_is_written_the_next_time(database: Database) -> None:
    """Nothing is lost while the database is away, and a pull meanwhile is noted with its own time."""
    clock = Time()
    pulls = Pulls(clock=clock)
    pulls.note(pulled(NAMES[0]), way=Way.LANE)
    pulls.note(pulled(NAMES[1]), way=Way.LANE)
    await database.aclose()
    with pytest.raises(Unavailable):
        await pulls.flush(database)
    clock.now += 5
    pulls.note(pulled(NAMES[1]), way=Way.LANE)
    await database.open()
    await pulls.flush(database)
    assert await times(database) == {document(NAMES[0]).digest: NOW + 10, document(NAMES[1]).digest: NOW + 15}


async def test_a_pull_while_others_are_written_is_not_forgotten(database: Database) -> None:
    """Of one that comes between the writing and its end, the next writing has the later time."""
    clock = Time()
    pulls = Pulls(clock=clock)
    pulls.note(pulled(NAMES[0]), way=Way.LANE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulls.flush, database)
        await trio.testing.wait_all_tasks_blocked()  # it waits for the writer's thread
        clock.now += 5
        pulls.note(pulled(NAMES[0]), way=Way.LANE)
    assert await times(database) == {document(NAMES[0]).digest: NOW + 10}
    await pulls.flush(database)
    assert await times(database) == {document(NAMES[0]).digest: NOW + 15}


async def test_what_waits_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound only what is known already gets a later time; after a writing there is room again."""
    monkeypatch.setattr(pulls_module, "MAX_TIMES", 2)
    clock = Time()
    pulls = Pulls(clock=clock)
    pulls.note(BLOB, way=Way.LANE)  # takes no room
    for name in NAMES[:3]:
        pulls.note(pulled(name), way=Way.LANE)
    clock.now += 5
    pulls.note(pulled(NAMES[0]), way=Way.LANE)
    await pulls.flush(database)
    pulls.note(pulled(NAMES[3]), way=Way.LANE)
    await pulls.flush(database)
    zero, one, three = (document(NAMES[number]).digest for number in (0, 1, 3))
    assert await times(database) == {zero: NOW + 15, one: NOW + 10, three: NOW + 15}
