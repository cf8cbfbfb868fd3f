"""What every blob store must do, as tests: a store's own test file gives a `place` and inherits the suite.

    class TestMyStore(BlobStoreContract):
        @pytest.fixture
        def place(self) -> Place: ...

Each test proves a sentence of `storage/blobstore.py`. Faults that only one kind of store can have are in its own file.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
import trio

from storage.blobstore import CHUNK_BYTES, BlobReader, BlobStore, Span, Staging, StoredObject
from storage.digest import Digest, Hasher
from storage.errors import BlobUnknown, Busy, Damaged, UploadUnknown

SMALL = b"a small blob, as image configurations are"
LARGE = bytes(range(251)) * 2611 + b"the end"  # two and a half chunks, and no period of a power of two
SPANS = [
    (0, 0),
    (0, 1),
    (0, len(LARGE)),
    (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
    (CHUNK_BYTES, 2 * CHUNK_BYTES),
    (len(LARGE) - 1, len(LARGE)),
    (len(LARGE), len(LARGE)),
    (17, len(LARGE) - 17),
]
HOSTILE_IDS = ["", ".", "..", "../x", "a/b", "/etc/passwd", "A", "a.key", "a\0b", "a\n", "ä", "x" * 65]
HOSTILE_KEYS = ["", ".", "..", "/etc/passwd", "../../etc/passwd", "staging/a", "blobs/sha256", "a\0b", "x" * 5000]


class Place(Protocol):
    """Where a store lies, as somebody who can restart it and damage it sees it."""

    async def open(self) -> BlobStore:
        """A store that is ready for use; the second one sees what the first one stored."""
        ...

    async def cut(self, key: str, size_bytes: int) -> None:
        """Damage the object, behind the store's back: keep only its first bytes."""
        ...


async def stage(store: BlobStore, staging_id: str, content: bytes) -> None:
    """Leave the bytes in a new staging area."""
    async with store.stage(staging_id, create=True) as staging:
        if content:
            await staging.write(content, Hasher())


async def put(store: BlobStore, staging_id: str, content: bytes) -> StoredObject:
    """Publish the bytes and discard the staging area."""
    async with store.stage(staging_id, create=True) as staging:
        for start in range(0, len(content), 1 << 20):
            await staging.write(content[start : start + (1 << 20)], Hasher())
        stored = await staging.publish(Digest.of(content))
        await staging.discard()
    return stored


async def read(reader: BlobReader) -> bytes:
    """All chunks, each of a size that the contract allows."""
    content = bytearray()
    async for chunk in reader.chunks():
        assert 1 <= len(chunk) <= CHUNK_BYTES
        content += chunk
    return bytes(content)


async def content_of(store: BlobStore, stored: StoredObject, span: Span | None = None) -> bytes:
    """The bytes of a span, by default of the whole blob."""
    async with store.open(stored, span or Span(0, stored.size_bytes)) as reader:
        return await read(reader)


async def objects_of(store: BlobStore) -> dict[str, StoredObject]:
    """What `scan` lists, by key."""
    async with store.scan() as objects:
        return {stored.key: stored async for stored in objects}


async def areas_of(store: BlobStore) -> dict[str, int]:
    """What `scan_staging` lists."""
    async with store.scan_staging() as areas:
        return dict([area async for area in areas])


