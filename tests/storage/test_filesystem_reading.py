"""Reading from the page cache and past it, and files that change under an open reader."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from storage.blobstore import CHUNK_BYTES, Span
from storage.blocking import Pool
from storage.errors import Damaged, Unavailable
from storage.filesystem_reading import PageCache, close_descriptor
from tests.storage.directory import Directory, open_descriptors
from tests.storage.place import LARGE, put, read


async def read_on(chunks: AsyncIterator[bytes]) -> bytes:
    """What is left."""
    return b"".join([chunk async for chunk in chunks])


@pytest.fixture(params=["off", "auto"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    """A new directory for each setting."""
    return Directory(tmp_path / "store", compression=request.param)


async def test_cold_file(place: Directory) -> None:
    """What is not in the page cache is read in a thread, and is the same."""
    store = await place.open()
    stored = await put(store, "cold", LARGE)
    with (place.root / stored.key).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    async with store.open(stored, Span(1, stored.size_bytes)) as reader:
        assert await read(reader) == LARGE[1:]


async def test_file_system_without_waitless_reads(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system does not know RWF_NOWAIT, it is asked once and everything is read in threads."""
    asked = []

    def preadv(*_args: object) -> int:
        asked.append(1)
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "preadv", preadv)
    store = await place.open()
    stored = await put(store, "threads", LARGE)
    async with store.open(stored, Span(0, stored.size_bytes)) as reader:
        assert await read(reader) == LARGE
    assert len(asked) == 1


async def test_file_cut_under_a_reader(place: Directory) -> None:
    """A file that becomes shorter while it is read raises; the answer must not end as if it were whole."""
    store = await place.open()
    stored = await put(store, "cut", LARGE)
    async with store.open(stored, Span(0, stored.size_bytes)) as reader:
        chunks = reader.chunks()
        content = await anext(chunks)
        await place.cut(stored.key, len(content) if stored.encoding == "identity" else 10)
        with pytest.raises(Damaged):
            content += await read_on(chunks)
    assert LARGE.startswith(content)


async def test_disk_that_fails_while_reading(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input/output error is trouble of the store, named by the object and never by a path."""

    def fail(*_args: object) -> int:
        raise OSError(errno.EIO, "broken", str(place.root))

    store = await place.open()
    stored = await put(store, "broken", LARGE)
    async with store.open(stored, Span(0, stored.size_bytes)) as reader:
        monkeypatch.setattr(os, "preadv", fail)
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(Unavailable, match="Input/output error") as caught:
            await read(reader)
    assert stored.key in str(caught.value)
    assert str(place.root) not in str(caught.value)


def test_page_cache_gives_all_or_nothing(tmp_path: Path) -> None:
    """A read that reaches beyond the end gives None, not less; a large one is refused, not cut."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    cache = PageCache()
    with path.open("rb") as file:
        assert cache.pread(file.fileno(), 4, 3) == b"3456"
        assert cache.pread(file.fileno(), 4, 8) is None
        assert cache.pread(file.fileno(), 2 * CHUNK_BYTES, 0) is None


async def test_last_descriptor_of_a_removed_file(tmp_path: Path) -> None:
    """Freeing a removed file's blocks takes a thread; without a free one in time it is closed all the same."""
    path = tmp_path / "file"
    before = open_descriptors()
    for cancelled in (False, True):
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
        path.unlink()
        with trio.CancelScope() as scope:
            if cancelled:
                scope.cancel()
            await close_descriptor(descriptor, Pool("disk", 1))
        assert open_descriptors() == before
