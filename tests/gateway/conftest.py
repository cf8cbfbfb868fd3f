"""A database for tests of what puts the gateway together, and a registry made of all of it."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.registry import Registry
from tests.storage.conftest import database, database_file, migrated_file

__all__ = ["database", "database_file", "migrated_file"]


@pytest.fixture
def data_directory(migrated_file: Path, tmp_path: Path) -> Path:
    """A data directory with an empty database of this version."""
    directory = tmp_path / "registry"
    directory.mkdir()
    shutil.copy(migrated_file, directory / "sluice.db")
    return directory


@pytest.fixture
async def registry(data_directory: Path) -> AsyncIterator[Registry]:
    """A registry with default settings that no other test sees."""
    async with Registry.open(data_directory) as opened:
        yield opened
