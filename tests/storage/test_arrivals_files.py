"""Growing files of arrivals: claims, room, leftovers, and what a machine calls itself."""

import errno
import os
from pathlib import Path

import pytest

from storage.arrivals_files import ArrivalsDirectory, is_after_boot, machine_id, note_boot
from storage.digest import Digest
from storage.errors import StorageFull
from storage.hotset import LOOK_BYTES
from storage.hotset_files import Entry, GrowingFile
from tests.storage.directory import open_below

ENTRY = Entry("1/x", Digest.of(b"x"), 1000)


@pytest.fixture
def directory(tmp_path: Path) -> ArrivalsDirectory:
    """An empty one, whose clock stands at 10,000."""
    made = ArrivalsDirectory(tmp_path / "main", reserve_bytes=0, clock=lambda: 10_000)
    made.create()
    return made


def claim(directory: ArrivalsDirectory, entry: Entry = ENTRY) -> GrowingFile:
    """Its growing file."""
    growing = directory.claim(entry.name)
    assert growing is not None
    return growing


def test_one_fills_the_other_follows(directory: ArrivalsDirectory) -> None:
    """The first claim is the filler's; when its lock goes the other takes over what is there."""
    first, second = claim(directory), claim(directory)
    assert (first.is_ours, second.is_ours) == (True, False)
    directory.append(first, [b"abc"], 0)
    first.close()
    assert second.try_lock()
    assert second.look().size_bytes == 3
    second.close()


@pytest.mark.parametrize("digest", [Digest.of(b"x"), Digest.of(b"x", "sha512")])
def test_names_of_both_algorithms(directory: ArrivalsDirectory, digest: Digest) -> None:
    """A file is named by any digest that Sluice knows, and counted as one on its way."""
    growing = claim(directory, Entry("1/x", digest, 1000))
    growing.close()
    assert directory.tidy(is_after_boot=True) == 1


def test_room_counts_what_others_will_write(directory: ArrivalsDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two blobs of 1000 bytes is no room for a third, until one has been written and the disk says so."""
    free = 2500
    monkeypatch.setattr(ArrivalsDirectory, "_free_bytes", lambda _self: free)
    names = [Entry(f"1/{number}", Digest.of(b"x"), 1000) for number in range(3)]
    first, second = claim(directory, names[0]), claim(directory, names[1])
    assert directory.claim(names[2].name) is None
    assert directory.refused == 1
    second.give_up()
    second.close()
    third = claim(directory, names[2])
    for growing in (first, third):
        growing.close()


def test_claim_that_fails_lets_go(
    directory: ArrivalsDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble of the disk while a new file is claimed is no room, and leaves no descriptor and no lock."""

    def fail(_self: object) -> int:
        raise OSError(errno.EIO, "disk")

    with monkeypatch.context() as patch:
        patch.setattr(ArrivalsDirectory, "_free_bytes", fail)
        assert directory.claim(ENTRY.name) is None
    assert open_below(tmp_path) == []
    growing = claim(directory)
    assert growing.is_ours
    growing.close()


def test_reserve_of_the_disk(directory: ArrivalsDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill that comes to a look finds that less is left than must stay free, and stops."""
    growing = claim(directory)
    monkeypatch.setattr(ArrivalsDirectory, "_free_bytes", lambda _self: -1)
    directory.append(growing, [b"1"], 0)
    with pytest.raises(StorageFull):
        directory.append(growing, [b"1"], LOOK_BYTES - 1)
    growing.close()


def test_tidy(directory: ArrivalsDirectory, tmp_path: Path) -> None:
    """What is old and nobody's goes; what is new, or being filled, or no growing file stays."""
    kept = claim(directory, Entry("1/filled", Digest.of(b"x"), 10))
    old, new = (claim(directory, Entry(name, Digest.of(b"x"), 10)) for name in ("1/old", "1/new"))
    for growing, changed_at in ((kept, 100), (old, 100), (new, 9900)):
        os.utime(growing.path, (changed_at, changed_at))
    old.close()
    new.close()
    (tmp_path / "main" / "readme").touch()
    assert directory.tidy() == 1
    assert sorted(path.name for path in (tmp_path / "main").iterdir()) == sorted(
        [kept.path.name, new.path.name, "readme"]
    )
    assert directory.tidy(is_after_boot=True) == 1
    kept.close()


def test_machines(tmp_path: Path) -> None:
    """Who shares a directory has one name, and another directory another one."""
    (tmp_path / "other").mkdir()
    assert machine_id(tmp_path) == machine_id(tmp_path)
    assert machine_id(tmp_path) != machine_id(tmp_path / "other")


def test_boots(tmp_path: Path) -> None:
    """A directory that nobody used in this boot is one from before it."""
    assert is_after_boot(tmp_path)
    note_boot(tmp_path)
    assert not is_after_boot(tmp_path)
    (tmp_path / "boot").write_text("another")
    assert is_after_boot(tmp_path)
