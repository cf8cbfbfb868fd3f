"""Names on disk: what a key may say, and what a walk over the directories finds."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.blobstore import StoredObject
from storage.digest import Digest
from storage.errors import BlobUnknown, UploadUnknown
from storage.filesystem_layout import Layout, ObjectName
from tests.storage.place import HOSTILE_IDS, HOSTILE_KEYS

HEX = "0123456789abcdef" * 4
KEY = f"blobs/sha256/01/23/{HEX}.session-1"
NAMES = st.builds(
    ObjectName,
    st.binary(max_size=20).map(Digest.of),
    st.text("0123456789abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=64),
    st.sampled_from(["identity", "zstd"]),
)


@given(NAMES)
def test_key_says_everything(name: ObjectName) -> None:
    """A key that was made is read back as it was, so rows can be rebuilt from the keys alone."""
    assert ObjectName.parse(name.key) == name


@pytest.mark.parametrize(
    "key",
    [
        *HOSTILE_KEYS,
        KEY.upper(),
        "/" + KEY,
        "./" + KEY,
        KEY + "/",
        KEY + "\n",
        KEY + ".gz",
        KEY + ".zst.zst",
        KEY.replace("/01/", "/02/"),
        KEY.replace("/23/", "/24/"),
        KEY.replace("sha256", "sha512"),
        KEY.replace("blobs/", "quarantine/"),
        KEY.replace("/01/23/", "/../01/23/"),
        KEY.replace("session-1", ""),
        KEY.replace("session-1", "x" * 65),
        KEY.replace("session-1", "../../../../etc/passwd"),
    ],
)
def test_key_that_no_publish_can_have_made(key: str) -> None:
    """Whatever is not exactly a key names no object."""
    with pytest.raises(BlobUnknown, match="no object"):
        ObjectName.parse(key)


@given(st.text(max_size=200))
def test_no_key_leaves_the_root(key: str) -> None:
    """Any text is refused or is a path below the root, without a step upwards."""
    layout = Layout(Path("root"))
    try:
        name = ObjectName.parse(key)
    except BlobUnknown:
        return
    assert Path(os.path.normpath(layout.object_path(name))).is_relative_to(layout.root)


@pytest.mark.parametrize("staging_id", HOSTILE_IDS)
def test_hostile_staging_id_makes_no_path(tmp_path: Path, staging_id: str) -> None:
    """None of the three files of a staging area can be named by a malformed id."""
    layout = Layout(tmp_path)
    for path_of in (layout.staging_path, layout.note_path, layout.partial_path):
        with pytest.raises(ValueError, match="staging id"):
            path_of(staging_id)


def test_root_is_fixed_when_the_store_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative root stays where it was, even if the process goes elsewhere."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(Path("data"))
    monkeypatch.chdir("/")
    assert layout.root == tmp_path / "data"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The directories of a store."""
    layout = Layout(tmp_path / "store")
    layout.create()
    return layout


def _object(layout: Layout, name: ObjectName, content: bytes) -> StoredObject:
    layout.make_fan_out(name)
    layout.object_path(name).write_bytes(content)
    return layout.look(name)


def test_walk_passes_over_what_is_not_ours(layout: Layout) -> None:
    """Files of an operator, of an editor or of a newer version among the objects are no objects and no trouble."""
    name = ObjectName(Digest.of(b"content"), "area", "identity")
    stored = _object(layout, name, b"content")
    folder = layout.object_path(name).parent
    (folder / "notes.txt").write_text("mine")
    (folder / f"{name.file_name}.backup").write_text("mine")
    (folder / f"{'f' * 64}.misplaced").write_text("mine")
    (layout.objects / "README").write_text("mine")
    (layout.objects / "zz").mkdir()
    (layout.objects / "zz" / "README").write_text("mine")
    assert list(layout.walk()) == [stored]


def test_walk_lists_what_it_cannot_measure(layout: Layout) -> None:
    """A compressed object without its table and a link in an object's place are listed, with no size."""
    broken = ObjectName(Digest.of(b"broken"), "area", "zstd")
    layout.make_fan_out(broken)
    layout.object_path(broken).write_bytes(b"no table")
    linked = ObjectName(Digest.of(b"linked"), "area", "identity")
    layout.make_fan_out(linked)
    layout.object_path(linked).symlink_to("anywhere")
    found = {stored.key: (stored.size_bytes, stored.stored_bytes) for stored in layout.walk()}
    assert found == {broken.key: (0, 8), linked.key: (0, 8)}


def test_walk_leaves_out_what_goes_meanwhile(layout: Layout) -> None:
    """Objects and areas that are removed between being seen and being looked at are no trouble."""
    names = [ObjectName(Digest.of(b"same"), f"area-{number}", "identity") for number in range(5)]
    for name in names:
        _object(layout, name, b"same")
        layout.staging_path(name.staging_id).write_bytes(b"")
    walk, walk_staging = layout.walk(), layout.walk_staging()
    seen = {next(walk).key, next(walk_staging)[0]}
    for name in names:
        layout.object_path(name).unlink()
        layout.staging_path(name.staging_id).unlink()
    layout.object_path(names[0]).parent.rmdir()
    assert list(walk) == []
    assert list(walk_staging) == []
    assert len(seen) == 2


def test_walk_needs_its_root(tmp_path: Path) -> None:
    """Where the directories are missing, a walk raises: it must not look like a walk over an empty store."""
    layout = Layout(tmp_path / "nothing")
    for walk in (layout.walk(), layout.walk_staging()):
        with pytest.raises(FileNotFoundError):
            list(walk)


def test_walk_staging_leaves_notes_out(layout: Layout) -> None:
    """Only staging areas are listed, not the notes beside them."""
    layout.staging_path("area").write_bytes(b"staged")
    layout.note_path("area").write_text("a key")
    os.utime(layout.staging_path("area"), (1000, 1000))
    assert list(layout.walk_staging()) == [("area", 1000)]
    assert isinstance(layout.absent_staging("other"), UploadUnknown)


def test_fan_out_is_durable_even_if_somebody_else_made_it(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parents are synced once per process, whoever made the directories, and again if one had to be made again."""
    synced = []
    name = ObjectName(Digest.parse(f"sha256:{HEX}"), "area", "identity")
    (layout.objects / "01" / "23").mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    layout.make_fan_out(name)
    assert synced == [layout.objects, layout.objects / "01"]
    layout.make_fan_out(name)
    assert len(synced) == 2
    (layout.objects / "01" / "23").rmdir()
    layout.make_fan_out(name)
    assert synced[2:] == [layout.objects / "01"]
