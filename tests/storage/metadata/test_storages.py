"""Named storages get one row each, for ever."""

from storage import Database, Transaction
from storage.metadata import storages
from tests.storage.metadata.pieces import blob, image


async def test_a_name_has_one_row_however_often_it_is_asked_for(database: Database) -> None:
    """`ensure` gives the same id for the same name and another for another."""
    first = await database.transaction(storages.ensure, "default")
    assert await database.transaction(storages.ensure, "default") == first
    other = await database.transaction(storages.ensure, "archive")
    assert await database.read(storages.names) == {first: "default", other: "archive"}


async def test_blobs_are_counted_by_storage(database: Database) -> None:
    """Only the blobs of the storage in question count, and a name that has no row has none."""

    def act(tx: Transaction) -> None:
        image(tx)
        blob(tx, "a")
        blob(tx, "b")
        (name,) = storages.names(tx).values()
        storages.ensure(tx, "archive")
        assert [storages.blob_count(tx, each) for each in (name, "archive", "unknown")] == [2, 0, 0]

    await database.transaction(act)
