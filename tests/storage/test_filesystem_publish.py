"""Publishing: what is on the disk when, where links cannot be had, when fsync fails, and across kills."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.blobstore import StoredObject
from storage.digest import Digest, Hasher
from storage.errors import Damaged, DigestMismatch, StorageFull, Unavailable, UploadUnknown
from storage.filesystem import FilesystemStore
from storage.filesystem_layout import Layout, ObjectName
from storage.filesystem_publish import published_key
from storage.seekable import compressible
from tests.storage.directory import Directory, python_process, small_disk
from tests.storage.place import LARGE, SMALL, cancel_after, content_of, drop, objects_of, put, stage

TEXT = b" ".join(random.Random(5).choices([b"layer", b"manifest", b"digest", b"referrer"], k=200_000))


@pytest.fixture
def place(tmp_path: Path) -> Directory:
    """A new directory."""
    return Directory(tmp_path / "store")


@pytest.fixture
async def store(place: Directory) -> FilesystemStore:
    """A ready store."""
    return await place.open()


def failing(number: int) -> Callable[..., None]:
    """A system call that fails."""

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


# --- order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["off", "auto"])
async def test_order_of_what_becomes_durable(
    place: Directory, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    """Bytes and mode are synced before the object has its name; then its directory, whose own parents are synced."""
    place.compression = compression
    store = await place.open()
    events = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(place.root)
        named = any(name.startswith("blobs/sha256") for name in place.files())
        sealed = os.fstat(descriptor).st_mode & 0o222 == 0
        events.append((str(path), named, sealed))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    stored = await put(store, "ordered", TEXT)
    first, second = Path(stored.key).parent.parent, Path(stored.key).parent
    source = "staging/ordered" if compression == "off" else "blobs/partial/ordered"
    assert events == [
        (source, False, True),
        ("blobs/sha256", False, False),
        (str(first), False, False),
        (str(second), True, False),
    ]


async def test_removal_is_durable(place: Directory, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing and putting aside sync the directories that changed."""
    removed, aside = await put(store, "removed", SMALL), await put(store, "aside", SMALL)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    await store.remove(removed.key)
    await store.quarantine(aside.key)
    folder = (place.root / aside.key).parent
    assert synced == [folder, place.root / "quarantine", folder]


async def test_publish_costs_no_second_copy(place: Directory, store: FilesystemStore) -> None:
    """The object is the staging file under a second name, until the area is discarded."""
    async with store.stage("linked", create=True) as staging:
        await staging.write(LARGE, Hasher())
        stored = await staging.publish(Digest.of(LARGE))
        assert (place.root / stored.key).stat().st_nlink == 2
        await staging.discard()
    assert (place.root / stored.key).stat().st_nlink == 1


