"""A hot set in front of a store keeps the contract of the store; hits, misses, ranges, and what is never kept."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.intake import Intakes
from tests.storage.blobstore_contract import BlobStoreContract
from tests.storage.directory import Directory
from tests.storage.hotset_place import HotSetPlace
from tests.storage.test_memory import MemoryPlace


@pytest.fixture
async def intakes() -> AsyncIterator[Intakes]:
    """Somewhere for fills to run."""
    async with Intakes.open() as opened:
        yield opened


class TestOverMemory(BlobStoreContract):
    """The contract, over a memory store."""

    @pytest.fixture
    def place(self, intakes: Intakes, tmp_path: Path) -> HotSetPlace:
        """A new store and an empty hot set."""
        return HotSetPlace(MemoryPlace(), tmp_path / "hot", intakes)


class TestOverDirectory(BlobStoreContract):
    """The contract, over a filesystem store, compressed or not."""

    @pytest.fixture(params=["off", "auto"])
    def place(self, request: pytest.FixtureRequest, intakes: Intakes, tmp_path: Path) -> HotSetPlace:
        """A new store and an empty hot set."""
        return HotSetPlace(Directory(tmp_path / "store", compression=request.param), tmp_path / "hot", intakes)
