"""What every blob store must do, as tests: a store's own test file gives a `place` and inherits the suite.

    class TestMyStore(BlobStoreContract):
        @pytest.fixture
        def place(self) -> Place: ...

Each test proves a sentence of `storage/blobstore.py`. Faults that only one kind of store can have are in its own file.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from storage.blobstore import CHUNK_BYTES, BlobStore, Span, Staging, StoredObject
from storage.digest import Digest, Hasher
from storage.errors import BlobUnknown, Damaged, Unavailable
from tests.storage.directory import open_names
from tests.storage.place import (
    HOSTILE_KEYS,
    LARGE,
    SMALL,
    Place,
    areas_of,
    cancel_after,
    content_of,
    drop,
    objects_of,
    put,
    read,
    stage,
)
from tests.storage.staging_contract import StagingContract

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


class BlobStoreContract(StagingContract):
    """The suite. Subclasses give the fixture `place`."""

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
        """Stores with files offer one for each identity object; nobody offers one for another encoding."""
        stored = await put(store, "file", SMALL)
        async with store.open(stored, Span(0, stored.size_bytes)) as reader:
            assert reader.file is None or stored.encoding == "identity"
            assert reader.file is not None or stored.encoding != "identity" or not store.properties.has_files

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

    # --- adopting files -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("content", [b"", SMALL, LARGE, b"x" * 300_000], ids=["empty", "small", "large", "dull"])
    async def test_adopt(self, store: BlobStore, tmp_path: Path, content: bytes) -> None:
        """A local file becomes an object that does not need it any more, and its area tells of it until it is gone."""
        path = tmp_path / "whole"
        path.write_bytes(content)
        stored = await store.adopt(path, Digest.of(content), len(content), staging_id="adopting")
        assert path.read_bytes() == content
        path.unlink()
        assert (stored.digest, stored.size_bytes) == (Digest.of(content), len(content))
        assert await store.stat(stored.key) == stored
        assert set(await areas_of(store)) == {"adopting"}
        assert await drop(store, "adopting") == stored
        assert await areas_of(store) == {}
        assert await objects_of(store) == {stored.key: stored}
        assert await content_of(store, stored) == content

    async def test_adopted_before_a_crash(self, place: Place, tmp_path: Path) -> None:
        """Another store over the same place finds by the area what was adopted, so that nothing is left over."""
        (tmp_path / "whole").write_bytes(SMALL)
        digest = Digest.of(SMALL)
        stored = await (await place.open()).adopt(tmp_path / "whole", digest, len(SMALL), staging_id="crashed")
        assert await drop(await place.open(), "crashed") == stored

    async def test_adopt_twice(self, store: BlobStore, tmp_path: Path) -> None:
        """The same file under two ids makes two objects: removing one leaves the other."""
        (tmp_path / "whole").write_bytes(LARGE)
        first, second = [
            await store.adopt(tmp_path / "whole", Digest.of(LARGE), len(LARGE), staging_id=name) for name in ("a", "b")
        ]
        assert first.key != second.key
        await store.remove(first.key)
        assert await content_of(store, second) == LARGE

    @pytest.mark.parametrize("size_bytes", [0, len(LARGE) - 1, len(LARGE) + 1])
    async def test_adopt_of_another_size(self, store: BlobStore, tmp_path: Path, size_bytes: int) -> None:
        """A file of another size is refused, nothing is stored, and it stays as it is."""
        (tmp_path / "odd").write_bytes(LARGE)
        with pytest.raises(Damaged):
            await store.adopt(tmp_path / "odd", Digest.of(LARGE), size_bytes, staging_id="odd")
        assert (tmp_path / "odd").read_bytes() == LARGE
        assert await objects_of(store) == {}
        assert await drop(store, "odd") is None

    async def test_adopt_of_no_file(self, store: BlobStore, tmp_path: Path) -> None:
        """A file that is not there is trouble, not an absent blob."""
        with pytest.raises(Unavailable):
            await store.adopt(tmp_path / "nowhere", Digest.of(SMALL), len(SMALL), staging_id="nowhere")
        assert await objects_of(store) == {}

    @pytest.mark.parametrize("turns", range(8))
    async def test_cancelled_adopt_is_all_or_nothing(self, store: BlobStore, tmp_path: Path, turns: int) -> None:
        """However late it is cancelled, there is no object or the whole one, nothing stays open, and the file stays."""
        (tmp_path / "whole").write_bytes(LARGE)
        digest = Digest.of(LARGE)
        await cancel_after(turns, lambda: store.adopt(tmp_path / "whole", digest, len(LARGE), staging_id="torn"))
        assert not open_names(tmp_path / "whole")
        for stored in (await objects_of(store)).values():
            assert await content_of(store, stored) == LARGE
        assert (tmp_path / "whole").read_bytes() == LARGE
        stored = await store.adopt(tmp_path / "whole", digest, len(LARGE), staging_id="again")
        assert await content_of(store, stored) == LARGE

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
            lambda: staging.writer(hasher),
            lambda: staging.rehash(hasher),
            lambda: staging.truncate(0),
            lambda: staging.publish(Digest.of(SMALL)),
            staging.discard,
            lambda: stage(store, "never", SMALL),
            lambda: drop(store, "cancelled"),
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
