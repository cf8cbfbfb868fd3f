"""The filesystem store keeps the contract, with and without compression; and what only a directory can be asked."""

import dataclasses
import errno
import gzip
import os
import stat
from pathlib import Path

import pytest

from storage.blobstore import Span
from storage.blocking import Pool
from storage.digest import Digest, Hasher
from storage.errors import BlobUnknown, Damaged, Unavailable
from storage.filesystem import FilesystemStatistics, FilesystemStore
from tests.storage.blobstore_contract import BlobStoreContract
from tests.storage.directory import Directory, open_descriptors
from tests.storage.place import LARGE, SMALL, areas_of, cancel_after, content_of, drop, objects_of, put, stage


class TestFilesystemStore(BlobStoreContract):
    """The contract, bytes as they are."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Directory:
        """A new directory."""
        return Directory(tmp_path / "store")


class TestCompressingStore(BlobStoreContract):
    """The contract, bytes compressed where that helps."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Directory:
        """A new directory."""
        return Directory(tmp_path / "store", compression="auto")


@pytest.fixture
def place(tmp_path: Path) -> Directory:
    """A new directory two levels below one that exists."""
    return Directory(tmp_path / "not" / "yet")


async def test_prepare(place: Directory) -> None:
    """Starting makes the directories and the marker, for the owner alone, and starting again changes nothing."""
    await place.open()
    made = {str(path.relative_to(place.root)) for path in place.root.rglob("*")}
    assert made == {"blobs", "blobs/sha256", "blobs/partial", "staging", "quarantine", "storage-id"}
    await put(await place.open(), "kept", SMALL)
    store = await place.open()
    assert len(await objects_of(store)) == 1
    directories = [place.root, *(path for path in place.root.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}


async def test_prepare_that_cannot(tmp_path: Path) -> None:
    """Where the directories cannot be made, the store is unavailable, and the message keeps the path to itself."""
    (tmp_path / "file").write_text("in the way")
    store = FilesystemStore(tmp_path / "file" / "store", pool=Pool("disk", 1))
    with pytest.raises(Unavailable, match="store directories") as caught:
        await store.prepare()
    assert str(tmp_path) not in str(caught.value)


def test_unknown_compression(tmp_path: Path) -> None:
    """A word that is no setting is refused at once."""
    with pytest.raises(ValueError, match="off, auto"):
        FilesystemStore(tmp_path, pool=Pool("disk", 1), compression="zstd")


async def test_where_an_object_lies(place: Directory) -> None:
    """The key is the path below the root: two levels of the digest, then digest and staging id; read-only."""
    stored = await put(await place.open(), "session-1", SMALL)
    value = Digest.of(SMALL).hex
    assert stored.key == f"blobs/sha256/{value[:2]}/{value[2:4]}/{value}.session-1"
    assert place.files() == [stored.key]
    assert (place.root / stored.key).read_bytes() == SMALL
    assert stat.S_IMODE((place.root / stored.key).stat().st_mode) == 0o444


async def test_files_are_made_for_the_owner(place: Directory) -> None:
    """A staging file is nobody else's business."""
    await stage(await place.open(), "private", SMALL)
    assert stat.S_IMODE((place.root / "staging/private").stat().st_mode) == 0o600


async def test_statistics(place: Directory) -> None:
    """What is held now is counted, and given back when it is let go."""
    store = await place.open()
    stored = await put(store, "counted", SMALL)
    async with store.stage("held", create=True), store.open(stored, Span(0, 1)):
        assert store.statistics() == FilesystemStatistics(staging_held=1, readers_open=1)
    assert store.statistics() == FilesystemStatistics(staging_held=0, readers_open=0)


# --- an absent disk is no empty store -------------------------------------------------------------------------------


@pytest.fixture
async def unmounted(place: Directory) -> FilesystemStore:
    """A store whose directories went away while it ran."""
    store = await place.open()
    place.root.rename(place.root.with_name("elsewhere"))
    place.root.mkdir()
    return store


async def test_missing_disk_is_trouble_not_absence(unmounted: FilesystemStore) -> None:
    """When the store's directories are gone, nothing is "not found", and nothing counts as removed."""
    key = f"blobs/sha256/00/00/{'0' * 64}.x"
    calls = [
        lambda: unmounted.stat(key),
        lambda: unmounted.remove(key),
        lambda: unmounted.quarantine(key),
        lambda: stage(unmounted, "x", SMALL),
        lambda: objects_of(unmounted),
        lambda: areas_of(unmounted),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            await call()


async def test_store_that_was_never_prepared(tmp_path: Path) -> None:
    """The same holds for a store that somebody forgot to prepare."""
    store = FilesystemStore(tmp_path / "nothing", pool=Pool("disk", 1))
    with pytest.raises(Unavailable, match="not prepared"):
        await store.stat(f"blobs/sha256/00/00/{'0' * 64}.x")


async def test_disk_that_fails(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that cannot be opened is trouble, not damage and not absence."""
    store = await place.open()
    stored = await put(store, "unreadable", SMALL)

    def fail(*_args: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(Unavailable, match="Input/output error"):
        await store.stat(stored.key)
    with pytest.raises(Unavailable, match="Input/output error"):
        await content_of(store, stored)


# --- what is not ours -----------------------------------------------------------------------------------------------


async def test_links_are_not_followed(place: Directory, tmp_path: Path) -> None:
    """A symbolic link in an object's place is damage, wherever it points; removing it removes the link alone."""
    store = await place.open()
    stored = await put(store, "linked", SMALL)
    target = tmp_path / "target"
    target.write_bytes(SMALL)
    (place.root / stored.key).unlink()
    (place.root / stored.key).symlink_to(target)
    with pytest.raises(Damaged, match="regular"):
        await content_of(store, stored)
    with pytest.raises(Damaged, match="regular"):
        await store.stat(stored.key)
    await store.remove(stored.key)
    assert target.read_bytes() == SMALL


@pytest.mark.parametrize("kind", ["directory", "pipe"])
async def test_object_that_is_no_file(place: Directory, kind: str) -> None:
    """A directory or a pipe in an object's place is damage, and nobody waits for it."""
    store = await place.open()
    stored = await put(store, "odd", SMALL)
    path = place.root / stored.key
    path.unlink()
    if kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(Damaged, match="regular"):
        await content_of(store, stored)


async def test_linked_staging_area(place: Directory, tmp_path: Path) -> None:
    """A symbolic link in the staging directory is not written through."""
    store = await place.open()
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    (place.root / "staging/evil").symlink_to(target)
    with pytest.raises(Unavailable):
        await stage(store, "evil", SMALL)
    assert target.read_bytes() == b"untouched"


# --- quarantine, scan -----------------------------------------------------------------------------------------------


async def test_quarantine_keeps_the_bytes(place: Directory) -> None:
    """What was put aside lies in `quarantine/` under its own name, as it was."""
    store = await place.open()
    stored = await put(store, "aside", SMALL)
    await store.quarantine(stored.key)
    assert place.files() == [f"quarantine/{Digest.of(SMALL).hex}.aside"]
    assert (place.root / place.files()[0]).read_bytes() == SMALL


async def test_scan_in_batches(place: Directory) -> None:
    """More objects than are looked at in one turn of a thread are all listed, once."""
    store = await place.open()
    stored = await put(store, "x0", SMALL)
    folder = (place.root / stored.key).parent
    for number in range(1, 600):
        os.link(place.root / stored.key, folder / f"{stored.digest.hex}.x{number}")
    assert len(await objects_of(store)) == 600


async def test_descriptors_are_closed(place: Directory) -> None:
    """However a call ends, cancelled at any turn or by an error, no descriptor stays open."""
    store = await place.open()
    stored = await put(store, "read", LARGE)
    removed = await put(store, "removed", LARGE)
    before = open_descriptors()
    for turns in range(6):
        await cancel_after(turns, lambda: content_of(store, stored))
        await cancel_after(turns, lambda: stage(store, "cancelled", LARGE))
        await cancel_after(turns, lambda: objects_of(store))
        await cancel_after(turns, lambda: drop(store, "cancelled"))
    with pytest.raises(BlobUnknown):
        await store.stat(stored.key.replace("read", "never"))
    with pytest.raises(Damaged):
        await content_of(store, dataclasses.replace(stored, size_bytes=1))
    async with store.open(removed, Span(0, 1)):
        await store.remove(removed.key)
    async with store.stage("discarded", create=True) as staging:
        await staging.write(LARGE, Hasher())
        await staging.discard()
    assert open_descriptors() == before


# --- compression ----------------------------------------------------------------------------------------------------

TEXT = (b"the same words again and again, as in a document of many components; " * 4000)[:262144]


async def test_auto_compresses_what_is_worth_it(place: Directory) -> None:
    """Text is kept as zstd, small and compressed blobs as they are; only the latter offer a file."""
    place.compression = "auto"
    store = await place.open()
    zstd, small, packed = [
        await put(store, name, content)
        for name, content in (("text", TEXT), ("small", SMALL), ("gzip", gzip.compress(os.urandom(100_000))))
    ]
    assert [each.encoding for each in (zstd, small, packed)] == ["zstd", "identity", "identity"]
    assert zstd.key.endswith(".text.zst")
    assert zstd.stored_bytes == (place.root / zstd.key).stat().st_size < zstd.size_bytes // 4
    assert stat.S_IMODE((place.root / zstd.key).stat().st_mode) == 0o444
    assert len(place.files()) == 3


async def test_setting_concerns_new_objects_only(place: Directory) -> None:
    """Objects of both kinds are readable under either setting, and publishing again keeps the kind."""
    place.compression = "auto"
    async with (await place.open()).stage("compressed", create=True) as staging:
        await staging.write(TEXT, Hasher())
        compressed = await staging.publish(Digest.of(TEXT))
    place.compression = "off"
    store = await place.open()
    plain = await put(store, "plain", TEXT)
    assert (compressed.encoding, plain.encoding) == ("zstd", "identity")
    assert await content_of(store, compressed) == await content_of(store, plain) == TEXT
    async with store.stage("compressed", create=False) as staging:
        assert await staging.publish(Digest.of(TEXT)) == compressed
    assert len(await objects_of(store)) == 2


async def test_marker_tells_a_store_from_an_empty_mount_point(tmp_path: Path) -> None:
    """A directory is blank until it was prepared; the marker is made once, and only we may read it."""
    store = FilesystemStore(tmp_path / "store", pool=Pool("disk", 2))
    assert await store.is_blank()
    await store.prepare()
    assert not await store.is_blank()
    marker = tmp_path / "store" / "storage-id"
    before = marker.read_bytes()
    await store.prepare()
    assert marker.read_bytes() == before
    assert len(before) == 37
    assert stat.S_IMODE(marker.stat().st_mode) == 0o600


async def test_store_from_before_there_were_markers(tmp_path: Path) -> None:
    """Without a marker a directory with objects is no blank one, and gets its marker; one without objects is blank."""
    store = FilesystemStore(tmp_path / "store", pool=Pool("disk", 2))
    await store.prepare()
    marker = tmp_path / "store" / "storage-id"
    marker.unlink()
    assert await store.is_blank()
    await put(store, "a", SMALL)
    assert not await store.is_blank()
    await store.prepare()
    assert marker.exists()
