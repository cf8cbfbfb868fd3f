"""Rows are the same on both databases: what asks for `database` here runs once on each."""

from collections.abc import AsyncIterator

import pytest

from storage import Database, PostgresDatabase, SqliteDatabase


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])])
def closed_database(request: pytest.FixtureRequest) -> Database:
    """A migrated, empty database that nobody has opened."""
    if request.param == "sqlite":
        return SqliteDatabase(request.getfixturevalue("database_file"))
    return PostgresDatabase(request.getfixturevalue("rows_url"), connections=5)


@pytest.fixture
async def database(closed_database: Database) -> AsyncIterator[Database]:
    """The same, open."""
    async with closed_database as opened:
        yield opened
