"""A fresh copy of the same installation for each test, with the application in this process."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from gateway.app import build, open_services
from gateway.config import Settings, Storage
from tests.gateway.api.installation import Installation, furnish


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory to copy; nobody has it open."""
    data = tmp_path_factory.mktemp("furnished") / "data"
    trio.run(furnish, Settings(storage=Storage(data=data)))
    return data


@pytest.fixture
async def installation(furnished: Path, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation that no other test sees."""
    data = tmp_path / "data"
    shutil.copytree(furnished, data)
    async with open_services(Settings(storage=Storage(data=data))) as services:
        yield Installation(services, build(services).test_client())
