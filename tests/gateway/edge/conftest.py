"""One assembled `House` for each test of the edge, and its guard."""

import pytest

from gateway.edge.guard import Guard
from storage import RepositoryRecord
from tests.gateway.access.conftest import clock, house
from tests.gateway.access.house import SERVICE, House

__all__ = ["clock", "house"]


@pytest.fixture
def guard(house: House) -> Guard:
    """The guard of that house."""
    return Guard(database=house.database, authenticator=house.authenticator, service=SERVICE)


@pytest.fixture
async def repository(house: House) -> RepositoryRecord:
    """The private repository `acme/images`."""
    return await house.repository()