# --- without hard links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK])
async def test_without_hard_links(
    place: Directory, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where links cannot be had, the object is a copy, and everything else is the same."""
    monkeypatch.setattr(os, "link", failing(number))
    async with store.stage("copied", create=True) as staging:
        await staging.write(LARGE, Hasher())
        stored = await staging.publish(Digest.of(LARGE))
        assert not (place.root / stored.key).samefile(place.root / "staging/copied")
        assert (place.root / stored.key).stat().st_mode & 0o777 == 0o444
        assert await staging.publish(Digest.of(LARGE)) == stored
        await staging.write(b"!", Hasher())
        await staging.discard()
    assert await content_of(store, stored) == LARGE
    assert place.files() == [stored.key]


async def test_objects_on_a_disk_of_their_own(place: Directory) -> None:
    """Staging and objects may lie on two file systems."""
    with small_disk(place.root / "blobs", size_bytes=8 << 20):
        store = await place.open()
        stored = await put(store, "across", LARGE)
        assert await content_of(store, stored) == LARGE
        assert place.files() == [stored.key]


async def test_no_room_for_the_copy(place: Directory) -> None:
    """If the copy does not fit, publish fails as full, leaves nothing, and works when there is room."""
    with small_disk(place.root / "blobs", size_bytes=1 << 20) as blobs:
        store = await place.open()
        ballast = blobs / "ballast"
        ballast.write_bytes(bytes(600_000))
        async with store.stage("wide", create=True) as staging:
            await staging.write(LARGE, Hasher())
            with pytest.raises(StorageFull):
                await staging.publish(Digest.of(LARGE))
            assert (blobs / "partial").exists()
            assert list((blobs / "partial").iterdir()) == []
            assert await objects_of(store) == {}
            ballast.unlink()
            stored = await staging.publish(Digest.of(LARGE))
        assert await content_of(store, stored) == LARGE


async def test_other_trouble_with_linking(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that does not say "no hard links" is trouble, not a reason to copy."""
    async with store.stage("trouble", create=True) as staging:
        await staging.write(SMALL, Hasher())
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", failing(errno.EIO))
            with pytest.raises(Unavailable):
                await staging.publish(Digest.of(SMALL))
        assert await content_of(store, await staging.publish(Digest.of(SMALL))) == SMALL


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "expected"), [(errno.EIO, Unavailable), (errno.ENOSPC, StorageFull)])
async def test_failed_fsync_drops_the_area(
    place: Directory, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    """Bytes whose fsync failed may be gone although a second fsync succeeds, so nobody can publish them any more."""
    async with store.stage("lost", create=True) as staging:
        await staging.write(SMALL, Hasher())
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(number))
            with pytest.raises(expected):
                await staging.publish(Digest.of(SMALL))
        with pytest.raises(UploadUnknown):
            await staging.publish(Digest.of(SMALL))
        await staging.discard()
    with pytest.raises(UploadUnknown):
        async with store.stage("lost", create=False):
            pass
    assert place.files() == []


