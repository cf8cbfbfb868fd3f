"""What staging areas of every blob store must do; part of `blobstore_contract`, where it says how to use it."""

import pytest

from storage.blobstore import BlobStore
from storage.digest import Digest, Hasher
from storage.errors import Busy, UploadUnknown
from tests.storage.place import (
    HOSTILE_IDS,
    LARGE,
    SMALL,
    Place,
    areas_of,
    content_of,
    drop,
    hand_over,
    objects_of,
    put,
    stage,
)


class StagingContract:
    """From the first byte to publish, discard and drop."""

    @pytest.fixture
    async def store(self, place: Place) -> BlobStore:
        """A ready store."""
        return await place.open()

    # --- staging: holding ---------------------------------------------------------------------------------------

    async def test_new_area_is_empty(self, store: BlobStore) -> None:
        """With `create`, an area that is not there is made empty, under the caller's id."""
        async with store.stage("new", create=True) as staging:
            assert (staging.staging_id, staging.offset) == ("new", 0)

    async def test_area_keeps_its_bytes(self, store: BlobStore) -> None:
        """Leaving lets go and keeps the bytes, so that the next holder finds them, with `create` or without."""
        await stage(store, "kept", SMALL)
        for create in (False, True):
            async with store.stage("kept", create=create) as staging:
                hasher = Hasher()
                await staging.rehash(hasher)
                assert (staging.offset, hasher.digest()) == (len(SMALL), Digest.of(SMALL))

    async def test_area_survives_restart(self, place: Place) -> None:
        """Another store over the same place holds the area that the first one made."""
        await stage(await place.open(), "restart", SMALL)
        async with (await place.open()).stage("restart", create=False) as staging:
            assert staging.offset == len(SMALL)

    async def test_unknown_area(self, store: BlobStore) -> None:
        """An area that should exist and does not is unknown, and asking does not make it."""
        with pytest.raises(UploadUnknown):
            async with store.stage("nowhere", create=False):
                pass
        assert await areas_of(store) == {}

    @pytest.mark.parametrize("create", [False, True])
    async def test_held_area_is_busy(self, place: Place, *, create: bool) -> None:
        """An area is held by one at a time, over all stores of the place, and free again afterwards."""
        store, other = await place.open(), await place.open()
        async with store.stage("held", create=True):
            for each in (store, other):
                with pytest.raises(Busy):
                    async with each.stage("held", create=create):
                        pass
        async with other.stage("held", create=False):
            pass

    @pytest.mark.parametrize("staging_id", HOSTILE_IDS)
    async def test_hostile_staging_id(self, store: BlobStore, staging_id: str) -> None:
        """An id outside the grammar is the caller's mistake and names nothing."""
        with pytest.raises(ValueError, match="staging id"):
            async with store.stage(staging_id, create=True):
                pass
        assert await areas_of(store) == {}

    async def test_longest_staging_id(self, store: BlobStore) -> None:
        """64 characters are an id like any other, dashes and digits included."""
        staging_id = "-0z" + "x" * 61
        stored = await put(store, staging_id, SMALL)
        assert await content_of(store, stored) == SMALL

    # --- staging: bytes -----------------------------------------------------------------------------------------

    async def test_write_appends_and_hashes(self, store: BlobStore) -> None:
        """Chunks of any byte-like kind are appended in order and fed to the hasher."""
        async with store.stage("chunks", create=True) as staging:
            hasher = Hasher()
            for chunk in (b"one", bytearray(b"two"), memoryview(b"-three-")[1:6]):
                await staging.write(chunk, hasher)
            assert (staging.offset, hasher.size_bytes) == (11, 11)
            assert hasher.digest() == Digest.of(b"onetwothree")
            assert await content_of(store, await staging.publish(hasher.digest())) == b"onetwothree"

    async def test_writer_appends_and_hashes(self, store: BlobStore) -> None:
        """Parts that are handed over in a thread follow what was written before, and are there for what comes next."""
        async with store.stage("parts", create=True) as staging:
            hasher = Hasher()
            await staging.write(b"one", hasher)
            writer = await staging.writer(hasher)
            if writer is None:
                pytest.skip("this store takes bytes on the loop only")
            buffer = bytearray(b"-two-three")
            await hand_over(writer, memoryview(buffer)[1:4], b"-")
            await hand_over(writer)
            await hand_over(writer, b"")
            await hand_over(writer, memoryview(buffer)[5:])
            buffer[:] = b"x" * len(buffer)  # nothing was kept
            await staging.write(b"!", hasher)
            assert (staging.offset, hasher.size_bytes) == (13, 13)
            assert hasher.digest() == Digest.of(b"onetwo-three!")
            assert await content_of(store, await staging.publish(hasher.digest())) == b"onetwo-three!"

    async def test_writer_after_publish(self, store: BlobStore) -> None:
        """A writer that is asked for after a publish leaves the object alone, as `write` does."""
        async with store.stage("resumed", create=True) as staging:
            hasher = Hasher()
            await staging.write(SMALL, hasher)
            first = await staging.publish(hasher.digest())
            writer = await staging.writer(hasher)
            if writer is None:
                pytest.skip("this store takes bytes on the loop only")
            await hand_over(writer, LARGE)
            second = await staging.publish(hasher.digest())
            assert staging.offset == len(SMALL + LARGE)
        assert await content_of(store, first) == SMALL
        assert await content_of(store, second) == SMALL + LARGE

    async def test_writer_after_discard(self, store: BlobStore) -> None:
        """A discarded area gives no writer, and the one it gave takes nothing."""
        async with store.stage("dropped", create=True) as staging:
            hasher = Hasher()
            writer = await staging.writer(hasher)
            await staging.discard()
            if writer is None:
                pytest.skip("this store takes bytes on the loop only")
            with pytest.raises(UploadUnknown):
                await staging.writer(hasher)
            with pytest.raises(UploadUnknown):
                await hand_over(writer, SMALL)
            assert hasher.size_bytes == 0
        assert await areas_of(store) == {}

    async def test_largest_chunk(self, store: BlobStore) -> None:
        """A chunk of 4 MiB goes in at once."""
        content = bytes(range(256)) * (4 << 12)
        assert await content_of(store, await put(store, "large", content)) == content

    async def test_rehash_with_another_algorithm(self, store: BlobStore) -> None:
        """Staged bytes can be hashed again, with any algorithm, and stay as they are."""
        async with store.stage("again", create=True) as staging:
            await staging.write(LARGE, Hasher())
            hasher = Hasher("sha512")
            await staging.rehash(hasher)
            assert hasher.digest() == Digest.of(LARGE, "sha512")
            assert staging.offset == len(LARGE)

    async def test_truncate_forgets_the_end(self, store: BlobStore) -> None:
        """Bytes beyond the new size leave no trace, and what comes next follows directly."""
        async with store.stage("cut", create=True) as staging:
            await staging.write(b"keep this, forget that", Hasher())
            await staging.truncate(9)
            assert staging.offset == 9
            await staging.write(b"!", Hasher())
            assert await content_of(store, await staging.publish(Digest.of(b"keep this!"))) == b"keep this!"

    @pytest.mark.parametrize("size_bytes", [-1, 4])
    async def test_truncate_cannot_grow(self, store: BlobStore, size_bytes: int) -> None:
        """A size beyond the offset (or below zero) is the caller's mistake and changes nothing."""
        async with store.stage("grow", create=True) as staging:
            await staging.write(b"abc", Hasher())
            with pytest.raises(ValueError, match="truncate"):
                await staging.truncate(size_bytes)
            assert staging.offset == 3

    # --- staging: publish, discard, drop ------------------------------------------------------------------------

    async def test_nothing_is_visible_before_publish(self, store: BlobStore) -> None:
        """Staged bytes are no object."""
        async with store.stage("hidden", create=True) as staging:
            await staging.write(SMALL, Hasher())
            assert await objects_of(store) == {}

    @pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
    async def test_publish(self, place: Place, content: bytes) -> None:
        """A published object says truly what it is and is there after a restart."""
        stored = await put(await place.open(), "published", content)
        store = await place.open()
        assert (stored.digest, stored.size_bytes) == (Digest.of(content), len(content))
        assert stored.encoding in {"identity", "zstd"}
        assert stored.encoding == "zstd" or stored.stored_bytes == len(content)
        assert stored.digest.hex in stored.key
        assert await store.stat(stored.key) == stored
        assert await objects_of(store) == {stored.key: stored}
        assert await content_of(store, stored) == content

    async def test_publish_again_gives_the_same(self, place: Place) -> None:
        """An interrupted commit is repeated: the same holder, the next one, and one after a restart get one object."""
        store = await place.open()
        async with store.stage("repeated", create=True) as staging:
            await staging.write(LARGE, Hasher())
            first = await staging.publish(Digest.of(LARGE))
            assert await staging.publish(Digest.of(LARGE)) == first
        for each in (store, await place.open()):
            async with each.stage("repeated", create=False) as staging:
                assert staging.offset == len(LARGE)
                assert await staging.publish(Digest.of(LARGE)) == first
        assert list(await objects_of(store)) == [first.key]

    async def test_every_area_makes_its_own_key(self, store: BlobStore) -> None:
        """Two publishes of the same bytes make two keys, so removing one leaves the other."""
        first, second = await put(store, "first", SMALL), await put(store, "second", SMALL)
        assert first.key != second.key
        await store.remove(first.key)
        assert await content_of(store, second) == SMALL

    async def test_published_object_never_changes(self, store: BlobStore) -> None:
        """Whatever is done to the area after publish, the object stays, and other bytes make another object."""
        async with store.stage("reused", create=True) as staging:
            await staging.write(SMALL, Hasher())
            first = await staging.publish(Digest.of(SMALL))
            await staging.write(b"!", Hasher())
            assert staging.offset == len(SMALL) + 1
            second = await staging.publish(Digest.of(SMALL + b"!"))
            await staging.truncate(7)
            await staging.discard()
        assert await content_of(store, first) == SMALL
        assert await content_of(store, second) == SMALL + b"!"

    async def test_objects_are_named_by_sha256(self, store: BlobStore) -> None:
        """A digest of another algorithm is refused: the key could not be told from the bytes."""
        async with store.stage("sha512", create=True) as staging:
            with pytest.raises(ValueError, match="sha256"):
                await staging.publish(Digest.of(b"", "sha512"))
        assert await objects_of(store) == {}

    async def test_discard(self, store: BlobStore) -> None:
        """Discarding removes the area, may be repeated, and after it the area is unknown to its own holder too."""
        async with store.stage("discarded", create=True) as staging:
            await staging.write(SMALL, Hasher())
            await staging.discard()
            await staging.discard()
            with pytest.raises(UploadUnknown):
                await staging.write(SMALL, Hasher())
            with pytest.raises(UploadUnknown):
                await staging.publish(Digest.of(SMALL))
        assert await areas_of(store) == {}
        with pytest.raises(UploadUnknown):
            async with store.stage("discarded", create=False):
                pass

    async def test_discard_by_a_later_holder(self, place: Place) -> None:
        """After a crash between publish and its row, a later holder learns which object nobody knows of."""
        async with (await place.open()).stage("crashed", create=True) as staging:
            await staging.write(LARGE, Hasher())
            stored = await staging.publish(Digest.of(LARGE))
        store = await place.open()
        assert await drop(store, "crashed") == stored
        assert await areas_of(store) == {}
        assert await content_of(store, stored) == LARGE

    async def test_published(self, place: Place) -> None:
        """The holder of an area learns what was published from it, also after a restart, as long as it is there."""
        store = await place.open()
        async with store.stage("told", create=True) as staging:
            assert await staging.published() is None
            await staging.write(SMALL, Hasher())
            stored = await staging.publish(Digest.of(SMALL))
            assert await staging.published() == stored
        store = await place.open()
        async with store.stage("told", create=False) as staging:
            assert await staging.published() == stored
            await staging.discard()
            assert await staging.published() is None
        assert await content_of(store, stored) == SMALL

    async def test_published_object_that_went(self, store: BlobStore) -> None:
        """An object that was removed meanwhile is not told of."""
        async with store.stage("removed", create=True) as staging:
            await staging.write(SMALL, Hasher())
            await store.remove((await staging.publish(Digest.of(SMALL))).key)
            assert await staging.published() is None

    async def test_scan_staging(self, store: BlobStore) -> None:
        """All areas are listed, held ones too, with the time of their last change."""
        before = await self._now(store)
        await stage(store, "one", SMALL)
        async with store.stage("two", create=True):
            areas = await areas_of(store)
        assert set(areas) == {"one", "two"}
        assert all(before <= changed_at <= before + 60 for changed_at in areas.values())

    async def _now(self, store: BlobStore) -> int:
        """The store's idea of now: a disk's clock may lag behind the process by some milliseconds."""
        return (await put(store, "clock", b"tick")).created_at
