"""In which order stored bytes are verified, on both databases."""

from storage import BlobRecord, Database, Transaction
from storage.metadata import blobs, garbage, verification
from tests.storage.metadata.pieces import blob, digest, image
from tests.storage.metadata.samples import NOW


def row(tx: Transaction, name: str) -> BlobRecord:
    """The blob's row."""
    found = blobs.find(tx, 1, digest(name))
    assert found is not None
    return found


def listed(tx: Transaction, *, before: int = NOW + 1000, limit: int = 2) -> list[BlobRecord]:
    """All pages."""
    found: list[BlobRecord] = []
    after = verification.FIRST
    while page := verification.least_recent(tx, before=before, after=after, limit=limit):
        found += [record for record, _ in page]
        after = page[-1][1]
    return found


def furnish(tx: Transaction) -> None:
    """Five blobs that were stored one second after the other; the first was verified since, and `e` a moment ago."""
    place = image(tx)
    for age, name in enumerate("abcde"):
        blob(tx, name, place, now=NOW + age)
    garbage.mark_verified(tx, [row(tx, "a")], now=NOW + 10)
    garbage.mark_verified(tx, [row(tx, "e")], now=NOW + 20)


async def test_least_recently_verified_first(database: Database) -> None:
    """What was never verified counts from when it was stored; pages of any size give each blob once."""

    def act(tx: Transaction) -> None:
        furnish(tx)
        expected = [digest(name) for name in "bcdae"]
        for limit in (1, 2, 5, 100):
            assert [each.stored.digest for each in listed(tx, limit=limit)] == expected
        assert [each.stored.digest for each in listed(tx, before=NOW + 2)] == expected[:2]

    await database.transaction(act)


async def test_damaged_and_condemned_ones_are_left_out(database: Database) -> None:
    """Neither is listed, nor counted."""

    def act(tx: Transaction) -> None:
        furnish(tx)
        every, _ = verification.totals(tx, since=0)
        garbage.mark_damaged(tx, row(tx, "b"), now=NOW)
        assert blobs.unlink(tx, 1, digest("c"))
        assert garbage.condemn(tx, [row(tx, "c").id], now=NOW) == 1
        assert [each.stored.digest for each in listed(tx)] == [digest(name) for name in "dae"]
        assert verification.totals(tx, since=0)[0] == every // 5 * 3

    await database.transaction(act)


async def test_totals(database: Database) -> None:
    """All bytes, and those verified since; none are zero."""

    def act(tx: Transaction) -> None:
        assert verification.totals(tx, since=0) == (0, 0)
        furnish(tx)
        size_bytes = row(tx, "a").stored.stored_bytes
        assert verification.totals(tx, since=NOW + 9) == (5 * size_bytes, 2 * size_bytes)
        assert verification.totals(tx, since=NOW + 10) == (5 * size_bytes, size_bytes)
        assert verification.totals(tx, since=NOW + 20) == (5 * size_bytes, 0)

    await database.transaction(act)
