"""Holding and filling a staging area: other processes, killed holders, full disks, races for the file."""

import errno
import fcntl
import itertools
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from storage.digest import Digest, Hasher
from storage.errors import Busy, Damaged, StorageFull, Unavailable, UploadUnknown
from storage.filesystem import FilesystemStore
from storage.filesystem_layout import Layout
from storage.filesystem_staging import hold
from tests.storage.directory import Directory, open_descriptors, other_process, small_disk
from tests.storage.place import LARGE, SMALL, content_of, drop, objects_of, put, stage


@pytest.fixture
def place(tmp_path: Path) -> Directory:
    """A new directory."""
    return Directory(tmp_path / "store")


@pytest.fixture
async def store(place: Directory) -> FilesystemStore:
    """A ready store."""
    return await place.open()


# --- holding --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_other_process_holds(place: Directory, store: FilesystemStore) -> None:
    """What another process holds is busy here, and free at once when that process is killed; its bytes stay."""
    await stage(store, "shared", SMALL)
    with other_process(place.root, "shared") as process:
        with pytest.raises(Busy):
            await stage(store, "shared", SMALL)
        process.kill()
        process.wait(10)
    async with store.stage("shared", create=False) as staging:
        assert staging.offset == len(SMALL)


def test_file_removed_between_open_and_lock(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who locks a file that was removed meanwhile holds nothing, and looks again."""
    layout = Layout(place.root)
    layout.create()
    path = layout.staging_path("raced")
    path.write_bytes(b"old")
    real_open = os.open
    opened = []

    def open_and_lose(name: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real_open(name, flags, mode)
        opened.append(descriptor)
        if len(opened) == 1:
            path.unlink()
        return descriptor

    before = open_descriptors()
    monkeypatch.setattr(os, "open", open_and_lose)
    descriptor = hold(layout, "raced", create=True)
    assert len(opened) == 2
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    os.close(descriptor)
    path.unlink()
    opened.clear()
    path.write_bytes(b"old")
    with pytest.raises(UploadUnknown):
        hold(layout, "raced", create=False)
    assert open_descriptors() == before


def test_file_that_is_replaced_for_ever(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who never gets hold of the file under its name gives up, as busy."""
    layout = Layout(place.root)
    layout.create()
    real_open = os.open

    def open_and_lose(name: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real_open(name, flags, mode)
        Path(name).unlink()
        return descriptor

    before = open_descriptors()
    monkeypatch.setattr(os, "open", open_and_lose)
    with pytest.raises(Busy, match="too fast"):
        hold(layout, "raced", create=True)
    assert open_descriptors() == before


def test_file_system_without_locks(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system cannot lock, nothing is held, and nothing stays open."""
    layout = Layout(place.root)
    layout.create()

    def fail(*_args: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    before = open_descriptors()
    with pytest.raises(Unavailable, match="No locks"):
        hold(layout, "unlocked", create=True)
    assert open_descriptors() == before


async def test_use_after_letting_go(store: FilesystemStore) -> None:
    """A staging area that was let go cannot be used through the old hold."""
    async with store.stage("left", create=True) as staging:
        pass
    with pytest.raises(ValueError, match="no longer held"):
        await staging.write(b"x", Hasher())


async def test_discard_does_not_touch_a_later_area(store: FilesystemStore) -> None:
    """Discarding twice cannot remove an area that was made under the same id in between."""
    async with store.stage("again", create=True) as staging:
        await staging.discard()
        await stage(store, "again", SMALL)
        await staging.discard()
    async with store.stage("again", create=False) as staging:
        assert staging.offset == len(SMALL)


# --- bytes ----------------------------------------------------------------------------------------------------------


async def test_full_disk(tmp_path: Path) -> None:
    """When the disk is full, a write moves neither offset nor hasher, what was there stays, and space heals it."""
    with small_disk(tmp_path / "disk", size_bytes=4 << 20) as root:
        store = await Directory(root).open()
        kept = await put(store, "kept", LARGE)
        ballast = root / "ballast"
        ballast.write_bytes(bytes(1 << 20))
        chunk = os.urandom(3 << 20)
        async with store.stage("full", create=True) as staging:
            hasher = Hasher()
            await staging.write(SMALL, hasher)
            with pytest.raises(StorageFull):
                await staging.write(chunk, hasher)
            assert (staging.offset, hasher.digest()) == (len(SMALL), Digest.of(SMALL))
            assert (root / "staging/full").stat().st_size == len(SMALL)
            ballast.unlink()
            await staging.write(chunk, hasher)
            stored = await staging.publish(hasher.digest())
        assert await content_of(store, stored) == SMALL + chunk
        assert await content_of(store, kept) == LARGE


async def test_disk_without_room_for_a_file(tmp_path: Path) -> None:
    """When there is no room even for a new file, that is said so, and nothing is left behind."""
    with small_disk(tmp_path / "disk", size_bytes=1 << 20) as root:
        store = await Directory(root).open()
        with pytest.raises(OSError, match="No space"):
            (root / "ballast").write_bytes(bytes(2 << 20))
        with pytest.raises(StorageFull):
            await stage(store, "none", SMALL)
        assert await objects_of(store) == {}


async def test_full_disk_for_a_writer(tmp_path: Path) -> None:
    """What a thread hands over when the disk is full leaves no trace either, the parts that would fit included."""
    with small_disk(tmp_path / "disk", size_bytes=2 << 20) as root:
        store = await Directory(root).open()
        async with store.stage("full", create=True) as staging:
            hasher = Hasher()
            writer = await staging.writer(hasher)
            assert writer is not None
            writer.write([SMALL])
            with pytest.raises(StorageFull):
                writer.write([SMALL, os.urandom(3 << 20)])
            assert (staging.offset, hasher.digest()) == (len(SMALL), Digest.of(SMALL))
            assert (root / "staging/full").stat().st_size == len(SMALL)


async def test_writer_of_a_sealed_area(store: FilesystemStore) -> None:
    """A writer that was asked for before publish is refused after it: the published file is never written."""
    async with store.stage("sealed", create=True) as staging:
        hasher = Hasher()
        writer = await staging.writer(hasher)
        assert writer is not None
        writer.write([SMALL])
        stored = await staging.publish(hasher.digest())
        with pytest.raises(ValueError, match="another writer"):
            writer.write([b"!"])
        assert (staging.offset, hasher.digest()) == (len(SMALL), Digest.of(SMALL))
    assert await content_of(store, stored) == SMALL


@pytest.mark.parametrize("truncate_works", [True, False])
async def test_failed_write_leaves_no_trace(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, *, truncate_works: bool
) -> None:
    """A write that fails in its middle is forgotten, even where taking it back from the file fails too."""
    calls = itertools.count()

    def half(descriptor: int, parts: list[memoryview], position: int) -> int:
        if next(calls) > 0:
            raise OSError(errno.EIO, "broken")
        chunk = b"".join(parts)
        return os.pwrite(descriptor, chunk[: len(chunk) // 2], position)

    def fail(*_args: object) -> int:
        raise OSError(errno.EIO, "broken")

    async with store.stage("half", create=True) as staging:
        hasher = Hasher()
        await staging.write(SMALL, hasher)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", half)
            if not truncate_works:
                patch.setattr(os, "ftruncate", fail)
            with pytest.raises(Unavailable):
                await staging.write(LARGE, hasher)
        assert (staging.offset, hasher.digest()) == (len(SMALL), Digest.of(SMALL))
        stored = await staging.publish(hasher.digest())
    assert stored.size_bytes == len(SMALL)
    assert await content_of(store, stored) == SMALL


async def test_staging_file_that_lost_bytes(place: Directory, store: FilesystemStore) -> None:
    """Bytes that somebody cut off under the holder are missed when hashing and when publishing."""
    async with store.stage("cut", create=True) as staging:
        await staging.write(LARGE, Hasher())
        os.truncate(place.root / "staging/cut", 10)
        with pytest.raises(Damaged):
            await staging.rehash(Hasher())
        with pytest.raises(Damaged):
            await staging.publish(Digest.of(LARGE))
    assert await objects_of(store) == {}


# --- sealed areas ---------------------------------------------------------------------------------------------------


async def test_area_whose_file_became_an_object(place: Directory, store: FilesystemStore) -> None:
    """After publish the area gets a file of its own before anything is written, and stays held meanwhile."""
    async with store.stage("sealed", create=True) as staging:
        await staging.write(SMALL, Hasher())
        stored = await staging.publish(Digest.of(SMALL))
        area, published = place.root / "staging/sealed", place.root / stored.key
        assert area.samefile(published)
        await staging.truncate(5)
        assert not area.samefile(published)
        with pytest.raises(Busy):
            await drop(store, "sealed")
        assert area.read_bytes() == SMALL[:5]
        assert stat.S_IMODE(area.stat().st_mode) == 0o600
        await staging.write(b"!", Hasher())
    assert published.read_bytes() == SMALL
    assert place.files() == [stored.key, "staging/sealed", "staging/sealed.key"]


async def test_copying_away_from_the_object_fails(
    place: Directory, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the copy cannot be made, the write fails, the object is untouched, and the area holds what it held."""

    def fail(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    before = open_descriptors()
    async with store.stage("sealed", create=True) as staging:
        await staging.write(SMALL, Hasher())
        stored = await staging.publish(Digest.of(SMALL))
        for name in ("sendfile", "dup", "rename"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, fail)
                with pytest.raises(StorageFull):
                    await staging.write(b"!", Hasher())
        assert staging.offset == len(SMALL)
        assert await staging.publish(Digest.of(SMALL)) == stored
    assert place.files() == [stored.key, "staging/sealed", "staging/sealed.key"]
    assert open_descriptors() == before


UNPRIVILEGED = """
import codecs, os, pathlib, sys, trio
from storage.blocking import Pool
from storage.digest import Digest, Hasher
from storage.filesystem import FilesystemStore

async def main():
    store = FilesystemStore(pathlib.Path(sys.argv[1]), pool=Pool("disk", 1))
    await store.prepare()
    async with store.stage("a", create=True) as staging:
        await staging.write(b"content", Hasher())
        first = await staging.publish(Digest.of(b"content"))
    async with store.stage("a", create=False) as staging:
        assert await staging.publish(Digest.of(b"content")) == first
        hasher = Hasher()
        await staging.rehash(hasher)
        assert hasher.digest() == first.digest
        await staging.write(b", and more", Hasher())
        second = await staging.publish(Digest.of(b"content, and more"))
    print((await store.stat(first.key)).size_bytes, (await store.stat(second.key)).size_bytes)

codecs.lookup("ascii")  # Python imports it late, and nobody may be unable to import anything
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
trio.run(main)
"""


@pytest.mark.slow
def test_without_privileges() -> None:
    """A user who may not write a read-only file can repeat a publish, and write on in a copy."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if os.geteuid() == 0:
            os.chown(root, 65534, 65534)
        command = [sys.executable, "-c", UNPRIVILEGED, str(root / "store")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("7 17\n", 0), done.stderr
