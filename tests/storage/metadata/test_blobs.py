"""Blob rows and links: one good copy per storage, and the only way for an image to read it."""

import pytest

from storage import BlobRecord, Database, Transaction, UploadUnknown
from storage.metadata import blobs, garbage
from storage.metadata.garbage import FIRST_REMOVAL
from tests.storage.metadata.pieces import blob, copy, digest, image
from tests.storage.metadata.samples import NOW


def found(tx: Transaction, name: object) -> BlobRecord:
    """The blob's row."""
    record = blobs.find(tx, 1, digest(name))
    assert record is not None
    return record


def is_good(tx: Transaction) -> bool:
    """Whether a copy of "a" is on record that readers may have."""
    record = blobs.find(tx, 1, digest("a"))
    return record is not None and record.damaged_at is None


def removals(tx: Transaction) -> list[str]:
    """Keys on the list of removals."""
    return [each.key for each in garbage.removals_due(tx, after=FIRST_REMOVAL, limit=100)]


async def test_settle_a_new_copy(database: Database) -> None:
    """The first copy becomes the row, as the store described it, with the time of the commit."""

    def act(tx: Transaction) -> None:
        image(tx)
        assert blobs.find(tx, 1, digest("a")) is None
        assert not is_good(tx)
        assert blobs.settle(tx, 1, digest("a"), None, now=NOW) is None
        blob_id = blobs.settle(tx, 1, digest("a"), copy("a"), now=NOW)
        assert found(tx, "a") == BlobRecord(blob_id or 0, 1, copy("a"), None, None)
        assert is_good(tx)

    await database.transaction(act)


async def test_settle_a_broken_copy(database: Database) -> None:
    """A row with the key that was found broken takes the new copy; one that has another key by now keeps it."""

    def act(tx: Transaction) -> None:
        image(tx)
        first = blob(tx, "a")
        old = found(tx, "a").stored.key
        assert blobs.settle(tx, 1, digest("a"), copy("a", "second"), broken=old, now=NOW) == first
        assert found(tx, "a").stored == copy("a", "second")
        assert removals(tx) == [old]
        assert blobs.settle(tx, 1, digest("a"), copy("a", "third"), broken=old, now=NOW) == first
        assert found(tx, "a").stored == copy("a", "second")

    await database.transaction(act)


async def test_settle_a_second_copy(database: Database) -> None:
    """The row keeps the first copy; the second one goes to the removals, once, however often it is brought."""

    def act(tx: Transaction) -> None:
        image(tx)
        first = blob(tx, "a")
        for _ in range(2):
            assert blobs.settle(tx, 1, digest("a"), copy("a", "second"), now=NOW) == first
        assert blobs.settle(tx, 1, digest("a"), copy("a"), now=NOW) == first
        assert (found(tx, "a").stored.key, removals(tx)) == ("key-of-a", ["second"])

    await database.transaction(act)


async def test_settle_ends_a_condemnation(database: Database) -> None:
    """A blob with a tombstone lives again, whether or not its pusher brought a copy."""

    def act(tx: Transaction) -> None:
        image(tx)
        blob_id = blob(tx, "a")
        for stored in (None, copy("a", "second")):
            assert garbage.condemn(tx, [blob_id], now=NOW) == 1
            assert found(tx, "a").condemned_at == NOW
            assert blobs.settle(tx, 1, digest("a"), stored, now=NOW) == blob_id
            assert found(tx, "a").condemned_at is None

    await database.transaction(act)


async def test_settle_heals_a_damaged_row(database: Database) -> None:
    """A damaged blob takes over the new copy, tombstone off; the old key goes; without a copy it is not good."""

    def act(tx: Transaction) -> None:
        image(tx)
        blob_id = blob(tx, "a")
        garbage.condemn(tx, [blob_id], now=NOW)
        assert garbage.mark_damaged(tx, found(tx, "a"), now=NOW)
        assert not is_good(tx)
        assert blobs.settle(tx, 1, digest("a"), None, now=NOW) is None
        assert blobs.settle(tx, 1, digest("a"), copy("a", "fresh"), now=NOW) == blob_id
        assert found(tx, "a") == BlobRecord(blob_id, 1, copy("a", "fresh"), None, None)
        assert removals(tx) == ["key-of-a"]

    await database.transaction(act)


