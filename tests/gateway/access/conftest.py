"""A database and one assembled `House` for each test."""

import pytest

from storage import Database
from tests.gateway.access.house import Clock, House
from tests.storage.conftest import database, database_file, migrated_file

__all__ = ["database", "database_file", "migrated_file"]


@pytest.fixture
def clock() -> Clock:
    """A clock that stands until it is set."""
    return Clock()


@pytest.fixture
async def house(database: Database, clock: Clock) -> House:
    """One process of the gateway over an empty database."""
    return await House.build(database, clock)
