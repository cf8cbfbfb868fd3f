"""Rows are the same on both databases: what asks for `database` here runs once on each."""

from collections.abc import AsyncIterator, Iterator

import pytest

from storage import Database, PostgresDatabase, SqliteDatabase
from storage.metadata.tables import metadata
from tests.servers.postgres import PostgresServer

_EMPTY = f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"


@pytest.fixture(scope="session")
def rows_database(postgres: PostgresServer) -> Iterator[str]:
    """The name of a migrated database that tests empty before they use it: quicker than one for each."""
    name = postgres.new_database()
    yield name
    postgres.drop(name)


@pytest.fixture
def rows_url(postgres: PostgresServer, rows_database: str) -> str:
    """The URL of a migrated database without rows, whose ids begin with 1."""
    postgres.execute(_EMPTY, rows_database)
    return postgres.url_of(rows_database, "socket")


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
