"""What a hot set's files say: names, whole and growing files, and who holds them."""

import os
import stat
from pathlib import Path

import pytest

from storage.digest import Digest
from storage.hotset_files import (
    DAMAGED_MODE,
    VERIFIED_MODE,
    Entry,
    FileName,
    GrowingFile,
    HotSetLayout,
    lock_unused,
    open_kept,
    place_of,
)

NOW = 1_800_000_000.0
CONTENT = b"some bytes of a blob"
ENTRY = Entry("store/key.1", Digest.of(CONTENT), len(CONTENT))


@pytest.fixture
def layout(tmp_path: Path) -> HotSetLayout:
    """The directories of an empty set."""
    made = HotSetLayout(tmp_path / "hot")
    made.create()
    made.create()
    return made


def grow(layout: HotSetLayout, content: bytes = CONTENT, entry: Entry = ENTRY) -> GrowingFile:
    """Our growing file, with this in it."""
    growing = GrowingFile.open(layout.growing_path(entry.name), entry.name)
    assert growing is not None
    assert growing.is_ours
    if content:
        assert growing.append([content[:3], content[3:]], 0) == len(content)
    return growing


def keep(layout: HotSetLayout, entry: Entry = ENTRY) -> Path:
    """A kept file, used by nobody."""
    growing = grow(layout, entry=entry)
    growing.mark_verified(now=NOW)
    growing.keep(layout.kept_path(entry.name))
    growing.close()
    return layout.kept_path(entry.name)


def take(layout: HotSetLayout, *, now: float = NOW, touch_s: float = 60) -> bytes | None:
    """What is kept, read as a reader does."""
    descriptor = open_kept(layout, ENTRY.name, now=now, touch_s=touch_s)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def test_names() -> None:
    """A name says its key's hash, its digest and its size; nothing else is a name."""
    name = ENTRY.name
    assert FileName.parse(str(name)) == name
    assert name.place == place_of(ENTRY.key) != place_of("store/key.2")
    for text in ("", "ledger", str(name).upper(), f"{name}.", f"{name}x", str(name).replace(".", "-"), f"../{name}"):
        assert FileName.parse(text) is None


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../../x", "a\0b", "ä\ud800", "x" * 5000])
def test_any_text_is_a_key(layout: HotSetLayout, key: str) -> None:
    """Whatever an origin calls its objects, the file lies in the directory."""
    path = keep(layout, Entry(key, ENTRY.digest, ENTRY.size_bytes))
    assert path.parent.parent == layout.kept
    assert layout.forget(key) == len(CONTENT)
    assert not path.exists()


def test_growing_to_kept(layout: HotSetLayout) -> None:
    """A blob is found under its kept name only after it was verified and kept."""
    growing = grow(layout)
    assert take(layout) is None
    assert (growing.look().size_bytes, growing.look().is_verified) == (len(CONTENT), False)
    growing.mark_verified(now=NOW)
    assert growing.look().is_verified
    assert take(layout) is None
    growing.keep(layout.kept_path(ENTRY.name))
    assert take(layout) == CONTENT
    assert list(layout.walk_growing()) == []
    assert [name for _, name in layout.walk_kept()] == [ENTRY.name]
    growing.close()


def test_one_fills_others_follow(layout: HotSetLayout) -> None:
    """The second who opens it does not hold it, sees it grow, and may take over when the first one is gone."""
    filler = grow(layout, CONTENT[:5])
    follower = GrowingFile.open(layout.growing_path(ENTRY.name), ENTRY.name)
    assert follower is not None
    assert (follower.is_ours, follower.look().size_bytes, follower.try_lock()) == (False, 5, False)
    filler.append([CONTENT[5:]], 5)
    assert follower.look().size_bytes == len(CONTENT)
    filler.close()
    assert follower.try_lock()
    follower.close()


@pytest.mark.parametrize("way", ["keep", "condemn", "give_up"])
def test_followers_see_how_it_ended(layout: HotSetLayout, way: str) -> None:
    """Verified, damaged and given up are three things, for who has it open; afterwards a new one can be begun."""
    filler = grow(layout)
    follower = GrowingFile.open(layout.growing_path(ENTRY.name), ENTRY.name)
    assert follower is not None
    if way == "keep":
        filler.mark_verified(now=NOW)
    getattr(filler, way)(*([layout.kept_path(ENTRY.name)] if way == "keep" else []))
    look = follower.look()
    assert (look.is_verified, look.is_damaged) == (way == "keep", way == "condemn")
    assert look.is_given_up == (way != "keep")
    assert os.pread(follower.descriptor, 100, 0) == CONTENT
    filler.close()
    follower.close()
    grow(layout, b"").close()


def test_give_up_of_a_replaced_file(layout: HotSetLayout) -> None:
    """Giving up removes one's own file only, never a new one of the same name."""
    old = grow(layout)
    old.give_up()
    new = grow(layout, b"")
    old.give_up()
    assert new.is_named()
    old.close()
    new.close()


def test_full_disk_adds_nothing(layout: HotSetLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails midway leaves the file as it was, so that followers see no half chunk for long."""
    growing = grow(layout, CONTENT[:5])
    written = os.pwritev

    def half(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if offset > 5:
            raise OSError(28, "No space left on device")
        return written(descriptor, [buffers[0][:2]], offset)

    monkeypatch.setattr(os, "pwritev", half)
    with pytest.raises(OSError, match="No space"):
        growing.append([CONTENT[5:]], 5)
    assert growing.look().size_bytes == 5
    growing.close()


@pytest.mark.parametrize("size_bytes", [0, 5, len(CONTENT) + 1])
def test_file_of_another_size_is_not_served(layout: HotSetLayout, size_bytes: int) -> None:
    """A kept file that became shorter or longer is removed when somebody asks for it."""
    path = keep(layout)
    path.chmod(0o600)
    os.truncate(path, size_bytes)
    assert take(layout) is None
    assert not path.exists()


def test_times_of_use(layout: HotSetLayout) -> None:
    """A use is written down at most every so often; one that comes later makes the file one that is wanted again."""
    path = keep(layout)
    assert take(layout, now=NOW + 59) == CONTENT
    assert (path.stat().st_atime, stat.S_IMODE(path.stat().st_mode)) == (NOW, VERIFIED_MODE)
    assert take(layout, now=NOW + 61) == CONTENT
    assert take(layout, now=NOW + 100) == CONTENT
    assert (path.stat().st_atime, path.stat().st_mtime) == (NOW + 61, NOW)
    assert path.stat().st_mode & stat.S_IXUSR


def test_readers_and_their_copies_are_seen(layout: HotSetLayout) -> None:
    """A kept file is in use as long as any copy of a reader's descriptor is open, and not longer."""
    path = keep(layout)
    descriptor = open_kept(layout, ENTRY.name, now=NOW, touch_s=60)
    assert descriptor is not None
    copy = os.dup(descriptor)
    os.close(descriptor)
    assert lock_unused(path) is None
    os.close(copy)
    lock = lock_unused(path)
    assert lock is not None
    assert take(layout) == CONTENT  # who comes while it is being evicted still reads
    os.close(lock)
    path.unlink()
    assert lock_unused(path) is None


def test_left_by_one_who_died_while_condemning(layout: HotSetLayout) -> None:
    """A file that was marked as damaged and not removed is not taken for anything else."""
    growing = grow(layout)
    os.fchmod(growing.descriptor, DAMAGED_MODE)
    growing.close()
    again = GrowingFile.open(layout.growing_path(ENTRY.name), ENTRY.name)  # None where the mode keeps us out
    assert again is None or again.look().is_damaged
    if again is not None:
        again.close()
