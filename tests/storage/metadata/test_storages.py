"""Named storages get one row each, for ever."""

from storage import Database
from storage.metadata import storages


async def test_a_name_has_one_row_however_often_it_is_asked_for(database: Database) -> None:
    """`ensure` gives the same id for the same name and another for another."""
    first = await database.transaction(storages.ensure, "default")
    assert await database.transaction(storages.ensure, "default") == first
    other = await database.transaction(storages.ensure, "archive")
    assert await database.read(storages.names) == {first: "default", other: "archive"}
