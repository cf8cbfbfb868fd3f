"""The sweep's statements one by one: what counts as garbage, and that each checks again when it acts."""

import pytest

from storage import BlobRecord, Conflict, Database, Digest, Transaction
from storage.metadata import blobs, garbage, manifests
from storage.metadata.garbage import FIRST_LINK, FIRST_REMOVAL, LinkKey, Removal
from tests.storage.metadata.pieces import blob, copy, digest, document, image, layer, manifest
from tests.storage.metadata.samples import NOW


def row(tx: Transaction, name: object) -> BlobRecord:
    """The blob's row."""
    record = blobs.find(tx, 1, digest(name))
    assert record is not None
    return record


def lapsed(tx: Transaction, *, cutoff: int = NOW, limit: int = 100) -> list[LinkKey]:
    """All links that a sweep would take, page by page."""
    found, after = [], FIRST_LINK
    while True:
        page = garbage.lapsed_links(tx, cutoff=cutoff, after=after, limit=limit)
        found += page.found
        if page.next_after is None:
            return found
        after = page.next_after


async def test_links_that_lapse(database: Database) -> None:
    """A link lapses when it is old enough and no manifest of its own image needs the blob, deleted ones included."""

    def act(tx: Transaction) -> None:
        first, second = image(tx), image(tx, "team/app/second")
        needed, once, unused = (blob(tx, name, first, second) for name in ("needed", "once", "unused"))
        blob(tx, "young", first, now=NOW + 1)
        manifest(tx, first, "m", [layer("needed", needed)])
        deleted = manifest(tx, first, "deleted", [layer("once", once)])
        manifests.mark_deleted(tx, deleted, tag_names=[], now=NOW)
        expected = {
            (first.id, str(digest("unused"))),
            *((second.id, str(digest(name))) for name in ("needed", "once", "unused")),
        }
        found = lapsed(tx)
        assert set(found) == expected
        assert all(sorted(lapsed(tx, limit=limit)) == sorted(found) for limit in (1, 2, 3))
        assert lapsed(tx, cutoff=NOW - 1) == []
        assert garbage.lapse(tx, found, cutoff=NOW) == 4
        assert garbage.lapse(tx, found, cutoff=NOW) == 0
        assert row(tx, "unused").id == unused

    await database.transaction(act)


async def test_a_link_that_came_back_to_life(database: Database) -> None:
    """A link that was renewed, or that a manifest has come to need, after it was seen is not taken."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        blob(tx, "renewed", place)
        needed = blob(tx, "needed", place)
        found = lapsed(tx)
        assert len(found) == 2
        blobs.touch(tx, [(place.id, digest("renewed"))], now=NOW + 1)
        manifest(tx, place, "m", [layer("needed", needed)])
        assert garbage.lapse(tx, found, cutoff=NOW) == 0

    await database.transaction(act)


async def test_blobs_that_are_loose(database: Database) -> None:
    """A blob is condemned when nothing links it and no manifest needs it; seeing is not enough, acting checks again."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        blob(tx, "linked", place)
        needed = blob(tx, "needed", place)
        manifest(tx, place, "m", [layer("needed", needed)])
        blobs.unlink(tx, place.id, digest("needed"))
        loose, back = blob(tx, "loose"), blob(tx, "back")
        blob(tx, "young", now=NOW + 1)
        page = garbage.loose_blobs(tx, cutoff=NOW, after=0, limit=100)
        assert (page.found, page.next_after) == ([loose, back], None)
        assert garbage.loose_blobs(tx, cutoff=NOW, after=0, limit=3) == garbage.Page([loose], loose)
        assert garbage.loose_blobs(tx, cutoff=NOW, after=loose, limit=3) == garbage.Page([back], None)
        blobs.link(tx, place.id, digest("back"), back, now=NOW)
        assert garbage.condemn(tx, [loose, back, needed], now=NOW) == 1
        assert garbage.condemn(tx, [loose], now=NOW + 1) == 0
        assert row(tx, "loose").condemned_at == NOW

    await database.transaction(act)


