"""A store whose whole blobs are checked keeps the contract, and gives nobody the end of wrong bytes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from storage.blobstore import BlobStore, Span, StoredObject
from storage.checked_store import CheckedStore
from storage.errors import Damaged
from storage.intake import Intakes
from tests.storage.blobstore_contract import BlobStoreContract
from tests.storage.directory import Directory
from tests.storage.hotset_place import OddStore
from tests.storage.place import LARGE, Place, content_of, put
from tests.storage.test_memory import MemoryPlace


@pytest.fixture
async def intakes() -> AsyncIterator[Intakes]:
    """Somewhere for reports to run."""
    async with Intakes.open() as opened:
        yield opened


class CheckedPlace:
    """A checked store over another place."""

    def __init__(self, origin: Place, intakes: Intakes) -> None:
        self.origin = origin
        self.intakes = intakes

    async def open(self) -> BlobStore:
        """A new store, as after a restart."""
        return CheckedStore(await self.origin.open(), self.intakes)

    async def cut(self, key: str, size_bytes: int) -> None:
        """Damage the origin's object."""
        await self.origin.cut(key, size_bytes)


class TestOverMemory(BlobStoreContract):
    """The contract, over a memory store."""

    @pytest.fixture
    def place(self, intakes: Intakes) -> CheckedPlace:
        """A new store."""
        return CheckedPlace(MemoryPlace(), intakes)


class TestOverDirectory(BlobStoreContract):
    """The contract, over a filesystem store that compresses."""

    @pytest.fixture
    def place(self, intakes: Intakes, tmp_path: Path) -> CheckedPlace:
        """A new store."""
        return CheckedPlace(Directory(tmp_path / "store", compression="auto"), intakes)


@pytest.mark.parametrize("wrong", [0, len(LARGE) // 2, len(LARGE) - 1])
async def test_wrong_bytes(intakes: Intakes, wrong: int) -> None:
    """A whole blob with a wrong byte anywhere is never complete, and reported once for each reader."""
    origin = OddStore()
    stored = await put(origin, "one", LARGE)
    reported: list[StoredObject] = []

    async def report(found: StoredObject) -> None:
        reported.append(found)

    store = CheckedStore(origin, intakes, on_damage=report)
    origin.behaviour.flips = {wrong}
    with pytest.raises(Damaged):
        await content_of(store, stored)
    await trio.testing.wait_all_tasks_blocked()
    assert reported == [stored]
    origin.behaviour.flips = set()
    assert await content_of(store, stored) == LARGE


async def test_spans_are_given_as_they_come(intakes: Intakes) -> None:
    """A part cannot be checked, and is not held back."""
    origin = OddStore()
    stored = await put(origin, "one", LARGE)
    origin.behaviour.flips = {0}
    store = CheckedStore(origin, intakes)
    assert await content_of(store, stored, Span(1, len(LARGE))) == LARGE[1:]
