"""The memory store keeps the contract; what only it has is its clock and its statistics."""

import pytest

from storage.blobstore import BlobStore, Span
from storage.digest import Digest, Hasher
from storage.memory import MemoryStatistics, MemoryStore
from tests.storage.blobstore_contract import BlobStoreContract
from tests.storage.place import areas_of, put


class MemoryPlace:
    """One store; a "restart" finds it again because nothing else could be meant."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    async def open(self) -> BlobStore:
        """The same store each time."""
        await self.store.prepare()
        return self.store

    async def cut(self, key: str, size_bytes: int) -> None:
        """Replace the object's bytes."""
        found = self.store._objects[key]
        self.store._objects[key] = type(found)(found.digest, found.content[:size_bytes], found.created_at)


class TestMemoryStore(BlobStoreContract):
    """The contract."""

    @pytest.fixture
    def place(self) -> MemoryPlace:
        """A new store."""
        return MemoryPlace()


async def test_clock() -> None:
    """Objects and areas carry the time of the clock that was given."""
    now = 100.9
    store = MemoryStore(clock=lambda: now)
    async with store.stage("timed", create=True) as staging:
        now = 200.9
        await staging.write(b"x", Hasher())
        assert await areas_of(store) == {"timed": 200}
        now = 300.9
        assert (await staging.publish(Digest.of(b"x"))).created_at == 300


async def test_statistics() -> None:
    """What is held now is counted, and given back when it is let go."""
    store = MemoryStore()
    stored = await put(store, "counted", b"four")
    async with store.stage("held", create=True), store.open(stored, Span(0, 1)):
        assert store.statistics() == MemoryStatistics(staging_held=1, readers_open=1, stored_bytes=4)
    await store.remove(stored.key)
    assert store.statistics() == MemoryStatistics(staging_held=0, readers_open=0, stored_bytes=0)


async def test_staging_after_its_context() -> None:
    """A staging area that was let go cannot be used through the old hold."""
    async with MemoryStore().stage("left", create=True) as staging:
        pass
    with pytest.raises(ValueError, match="no longer held"):
        await staging.write(b"x", Hasher())
