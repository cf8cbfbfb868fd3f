"""Readers of an intake: spans of the growing file, bytes, a whole file, and iterators that are left half-way."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from storage.blobstore import CHUNK_BYTES, OpenFile, Span
from storage.digest import Digest, Hasher
from storage.errors import Damaged, Unavailable
from storage.hotset_files import GrowingFile
from storage.hotset_store import HotSetStore
from storage.intake import Intakes
from storage.intake_reading import FollowingReader, Verified
from tests.storage.directory import open_descriptors
from tests.storage.hotset_place import MIB, OddStore, hot_set
from tests.storage.place import content_of, put

CONTENT = bytes(range(253)) * 9000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[HotSetStore]:
    """In front of an odd origin."""
    async with Intakes.open() as intakes:
        yield HotSetStore(OddStore(), await hot_set(tmp_path / "hot"), intakes)


def content_of_piece(piece: bytes | OpenFile) -> bytes:
    """As who sends it reads it."""
    if isinstance(piece, bytes):
        return piece
    return os.pread(piece.descriptor, piece.stop - piece.start, piece.start)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second batch of a file on there is no space."""
    append = GrowingFile.append

    def full(self: GrowingFile, parts: list[bytes], position: int) -> int:
        if position:
            raise OSError(28, "No space left on device")
        return append(self, parts, position)

    monkeypatch.setattr(GrowingFile, "append", full)


@pytest.mark.parametrize("start", [0, 1, len(CONTENT) // 2])
async def test_pieces_are_spans_of_the_file(store: HotSetStore, start: int) -> None:
    """While the blob comes in, its bytes are given as spans of one file, in order, none twice."""
    stored = await put(store, "one", CONTENT)
    async with store.open(stored, Span(start, len(CONTENT))) as reader:
        assert isinstance(reader, FollowingReader)
        assert [reader.file] == [None]
        pieces = [piece async for piece in reader.pieces()]
        assert all(isinstance(piece, OpenFile) for piece in pieces)
        assert len({piece.descriptor for piece in pieces if isinstance(piece, OpenFile)}) == 1
        assert b"".join(map(content_of_piece, pieces)) == CONTENT[start:]
        assert reader.file is not None  # it is whole by now
        assert content_of_piece(reader.file) == CONTENT[start:]


async def test_pieces_without_a_home(store: HotSetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk takes no more, bytes of the origin follow the spans of the file."""
    stored = await put(store, "one", CONTENT)
    fill_the_disk(monkeypatch)
    async with store.open(stored, Span(0, len(CONTENT))) as reader:
        assert isinstance(reader, FollowingReader)
        pieces = [content_of_piece(piece) async for piece in reader.pieces()]
    assert b"".join(pieces) == CONTENT


async def test_leaving_half_way(store: HotSetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterators own nothing: readers that leave anywhere leave nothing open, and stop what ran for them alone."""
    given = 0
    before = open_descriptors()
    stored = await put(store, "one", CONTENT)
    origin = store.origin
    assert isinstance(origin, OddStore)

    async def count(_position: int) -> None:
        nonlocal given
        given += 1
        await trio.lowlevel.checkpoint()

    origin.behaviour.before_chunk = count
    fill_the_disk(monkeypatch)
    for taken in range(6):
        async with store.open(stored, Span(0, len(CONTENT))) as reader:
            chunks = reader.chunks()
            for _ in range(taken):
                await anext(chunks)
    await trio.testing.wait_all_tasks_blocked()
    settled = given
    await trio.testing.wait_all_tasks_blocked()
    assert 0 < given == settled
    with trio.fail_after(10):
        while open_descriptors() != before:  # threads close them; a task that waits for a thread counts as blocked  # noqa: ASYNC110 - a thread or a server tells, no event
            await trio.sleep(0.01)


async def _each(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await trio.lowlevel.checkpoint()
        yield chunk


@pytest.mark.parametrize("sizes", [(1,), (CHUNK_BYTES, 1), (5, 5, 5)])
async def test_verified(sizes: tuple[int, ...]) -> None:
    """All chunks as they are if the digest is right; else all but the last, one report, and `Damaged`."""
    chunks = [b"%d" % size * size for size in sizes]
    reports: list[int] = []
    for digest in (Digest.of(b"".join(chunks)), Digest.of(b"other")):
        checked = Verified(_each(*chunks), Hasher(), digest=digest, what="it", report=lambda: reports.append(1))
        for chunk in chunks[:-1]:
            assert await anext(checked) == chunk
        if digest == Digest.of(b"other"):
            with pytest.raises(Damaged, match="it does not have"):
                await anext(checked)
        else:
            assert await anext(checked) == chunks[-1]
            assert await anext(checked, None) is None
    assert reports == [1]


async def test_late_joiner_of_a_whole_blob(store: HotSetStore) -> None:
    """Who comes when the blob is whole but not kept yet has the file at once."""
    stored = await put(store, "one", CONTENT[:MIB])
    async with store.open(stored, Span(0, MIB)) as first:
        async for _ in first.chunks():
            pass
        async with store.open(stored, Span(5, MIB)) as late:
            assert late.file is not None
            assert content_of_piece(late.file) == CONTENT[5:MIB]


async def test_reader_alone_meets_an_error_of_another_family(
    store: HotSetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that storage does not know fails the one reader, with its cause, and not the service."""
    fill_the_disk(monkeypatch)
    stored = await put(store, "one", CONTENT)
    origin = store.origin
    assert isinstance(origin, OddStore)

    async def explode(position: int) -> None:
        if len(origin.behaviour.opened) > 1 and position > MIB:
            raise LookupError("a defect")

    origin.behaviour.before_chunk = explode
    with pytest.raises(Unavailable, match="LookupError") as caught:
        await content_of(store, stored)
    assert isinstance(caught.value.__cause__, LookupError)
    origin.behaviour.before_chunk = None
    assert await content_of(store, stored) == CONTENT
