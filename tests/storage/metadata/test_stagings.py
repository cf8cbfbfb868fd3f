"""Rows of staging areas: one holder, nothing changed by who lost the hold, and pieces that go with the state."""

from sqlalchemy import Connection

from storage import Database, Transaction
from storage.metadata import stagings, storages
from storage.metadata.stagings import StagingRow

NOW = 1_000_000


def area(tx: Connection, staging_id: str = "a", *, holder: str | None = "one") -> int:
    """An area that is held until NOW + 10; gives its storage."""
    storage_id = storages.ensure(tx, "main")
    stagings.insert(tx, storage_id, staging_id, StagingRow(1, holder, NOW + 10, "first", NOW))
    return storage_id


def put(tx: Connection, storage_id: int, holder: str, state: str, **changes: object) -> int | None:
    """Save a state and hold on."""
    values = {"until": NOW + 20, "keep": (), "add": {}, "now": NOW + 1} | changes
    return stagings.save(tx, storage_id, "a", holder=holder, state=state, **values)  # type: ignore[arg-type]


async def test_save_and_let_go(database: Database) -> None:
    """A holder writes the state, and the version grows with it; letting go leaves no holder."""

    def work(tx: Transaction) -> None:
        storage_id = area(tx)
        assert put(tx, storage_id, "one", "second") == 2
        assert stagings.find(tx, storage_id, "a") == StagingRow(2, "one", NOW + 20, "second", NOW + 1)
        assert put(tx, storage_id, "one", "third", until=None) == 3
        assert stagings.find(tx, storage_id, "a") == StagingRow(3, None, 0, "third", NOW + 1)
        assert put(tx, storage_id, "one", "late") is None

    await database.transaction(work)


async def test_nobody_else_changes_anything(database: Database) -> None:
    """Whoever does not hold the area can neither save, renew, release nor delete it."""

    def work(tx: Transaction) -> None:
        storage_id = area(tx)
        before = stagings.find(tx, storage_id, "a")
        assert put(tx, storage_id, "two", "stolen", add={0: b"stolen"}) is None
        assert not stagings.renew(tx, storage_id, "a", holder="two", until=NOW + 99, now=NOW)
        assert not stagings.delete(tx, storage_id, "a", holder="two")
        stagings.release(tx, storage_id, "a", holder="two")
        assert stagings.find(tx, storage_id, "a") == before
        assert stagings.contents(tx, storage_id, "a") == {}

    await database.transaction(work)


async def test_take_after_a_lapse(database: Database) -> None:
    """The next holder's word and state are written at once, and the former one's hold is over."""

    def work(tx: Transaction) -> None:
        storage_id = area(tx)
        seen = stagings.find(tx, storage_id, "a")
        assert seen is not None
        stagings.take(tx, storage_id, "a", seen=seen, holder="two", until=NOW + 30, state="next", now=NOW + 11)
        assert stagings.find(tx, storage_id, "a") == StagingRow(2, "two", NOW + 30, "next", NOW + 11)
        assert put(tx, storage_id, "one", "late") is None
        assert stagings.renew(tx, storage_id, "a", holder="two", until=NOW + 40, now=NOW + 12)

    await database.transaction(work)


def test_when_an_area_is_held() -> None:
    """Until its end, if there is a holder; an end that lies absurdly far ahead was written by a wrong clock."""
    row = StagingRow(1, "one", NOW + 10, "", NOW)
    assert row.is_held(now=NOW, lifetime_s=10)
    assert not row.is_held(now=NOW + 10, lifetime_s=10)
    assert not row.is_held(now=NOW - 1000, lifetime_s=10)
    assert not StagingRow(1, None, NOW + 10, "", NOW).is_held(now=NOW, lifetime_s=10)


async def test_pieces_follow_the_state(database: Database) -> None:
    """Pieces that the new state does not keep go, new ones come, in the same act; all of them go with the row."""

    def work(tx: Transaction) -> None:
        storage_id = area(tx)
        area(tx, "b")
        put(tx, storage_id, "one", "s", add={0: b"zero", 4: b"four"})
        put(tx, storage_id, "one", "s", keep=[0], add={4: b"other", 9: b"nine"})
        assert stagings.contents(tx, storage_id, "a") == {0: b"zero", 4: b"other", 9: b"nine"}
        assert stagings.contents(tx, storage_id, "b") == {}
        assert stagings.delete(tx, storage_id, "a", holder="one")
        assert stagings.contents(tx, storage_id, "a") == {}
        assert stagings.find(tx, storage_id, "a") is None

    await database.transaction(work)


async def test_listings_go_page_by_page(database: Database) -> None:
    """Areas and states come in the order of ids, those of one storage, behind the one that was last seen."""

    def work(tx: Transaction) -> None:
        storage_id = area(tx, "b")
        for staging_id in ("a", "c"):
            area(tx, staging_id, holder=None)
        assert stagings.areas(tx, storage_id, after="", limit=2) == [("a", NOW), ("b", NOW)]
        assert stagings.areas(tx, storage_id, after="b", limit=2) == [("c", NOW)]
        assert stagings.states(tx, storage_id, after="a", limit=9) == [("b", "first"), ("c", "first")]
        assert stagings.areas(tx, storage_id + 1, after="", limit=2) == []

    await database.transaction(work)