async def test_blobs_that_are_ripe(database: Database) -> None:
    """Condemned blobs come by the time of their condemnation, in pages."""

    def act(tx: Transaction) -> None:
        image(tx)
        for number in range(6):
            garbage.condemn(tx, [blob(tx, number)], now=NOW - number // 2)
        seen: list[BlobRecord] = []
        while page := garbage.ripe_blobs(tx, cutoff=NOW - 1, after=seen[-1] if seen else None, limit=1):
            seen += page
        assert [each.stored.digest for each in seen] == [digest(name) for name in (4, 5, 2, 3)]

    await database.transaction(act)


async def test_removing_checks_again(database: Database) -> None:
    """A row goes only if it is still condemned, long enough, unlinked and unneeded; its present key is listed."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        names = ("gone", "revived", "linked", "needed", "later", "healed")
        ids = {name: blob(tx, name) for name in names}
        garbage.condemn(tx, list(ids.values()), now=NOW)
        seen = garbage.ripe_blobs(tx, cutoff=NOW, after=None, limit=100)
        assert len(seen) == len(names)
        blobs.settle(tx, 1, digest("revived"), None, now=NOW)
        blobs.link(tx, place.id, digest("linked"), ids["linked"], now=NOW)
        manifest(tx, place, "m", [layer("needed", ids["needed"])])
        garbage.pardon(tx, [ids["later"]])
        garbage.condemn(tx, [ids["later"]], now=NOW + 1)
        garbage.mark_damaged(tx, row(tx, "healed"), now=NOW)
        blobs.settle(tx, 1, digest("healed"), copy("healed", "fresh"), now=NOW)
        garbage.condemn(tx, [ids["healed"]], now=NOW)
        assert garbage.remove(tx, seen, cutoff=NOW, now=NOW) == [7, 7]
        assert garbage.remove(tx, seen, cutoff=NOW, now=NOW) == []
        kept = [name for name in names if blobs.find(tx, 1, digest(name))]
        assert kept == ["revived", "linked", "needed", "later"]
        keys = {each.key for each in garbage.removals_due(tx, after=FIRST_REMOVAL, limit=100)}
        assert keys == {"key-of-gone", "key-of-healed", "fresh"}

    await database.transaction(act)


async def test_the_schema_is_the_last_guard(database: Database) -> None:
    """Even a careless statement cannot remove a row that is linked or needed."""

    def careless(tx: Transaction, *, linked: bool) -> None:
        place = image(tx)
        blob_id = blob(tx, "a", *([place] if linked else []))
        if not linked:
            manifest(tx, place, "m", [layer("a", blob_id)])
        tx.exec_driver_sql("DELETE FROM blobs")

    for linked in (True, False):
        with pytest.raises(Conflict):
            await database.transaction(careless, linked=linked)


async def test_pardon(database: Database) -> None:
    """Condemned blobs that something links or needs are found and freed of their tombstone; others are not."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        ids = [blob(tx, name) for name in ("linked", "needed", "loose")]
        garbage.condemn(tx, ids, now=NOW)
        blobs.link(tx, place.id, digest("linked"), ids[0], now=NOW)
        manifest(tx, place, "m", [layer("needed", ids[1])])
        assert garbage.wrongly_condemned(tx, after=0, limit=100) == ids[:2]
        assert garbage.wrongly_condemned(tx, after=ids[0], limit=100) == ids[1:2]
        garbage.pardon(tx, ids[:2])
        assert [row(tx, name).condemned_at for name in ("linked", "needed", "loose")] == [None, None, NOW]

    await database.transaction(act)


async def test_purging(database: Database) -> None:
    """Only manifests deleted long enough ago go; what they needed in their image is as good as just pushed."""

    def act(tx: Transaction) -> None:
        place, other = image(tx), image(tx, "team/app/other")
        blob_id, apart = blob(tx, "a", place, other), blob(tx, "apart", place)
        for name, deleted_at in (("old", NOW), ("young", NOW + 1), ("live", None)):
            manifest_id = manifest(tx, place, name, [layer("a", blob_id), layer("foreign", None)])
            if deleted_at is not None:
                manifests.mark_deleted(tx, manifest_id, tag_names=[], now=deleted_at)
        assert garbage.purge_deleted(tx, cutoff=NOW, now=NOW + 50, limit=10) == 1
        assert garbage.purge_deleted(tx, cutoff=NOW, now=NOW + 50, limit=10) == 0
        assert [
            name
            for name in ("old", "young", "live")
            if manifests.find(tx, place.id, document(name).digest, deleted=True)
        ] == ["young", "live"]
        times = {
            (each.name, name): found[1]
            for each in (place, other)
            for name in ("a", "apart")
            if (found := blobs.linked(tx, each.id, digest(name)))
        }
        assert times == {("img", "a"): NOW + 50, ("other", "a"): NOW, ("img", "apart"): NOW}
        assert apart != blob_id

    await database.transaction(act)


async def test_purging_a_few_at_a_time(database: Database) -> None:
    """No more than asked for go at once."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        for number in range(5):
            manifests.mark_deleted(tx, manifest(tx, place, number), tag_names=[], now=NOW)
        assert [garbage.purge_deleted(tx, cutoff=NOW, now=NOW, limit=2) for _ in range(4)] == [2, 2, 1, 0]

    await database.transaction(act)


async def test_removals_in_pages(database: Database) -> None:
    """Keys to remove come by storage and key, each once, until they are done."""

    def act(tx: Transaction) -> None:
        image(tx)
        for number in (3, 1, 2):
            blobs.free_later(tx, 1, f"k{number}", now=NOW)
        first = garbage.removals_due(tx, after=FIRST_REMOVAL, limit=2)
        assert first == [Removal(1, "k1"), Removal(1, "k2")]
        assert garbage.removals_due(tx, after=(1, "k2"), limit=2) == [Removal(1, "k3")]
        garbage.removals_done(tx, [Removal(1, "k1"), Removal(1, "k3"), Removal(1, "never")])
        assert garbage.removals_due(tx, after=FIRST_REMOVAL, limit=9) == [Removal(1, "k2")]

    await database.transaction(act)


async def test_orphans(database: Database) -> None:
    """An object that a row has, under exactly this key, is no orphan; others are listed for removal, once."""

    def act(tx: Transaction) -> None:
        image(tx)
        blob(tx, "a")
        assert garbage.is_key_used(tx, 1, copy("a"))
        assert not garbage.remove_orphan(tx, 1, copy("a"), now=NOW)
        assert not garbage.is_key_used(tx, 1, copy("a", "other"))
        assert not garbage.is_key_used(tx, 1, copy("b", "key-of-a"))
        for _ in range(2):
            assert garbage.remove_orphan(tx, 1, copy("a", "other"), now=NOW)
        assert garbage.is_key_used(tx, 1, copy("a", "other"))
        assert garbage.removals_due(tx, after=FIRST_REMOVAL, limit=9) == [Removal(1, "other")]

    await database.transaction(act)


async def test_what_fsck_writes(database: Database) -> None:
    """Marks reach only the copy that was read: one that was healed meanwhile keeps its good name."""

    def act(tx: Transaction) -> None:
        image(tx)
        blob(tx, "a")
        seen = row(tx, "a")
        garbage.mark_verified(tx, [seen], now=NOW)
        assert garbage.mark_damaged(tx, seen, now=NOW)
        blobs.settle(tx, 1, digest("a"), copy("a", "fresh"), now=NOW)
        assert not garbage.mark_damaged(tx, seen, now=NOW)
        assert row(tx, "a").damaged_at is None

    await database.transaction(act)


async def test_images_that_suffer(database: Database) -> None:
    """Some of the images that link a blob are named, in order."""

    def act(tx: Transaction) -> None:
        places = [image(tx, f"team/app/i{number:02}") for number in range(12)]
        blob_id = blob(tx, "a", *places)
        assert garbage.images_of(tx, blob_id) == [f"team/app/i{number:02}" for number in range(10)]
        assert garbage.images_of(tx, 99) == []

    await database.transaction(act)


async def test_every_blob_in_pages(database: Database) -> None:
    """All blobs come by id, whatever their state."""

    def act(tx: Transaction) -> list[Digest]:
        image(tx)
        for number in range(5):
            blob(tx, number)
        garbage.mark_damaged(tx, row(tx, 2), now=NOW)
        garbage.condemn(tx, [row(tx, 3).id], now=NOW)
        seen: list[BlobRecord] = []
        while page := garbage.every_blob(tx, after=seen[-1].id if seen else 0, limit=2):
            seen += page
        return [each.stored.digest for each in seen]

    assert await database.transaction(act) == [digest(number) for number in range(5)]
