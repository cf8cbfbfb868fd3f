"""Tags: one row each, listed bytewise, moved in one statement."""

import pytest
import sqlalchemy as sa

from storage import Conflict, Database, Transaction
from storage.metadata import manifests, tables, tags
from tests.storage.metadata.pieces import document, image, manifest
from tests.storage.metadata.samples import NOW


async def test_a_tag_moves(database: Database) -> None:
    """A tag points at the last manifest that it was put on, and remembers when it was made and moved, and by whom."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        first, second = manifest(tx, place, "1"), manifest(tx, place, "2")
        assert tags.find(tx, place.id, "v1") is None
        tags.put(tx, place.id, "v1", first, by=7, now=NOW)
        tags.put(tx, place.id, "v1", second, by=8, now=NOW + 1)
        found = tags.find(tx, place.id, "v1")
        assert found is not None
        assert (found.manifest_id, found.digest) == (second, document("2").digest)
        assert (found.created_at, found.moved_at, found.moved_by) == (NOW, NOW + 1, 8)
        assert manifests.by_tag(tx, place.id, "v1") == document("2")
        assert tags.of_manifest(tx, first) == []

    await database.transaction(act)


async def test_bytewise_order(database: Database) -> None:
    """Names come in the order of their bytes, whatever a locale would say (row TG-02)."""
    names = ["1", "1.0", "1.0-a", "10", "2", "B", "Z", "_x", "a", "v1", "z"]

    def act(tx: Transaction) -> None:
        place, other = image(tx), image(tx, "team/app/other")
        target = manifest(tx, place, "1")
        for name in reversed(names):
            tags.put(tx, place.id, name, target, by=None, now=NOW)
        tags.put(tx, other.id, "b", manifest(tx, other, "1"), by=None, now=NOW)
        assert tags.page(tx, place.id, after="", limit=100) == names
        assert tags.page(tx, place.id, after="1.0-a", limit=2) == ["10", "2"]
        assert tags.page(tx, place.id, after="C", limit=1) == ["Z"]  # it need not exist (row TG-06)
        assert tags.page(tx, place.id, after="%", limit=1) == ["1"]
        assert tags.page(tx, place.id, after="_", limit=1) == ["_x"]
        assert tags.page(tx, place.id, after="z", limit=1) == []

    await database.transaction(act)


async def test_paging_through_thousands(database: Database) -> None:
    """Five thousand tags come whole and in order, whatever the size of the pages."""
    names = sorted(f"v{number}" for number in range(5000))

    def fill(tx: Transaction) -> int:
        place = image(tx)
        target = manifest(tx, place, "1")
        row = {"image_id": place.id, "manifest_id": target, "created_at": NOW, "moved_at": NOW}
        tx.execute(sa.insert(tables.tags), [{**row, "name": name} for name in names])
        return place.id

    image_id = await database.transaction(fill)
    for limit in (999, 5000):
        seen: list[str] = []
        while page := await database.survey(tags.page, image_id, after=seen[-1] if seen else "", limit=limit):
            assert len(page) <= limit
            seen += page
        assert seen == names


async def test_deleting(database: Database) -> None:
    """Deleting a tag takes that one; deleting those of a manifest takes all of its, and tells their names."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        first, second = manifest(tx, place, "1"), manifest(tx, place, "2")
        for name, target in (("a", first), ("b", first), ("c", first), ("d", second)):
            tags.put(tx, place.id, name, target, by=None, now=NOW)
        assert tags.delete(tx, place.id, "a")
        assert not tags.delete(tx, place.id, "a")
        assert tags.delete_of_manifest(tx, first) == ["b", "c"]
        assert tags.delete_of_manifest(tx, first) == []
        assert tags.page(tx, place.id, after="", limit=10) == ["d"]
        assert tags.of_manifest(tx, second) == ["d"]

    await database.transaction(act)


async def test_a_tag_needs_its_manifest(database: Database) -> None:
    """A tag cannot point at nothing."""
    with pytest.raises(Conflict):
        await database.transaction(lambda tx: tags.put(tx, image(tx).id, "v1", 99, by=None, now=NOW))
