"""How far lists of images are that are fetched ahead."""

from dataclasses import replace

from storage import Database
from storage.metadata import repositories, warm_ups
from tests.storage.metadata.samples import NOW, repository


async def test_what_is_written_is_read(database: Database) -> None:
    """By whoever knows the repository and the id, and by nobody who names another repository."""
    place = await database.transaction(repository, "hub/one")
    other = await database.transaction(repository, "hub/two")
    begun = await database.transaction(warm_ups.begin, place.id, images=3, now=NOW)
    later = replace(
        begun,
        state=warm_ups.DONE,
        images_done=2,
        blobs=7,
        fetched_bytes=1 << 40,
        failures=(("nginx:1", "gone"),),
        updated_at=NOW + 9,
    )
    await database.transaction(warm_ups.put, later)

    assert (begun.state, begun.images, begun.begun_at) == (warm_ups.RUNNING, 3, NOW)
    assert await database.read(warm_ups.get, place.id, begun.id) == later
    assert await database.read(warm_ups.get, other.id, begun.id) is None
    assert await database.read(warm_ups.of, other.id, limit=5) == []


async def test_the_last_twenty_are_kept(database: Database) -> None:
    """Of each repository, the newest first; they go with it, and writing to one that is gone does nothing."""
    place = await database.transaction(repository, "hub/one")
    made = [await database.transaction(warm_ups.begin, place.id, images=1, now=NOW + each) for each in range(25)]

    kept = await database.read(warm_ups.of, place.id, limit=100)
    assert [each.id for each in kept] == [each.id for each in reversed(made[5:])]
    assert await database.transaction(repositories.delete, place.id)
    await database.transaction(warm_ups.put, made[-1])
    assert await database.read(warm_ups.of, place.id, limit=100) == []
