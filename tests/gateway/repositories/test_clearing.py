"""Caches emptied by hand: what goes, what stays, and under which names."""

import pytest

from gateway.repositories.clearing import Cleared, clear, clear_tag, stored_name
from storage import Database, Digest, ReferenceRecord, RepositoryRecord, Transaction
from storage.metadata import images, manifests, repositories, tags, upstreams
from tests.storage.metadata.pieces import blob, digest, manifest
from tests.storage.metadata.samples import NOW, repository

HUB = '{"upstream": {"urls": ["https://registry-1.docker.io"]}}'


def _fill(tx: Transaction) -> RepositoryRecord:
    """Two images: one of an index and its child, whose blob the other has as well."""
    record = repository(tx, "team/hub", repository_type="proxy")
    for name in ("library/nginx", "library/other"):
        place = images.ensure(tx, record, name, now=NOW)
        shared, own = blob(tx, "shared", place), blob(tx, name, place)
        needs = [
            ReferenceRecord("layer", digest("shared"), 10, shared),
            ReferenceRecord("layer", digest(name), 10, own),
        ]
        child = manifest(tx, place, f"child of {name}", needs)
        named = ReferenceRecord("child", Digest.of(f"child of {name}".encode()), 10, None)
        index = manifest(tx, place, f"index of {name}", [named])
        tags.put(tx, place.id, "latest", index, by=None, now=NOW)
        tags.put(tx, place.id, "1.0", child, by=None, now=NOW)
        upstreams.put_check(tx, place.id, "latest", NOW, None)
        blob(tx, f"loose in {name}", place)
    return record


async def _documents(database: Database, record: RepositoryRecord, name: str) -> list[bool]:
    """Whether the tags `latest` and `1.0` of the image lead to something."""

    def look(tx: Transaction) -> list[bool]:
        found = images.find(tx, record.id, name)
        return [found is not None and manifests.by_tag(tx, found.id, tag) is not None for tag in ("latest", "1.0")]

    return await database.read(look)


async def test_one_image_is_cleared_and_the_other_stays(database: Database) -> None:
    """With its index, child and loose blobs; a blob that the other has is not counted as freed."""
    record = await database.transaction(_fill)
    cleared = Cleared()

    await clear(database, record, cleared, image="library/nginx")

    assert await _documents(database, record, "library/nginx") == [False, False]
    assert await _documents(database, record, "library/other") == [True, True]
    assert cleared.manifests >= 1
    first = cleared.freed_bytes
    await clear(database, record, cleared)
    assert await _documents(database, record, "library/other") == [False, False]
    assert 0 < first < cleared.freed_bytes - first  # the shared blob went with the second


async def test_a_tag_is_forgotten_alone(database: Database) -> None:
    """With the time that its upstream was asked; unknown images and tags are none."""
    record = await database.transaction(_fill)

    gone = await clear_tag(database, record, "library/nginx", "latest")
    again = await clear_tag(database, record, "library/nginx", "latest")
    unknown = await clear_tag(database, record, "none", "latest")

    def checked(tx: Transaction) -> object:
        found = images.find(tx, record.id, "library/nginx")
        assert found is not None
        return upstreams.checked(tx, found.id, "latest")

    assert (gone.tags, again.tags, unknown.tags) == (1, 0, 0)
    assert await _documents(database, record, "library/nginx") == [False, True]
    assert await database.read(checked) is None


@pytest.mark.parametrize(("settings", "name"), [(HUB, "library/nginx"), ("{}", "nginx")])
async def test_short_names_of_docker_hub_are_stored_long(database: Database, settings: str, name: str) -> None:
    """Who clears `nginx` means what pulls of `nginx` have brought."""

    def make(tx: Transaction) -> RepositoryRecord:
        record = _fill(tx)
        changed = repositories.update(tx, record.id, now=NOW, settings=settings)
        assert changed is not None
        return changed

    record = await database.transaction(make)

    assert stored_name(record, "nginx") == name