class BlobStoreContract:
    """The suite. Subclasses give the fixture `place`."""

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
                with pytest.raises(Busy):
                    await each.drop_staging("held")
        async with other.stage("held", create=False):
            pass

    @pytest.mark.parametrize("staging_id", HOSTILE_IDS)
    async def test_hostile_staging_id(self, store: BlobStore, staging_id: str) -> None:
        """An id outside the grammar is the caller's mistake and names nothing."""
        with pytest.raises(ValueError, match="staging id"):
            async with store.stage(staging_id, create=True):
                pass
        with pytest.raises(ValueError, match="staging id"):
            await store.drop_staging(staging_id)
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

    async def test_drop_staging(self, store: BlobStore) -> None:
        """An abandoned area goes, with its bytes; an absent one is fine."""
        await stage(store, "abandoned", SMALL)
        assert await store.drop_staging("abandoned") is None
        assert await areas_of(store) == {}
        assert await store.drop_staging("abandoned") is None

    async def test_drop_staging_tells_what_was_published(self, place: Place) -> None:
        """After a crash between publish and its row, dropping the area tells which object nobody knows of."""
        async with (await place.open()).stage("crashed", create=True) as staging:
            await staging.write(LARGE, Hasher())
            stored = await staging.publish(Digest.of(LARGE))
        store = await place.open()
        assert await store.drop_staging("crashed") == stored.key
        assert await content_of(store, stored) == LARGE

    async def test_drop_staging_after_the_object_went(self, store: BlobStore) -> None:
        """An object that was removed already is not named."""
        async with store.stage("removed", create=True) as staging:
            await staging.write(SMALL, Hasher())
            await store.remove((await staging.publish(Digest.of(SMALL))).key)
        assert await store.drop_staging("removed") is None

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

    # --- objects ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("start", "stop"), SPANS)
    async def test_spans(self, store: BlobStore, start: int, stop: int) -> None:
        """Any span gives exactly its bytes, through chunks and, where there is one, through the file."""
        stored = await put(store, "spans", LARGE)
        async with store.open(stored, Span(start, stop)) as reader:
            assert await read(reader) == LARGE[start:stop]
            if reader.file is not None:
                assert reader.file.stop - reader.file.start == stop - start
                assert os.pread(reader.file.descriptor, stop - start, reader.file.start) == LARGE[start:stop]

    async def test_file_is_offered_as_promised(self, store: BlobStore) -> None:
        """Stores with files offer one for identity objects; nobody offers one otherwise."""
        stored = await put(store, "file", SMALL)
        async with store.open(stored, Span(0, stored.size_bytes)) as reader:
            expected = store.properties.has_files and stored.encoding == "identity"
            assert (reader.file is not None) == expected

    @pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2, 1), (0, len(SMALL) + 1)])
    async def test_span_outside_of_the_blob(self, store: BlobStore, start: int, stop: int) -> None:
        """A span outside of the blob is the caller's mistake."""
        stored = await put(store, "outside", SMALL)
        with pytest.raises(ValueError, match="span"):
            async with store.open(stored, Span(start, stop)):
                pass

    async def test_absent_object(self, store: BlobStore) -> None:
        """An object that was removed is unknown everywhere, and removing it again is fine."""
        stored = await put(store, "gone", SMALL)
        await store.remove(stored.key)
        await store.remove(stored.key)
        await self._assert_unknown(store, stored)
        assert await objects_of(store) == {}

    @pytest.mark.parametrize("key", HOSTILE_KEYS)
    async def test_hostile_key(self, store: BlobStore, key: str) -> None:
        """A key that the store cannot have made names no object, wherever it points."""
        stored = await put(store, "hostile", SMALL)
        hostile = StoredObject(key, stored.digest, stored.size_bytes, stored.stored_bytes, "identity", 0)
        await self._assert_unknown(store, hostile)
        await store.remove(key)
        assert await content_of(store, stored) == SMALL

    async def _assert_unknown(self, store: BlobStore, stored: StoredObject) -> None:
        with pytest.raises(BlobUnknown):
            await store.stat(stored.key)
        with pytest.raises(BlobUnknown):
            async with store.open(stored, Span(0, 0)):
                pass
        with pytest.raises(BlobUnknown):
            await store.quarantine(stored.key)

    async def test_reader_survives_removal(self, store: BlobStore) -> None:
        """A reader that is open when its object goes reads on to the end, or raises; it never ends early."""
        stored = await put(store, "removed-while-read", LARGE)
        async with store.open(stored, Span(0, len(LARGE))) as reader:
            chunks = reader.chunks()
            content = await anext(chunks)
            await store.remove(stored.key)
            try:
                async for chunk in chunks:
                    content += chunk
            except (BlobUnknown, Damaged):
                assert store.properties.name not in {"filesystem", "memory"}
            else:
                assert content == LARGE

    @pytest.mark.parametrize("size_bytes", [0, 5, len(LARGE) - 1])
    async def test_cut_object_is_damaged(self, place: Place, size_bytes: int) -> None:
        """An object that lost bytes is refused when it is opened."""
        store = await place.open()
        stored = await put(store, "cut-object", LARGE)
        await place.cut(stored.key, size_bytes)
        with pytest.raises(Damaged):
            await content_of(store, stored)

    async def test_grown_object_is_damaged(self, store: BlobStore) -> None:
        """An object that has more bytes than its row says is refused too."""
        stored = await put(store, "grown", LARGE)
        row = StoredObject(stored.key, stored.digest, len(LARGE) - 1, stored.stored_bytes, stored.encoding, 0)
        with pytest.raises(Damaged):
            async with store.open(row, Span(0, 1)):
                pass

    async def test_scan_lists_damaged_objects(self, place: Place) -> None:
        """A damaged object is listed, so that somebody may find it."""
        store = await place.open()
        healthy, damaged = await put(store, "healthy", LARGE), await put(store, "damaged", LARGE)
        await place.cut(damaged.key, 40)
        listed = await objects_of(store)
        assert listed[healthy.key] == healthy
        assert listed[damaged.key].size_bytes != len(LARGE)

    async def test_quarantine(self, store: BlobStore) -> None:
        """An object that was put aside is out of everybody's reach, and putting it aside again is fine."""
        aside, stays = await put(store, "aside", SMALL), await put(store, "stays", SMALL)
        await store.quarantine(aside.key)
        await store.quarantine(aside.key)
        with pytest.raises(BlobUnknown):
            await content_of(store, aside)
        with pytest.raises(BlobUnknown):
            await store.stat(aside.key)
        assert await objects_of(store) == {stays.key: stays}

    async def test_scan_beside_changes(self, store: BlobStore) -> None:
        """What is there all the time is listed, whatever comes and goes meanwhile."""
        stays = {f"stays-{number}": await put(store, f"stays-{number}", b"%d" % number) for number in range(8)}
        goes = [await put(store, f"goes-{number}", b"-%d" % number) for number in range(8)]
        seen = []
        async with store.scan() as objects:
            async for stored in objects:
                seen.append(stored.key)
                if goes:
                    await store.remove(goes.pop().key)
                    await put(store, f"comes-{len(goes)}", b"+%d" % len(goes))
        assert {stored.key for stored in stays.values()} <= set(seen)
        assert len(seen) == len(set(seen))

    async def test_scan_may_be_left_early(self, store: BlobStore) -> None:
        """Leaving a scan in the middle is fine, and the next one starts anew."""
        for number in range(3):
            await put(store, f"early-{number}", b"%d" % number)
        async with store.scan() as objects:
            assert (await anext(objects)).size_bytes == 1
        assert len(await objects_of(store)) == 3

    # --- cancellation -------------------------------------------------------------------------------------------

    async def test_cancelled_before_it_begins(self, store: BlobStore) -> None:
        """A call that is cancelled before it begins raises Cancelled and does nothing."""
        stored = await put(store, "old", SMALL)
        async with store.stage("cancelled", create=True) as staging:
            await staging.write(SMALL, Hasher())
            hasher = Hasher()
            for call in self._calls(store, staging, stored, hasher):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await call()
                assert scope.cancelled_caught
            assert (staging.offset, hasher.size_bytes) == (len(SMALL), 0)
            assert await objects_of(store) == {stored.key: stored}
            assert set(await areas_of(store)) == {"cancelled"}
        async with store.stage("cancelled", create=False) as staging:
            assert staging.offset == len(SMALL)

    def _calls(
        self, store: BlobStore, staging: Staging, stored: StoredObject, hasher: Hasher
    ) -> list[Callable[[], Awaitable[object]]]:
        return [
            lambda: staging.write(b"more", hasher),
            lambda: staging.rehash(hasher),
            lambda: staging.truncate(0),
            lambda: staging.publish(Digest.of(SMALL)),
            staging.discard,
            lambda: stage(store, "never", SMALL),
            lambda: store.drop_staging("cancelled"),
            lambda: content_of(store, stored),
            lambda: store.stat(stored.key),
            lambda: store.remove(stored.key),
            lambda: store.quarantine(stored.key),
            lambda: objects_of(store),
            lambda: areas_of(store),
        ]

    @pytest.mark.parametrize("turns", range(8))
    async def test_cancelled_write_is_all_or_nothing(self, store: BlobStore, turns: int) -> None:
        """However late a write is cancelled, the offset and the hasher moved together or not at all."""
        async with store.stage("torn", create=True) as staging:
            hasher = Hasher()
            await staging.write(SMALL, hasher)
            await cancel_after(turns, lambda: staging.write(LARGE, hasher))
            assert staging.offset == hasher.size_bytes
            assert hasher.digest() == Digest.of((SMALL + LARGE)[: staging.offset])
            again = Hasher()
            await staging.rehash(again)
            assert again.digest() == hasher.digest()

    @pytest.mark.parametrize("turns", range(8))
    async def test_cancelled_publish_is_all_or_nothing(self, store: BlobStore, turns: int) -> None:
        """However late a publish is cancelled, there is no object or the whole one, and it can be repeated."""
        async with store.stage("interrupted", create=True) as staging:
            await staging.write(LARGE, Hasher())
            await cancel_after(turns, lambda: staging.publish(Digest.of(LARGE)))
            before = await objects_of(store)
            stored = await staging.publish(Digest.of(LARGE))
            assert before in ({}, {stored.key: stored})
        assert await content_of(store, stored) == LARGE

    async def test_cancelled_holder_lets_go(self, store: BlobStore) -> None:
        """A holder that is cancelled lets go, and so does a reader."""
        stored = await put(store, "read", SMALL)
        with trio.CancelScope() as scope:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(store.stage("left", create=True))
                await stack.enter_async_context(store.open(stored, Span(0, 1)))
                scope.cancel()
                await trio.sleep_forever()
        async with store.stage("left", create=False) as staging:
            assert staging.offset == 0


async def cancel_after(turns: int, call: Callable[[], Awaitable[object]]) -> None:
    """Run the call and cancel it after so many turns of the scheduler."""

    async def count_down(scope: trio.CancelScope) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_down, nursery.cancel_scope)
        await call()
        nursery.cancel_scope.cancel()
