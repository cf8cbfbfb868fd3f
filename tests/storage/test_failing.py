"""The failing store is a store: while nothing is armed it keeps the contract, and what is armed fails once."""

from pathlib import Path

import pytest

from storage import BlobStore, Unavailable
from tests.storage.blobstore_contract import BlobStoreContract
from tests.storage.directory import Directory
from tests.storage.failing import FailingStore, Faults


class FailingPlace:
    """A directory, opened through points that never fail."""

    def __init__(self, root: Path) -> None:
        self._directory = Directory(root)

    async def open(self) -> BlobStore:
        """A new store over the directory."""
        return FailingStore(await self._directory.open(), Faults())

    async def cut(self, key: str, size_bytes: int) -> None:
        """Truncate the object's file."""
        await self._directory.cut(key, size_bytes)


class TestFailingStore(BlobStoreContract):
    """The contract."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> FailingPlace:
        """A new directory."""
        return FailingPlace(tmp_path / "store")


def test_exactly_the_armed_point_fails() -> None:
    """Points before and after the armed one pass, and it tells where it was."""
    faults = Faults()
    faults.arm(1, Unavailable("as planned"))
    faults.point("first")
    with pytest.raises(Unavailable, match="as planned"):
        faults.point("second")
    faults.point("third")
    assert (faults.passed, faults.failed_at) == (["first", "second", "third"], "second")