async def test_a_key_that_was_given_up_is_refused(database: Database) -> None:
    """A copy on the list of removals becomes no row: its bytes may go at any moment."""

    def act(tx: Transaction) -> None:
        image(tx)
        blobs.free_later(tx, 1, "key-of-a", now=NOW)
        assert blobs.is_given_up(tx, 1, "key-of-a")
        with pytest.raises(UploadUnknown):
            blobs.settle(tx, 1, digest("a"), copy("a"), now=NOW)
        blob_id = blobs.settle(tx, 1, digest("a"), copy("a", "other"), now=NOW)
        assert blobs.settle(tx, 1, digest("a"), copy("a"), now=NOW) == blob_id
        assert (found(tx, "a").stored.key, removals(tx)) == ("other", ["key-of-a"])

    await database.transaction(act)


async def test_links(database: Database) -> None:
    """A link is of one image and one digest; linking again renews it; taking it away touches no other."""

    def act(tx: Transaction) -> None:
        first, second = image(tx), image(tx, "team/app/second")
        blob_id = blob(tx, "a", first, second)
        blobs.link(tx, first.id, digest("a", "sha512"), blob_id, now=NOW)
        blobs.link(tx, first.id, digest("a"), blob_id, now=NOW + 5)
        assert blobs.linked(tx, first.id, digest("a")) == (found(tx, "a"), NOW + 5)
        assert blobs.linked(tx, second.id, digest("a")) == (found(tx, "a"), NOW)
        assert blobs.linked(tx, first.id, digest("b")) is None
        assert blobs.unlink(tx, first.id, digest("a"))
        assert not blobs.unlink(tx, first.id, digest("a"))
        assert blobs.linked(tx, first.id, digest("a")) is None
        assert blobs.linked(tx, first.id, digest("a", "sha512")) is not None
        assert blobs.linked(tx, second.id, digest("a")) is not None

    await database.transaction(act)


async def test_damaged_blobs_are_not_linked(database: Database) -> None:
    """What is damaged is absent for readers and for manifests."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        blob(tx, "a", place)
        garbage.mark_damaged(tx, found(tx, "a"), now=NOW)
        assert blobs.linked(tx, place.id, digest("a")) is None
        assert blobs.linked_sizes(tx, place.id, [digest("a")]) == {}

    await database.transaction(act)


async def test_sizes_of_very_many(database: Database) -> None:
    """A manifest with more layers than a database takes parameters is looked up whole, in any order."""

    def act(tx: Transaction) -> None:
        place, other = image(tx), image(tx, "team/app/other")
        ids = {digest(number): blob(tx, number, place) for number in range(1201)}
        blob(tx, "elsewhere", other)
        asked = [*ids, digest("elsewhere"), digest("nowhere")]
        sizes = blobs.linked_sizes(tx, place.id, asked)
        assert sizes == {each: (blob_id, 10) for each, blob_id in ids.items()}
        assert blobs.linked_sizes(tx, place.id, []) == {}

    await database.transaction(act)


async def test_further_digests(database: Database) -> None:
    """A second digest of the same bytes is recorded once, and goes with its blob."""

    def act(tx: Transaction) -> None:
        image(tx)
        blob_id = blob(tx, "a")
        for _ in range(2):
            blobs.name_also(tx, 1, digest("a", "sha512"), blob_id)
        garbage.condemn(tx, [blob_id], now=NOW)
        garbage.remove(tx, [found(tx, "a")], cutoff=NOW, now=NOW)
        blobs.name_also(tx, 1, digest("a", "sha512"), blob(tx, "b"))

    await database.transaction(act)


async def test_touch(database: Database) -> None:
    """Renewing reaches exactly the named links, and makes none."""

    def act(tx: Transaction) -> None:
        first, second = image(tx), image(tx, "team/app/second")
        blob(tx, "a", first, second)
        blobs.touch(tx, [(first.id, digest("a")), (second.id, digest("b"))], now=NOW + 9)
        assert blobs.linked(tx, first.id, digest("a")) == (found(tx, "a"), NOW + 9)
        assert blobs.linked(tx, second.id, digest("a")) == (found(tx, "a"), NOW)
        assert blobs.linked(tx, second.id, digest("b")) is None

    await database.transaction(act)


async def test_a_blob_by_its_id(database: Database) -> None:
    """Whatever its state; no other one for an id that there is not."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        first, second = blob(tx, "first"), blob(tx, "second", place)
        found = blobs.get(tx, second)
        assert found == blobs.find(tx, 1, digest("second"))
        garbage.condemn(tx, [first], now=NOW)
        assert blobs.get(tx, first) == blobs.find(tx, 1, digest("first"))
        assert blobs.get(tx, second + 1) is None
        assert blobs.get(tx, first - 1) is None

    await database.transaction(act)