async def test_directory_that_cannot_be_synced(
    place: Directory, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the name cannot be made durable, publish fails, and repeating it syncs again what it finds."""
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(errno.EIO, "broken")
        fsync(descriptor)

    async with store.stage("unsynced", create=True) as staging:
        await staging.write(SMALL, Hasher())
        first = await staging.publish(Digest.of(SMALL))
        synced = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", only_files)
            with pytest.raises(Unavailable):
                await staging.publish(Digest.of(SMALL))
            patch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
            assert await staging.publish(Digest.of(SMALL)) == first
    assert (place.root / first.key).parent in synced


async def test_damaged_object_is_replaced(place: Directory, store: FilesystemStore) -> None:
    """Publishing again over an object that lost bytes heals it, without writing into the damaged file."""
    async with store.stage("healed", create=True) as staging:
        await staging.write(LARGE, Hasher())
        stored = await staging.publish(Digest.of(LARGE))
        (place.root / stored.key).unlink()
        (place.root / stored.key).write_bytes(LARGE[:100])
        with (place.root / stored.key).open("rb") as damaged:
            assert (await staging.publish(Digest.of(LARGE))).key == stored.key
            assert damaged.read() == LARGE[:100]
    assert await content_of(store, stored) == LARGE


# --- compression ----------------------------------------------------------------------------------------------------


async def test_full_disk_while_compressing(tmp_path: Path) -> None:
    """If there is no room to compress, the object is kept as it is: a second name needs no room."""
    with small_disk(tmp_path / "disk", size_bytes=4 << 20) as root:
        store = await Directory(root, compression="auto").open()
        async with store.stage("tight", create=True) as staging:
            await staging.write(TEXT, Hasher())
            (root / "ballast").write_bytes(bytes((4 << 20) - len(TEXT) - (128 << 10)))
            stored = await staging.publish(Digest.of(TEXT))
            await staging.discard()
        assert stored.encoding == "identity"
        assert await content_of(store, stored) == TEXT
        assert list((root / "blobs/partial").iterdir()) == []


async def test_samples_that_promised_too_much(place: Directory) -> None:
    """If the whole shrinks less than its samples did, it is kept as it is, and nothing is left of the attempt."""
    place.compression = "auto"
    store = await place.open()
    sample_bytes, gap_bytes = 64 << 10, 512 << 10
    noise = random.Random(3)
    content = b"".join(bytes(sample_bytes) + noise.randbytes(gap_bytes) for _ in range(7)) + bytes(sample_bytes)
    async with store.stage("promised", create=True) as staging:
        for start in range(0, len(content), 4 << 20):
            await staging.write(content[start : start + (4 << 20)], Hasher())
        with (place.root / "staging/promised").open("rb") as file:
            assert compressible(file.fileno(), len(content))
        stored = await staging.publish(Digest.of(content))
        await staging.discard()
    assert stored.encoding == "identity"
    assert place.files() == [stored.key]


@pytest.mark.parametrize("turns", range(0, 24, 3))
async def test_cancelled_while_compressing(place: Directory, turns: int) -> None:
    """A publish that is cancelled between two turns of compressing leaves nothing behind and can be repeated."""
    place.compression = "auto"
    store = await place.open()
    content = TEXT * 8
    async with store.stage("cancelled", create=True) as staging:
        for start in range(0, len(content), 4 << 20):
            await staging.write(content[start : start + (4 << 20)], Hasher())
        await cancel_after(turns, lambda: staging.publish(Digest.of(content)))
        assert list((place.root / "blobs/partial").iterdir()) == []
        stored = await staging.publish(Digest.of(content))
    assert stored.encoding == "zstd"


async def test_wrong_digest_is_noticed_while_compressing(place: Directory) -> None:
    """Where the bytes are read anyway, a caller that claims another digest is refused."""
    place.compression = "auto"
    store = await place.open()
    async with store.stage("wrong", create=True) as staging:
        await staging.write(TEXT, Hasher())
        with pytest.raises(DigestMismatch):
            await staging.publish(Digest.of(SMALL))
    assert place.files() == ["staging/wrong"]


async def test_area_cut_while_copied(store: FilesystemStore, place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A staging file that ends while it is copied makes no object."""
    monkeypatch.setattr(os, "link", failing(errno.EXDEV))
    monkeypatch.setattr(os, "sendfile", lambda *_args: 0)
    async with store.stage("ends", create=True) as staging:
        await staging.write(SMALL, Hasher())
        with pytest.raises(Damaged, match="ends after 0 bytes"):
            await staging.publish(Digest.of(SMALL))
    assert await objects_of(store) == {}
    assert list((place.root / "blobs/partial").iterdir()) == []


# --- notes and leftovers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("note", ["", "blobs/sha256/ab", "../../etc/passwd", "\xff\xfe", "x" * 100_000])
def test_torn_note(place: Directory, note: str) -> None:
    """A note that was not finished, or is none of ours, names nothing."""
    layout = Layout(place.root)
    layout.create()
    layout.note_path("torn").write_text(note, encoding="latin-1")
    assert published_key(layout, "torn") is None


def test_note_that_was_written_first(place: Directory) -> None:
    """A note whose object never got its name names nothing."""
    layout = Layout(place.root)
    layout.create()
    name = ObjectName(Digest.of(SMALL), "early", "identity")
    layout.note_path("early").write_text(name.key)
    assert published_key(layout, "early") is None


async def test_leftovers_of_a_killed_publish(place: Directory, store: FilesystemStore) -> None:
    """What a killed holder left half-made is overwritten by the next one, or goes with the area."""
    for staging_id in ("again", "dropped"):
        await stage(store, staging_id, TEXT)
        (place.root / "blobs/partial" / staging_id).write_bytes(b"half")
    await drop(store, "dropped")
    place.compression = "auto"
    store = await place.open()
    async with store.stage("again", create=False) as staging:
        stored = await staging.publish(Digest.of(TEXT))
        await staging.discard()
    assert await content_of(store, stored) == TEXT
    assert place.files() == [stored.key]


PUBLISHER = """
import os, pathlib, sys, trio
from storage.blocking import Pool
from storage.blobstore import StoredObject
from storage.digest import Digest, Hasher
from storage.filesystem import FilesystemStore

async def main():
    root, name, compression = sys.argv[1:]
    store = FilesystemStore(pathlib.Path(root), pool=Pool("disk", 2), compression=compression)
    for number in range(100_000):
        content = (b"%s-%d " % (name.encode(), number)) * (1 + 5000 * (number % 3))
        async with store.stage(f"{name}-{number}", create=True) as staging:
            await staging.write(content, Hasher())
            stored = await staging.publish(Digest.of(content))
            print(stored.key, flush=True)
            await staging.discard()

trio.run(main)
"""


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("compression", ["off", "auto"])
async def test_killed_while_publishing(place: Directory, compression: str) -> None:
    """After a kill -9 everything that was acknowledged is there, whole, and what was not can be dropped."""
    store = await place.open()
    acknowledged = {}
    for number in range(4):
        with python_process(PUBLISHER, str(place.root), f"round-{number}", compression) as (process, output):
            lines = [output.readline() for _ in range(7 + 5 * number)]
            process.kill()  # somewhere after the last of these acknowledgements
            lines += [line for line in output if line.endswith("\n")]
        for line in lines:
            acknowledged[line.rstrip()] = await store.stat(line.rstrip())
    for stored in acknowledged.values():
        assert Digest.of(await content_of(store, stored)) == stored.digest
    async with store.scan_staging() as areas:
        left = [staging_id async for staging_id, _ in areas]
    for staging_id in left:
        orphan = await drop(store, staging_id)
        if orphan is not None and orphan.key not in acknowledged:
            await store.remove(orphan.key)
    assert await objects_of(store) == acknowledged
    assert list((place.root / "blobs/partial").iterdir()) == []


# --- adopted files --------------------------------------------------------------------------------------------------


async def adopt(store: FilesystemStore, path: Path, content: bytes = LARGE) -> StoredObject:
    """Make a local file an object."""
    path.write_bytes(content)
    return await store.adopt(path, Digest.of(content), len(content), staging_id="adopted")


async def test_adopted_without_writing_again(
    place: Directory, store: FilesystemStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file gets a second name and becomes read-only; it is synced before it has that name, the directory after."""
    events, fsync = [], os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append((path.name, any(name.startswith("blobs/sha256") for name in place.files())))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    stored = await adopt(store, tmp_path / "whole")
    assert (place.root / stored.key).samefile(tmp_path / "whole")
    assert (tmp_path / "whole").stat().st_mode & 0o777 == 0o444
    assert events[0] == ("whole", False)
    assert events[-1] == (Path(stored.key).parent.name, True)
    assert await drop(store, "adopted") == stored
    assert place.files() == [stored.key]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
async def test_adopted_without_hard_links(
    place: Directory, store: FilesystemStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where the file lies on another file system, the object is a copy of its own."""
    monkeypatch.setattr(os, "link", failing(number))
    stored = await adopt(store, tmp_path / "whole")
    assert not (place.root / stored.key).samefile(tmp_path / "whole")
    assert await content_of(store, stored) == LARGE


async def test_adopted_and_compressed(place: Directory, tmp_path: Path) -> None:
    """A store that compresses compresses what it adopts, and leaves the file as it was."""
    place.compression = "auto"
    store = await place.open()
    stored = await adopt(store, tmp_path / "whole", TEXT)
    assert stored.encoding == "zstd"
    assert (tmp_path / "whole").read_bytes() == TEXT
    assert await content_of(store, stored) == TEXT


async def test_adopted_file_that_cannot_be_synced(
    place: Directory, store: FilesystemStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes whose fsync failed may be gone although a second fsync succeeds: the file loses its name."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(Unavailable):
            await adopt(store, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    assert place.files() == []
