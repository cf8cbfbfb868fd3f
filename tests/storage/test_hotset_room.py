"""Who leaves when there is no room, and that the count comes right."""

import os
from pathlib import Path

import pytest

from storage.digest import Digest
from storage.hotset_files import Entry, HotSetLayout, mark_used, open_kept
from storage.hotset_room import Room

NOW = 1_800_000_000.0
SIZE = 100


@pytest.fixture
def layout(tmp_path: Path) -> HotSetLayout:
    """The directories of an empty set."""
    made = HotSetLayout(tmp_path / "hot")
    made.create()
    return made


def entry(number: int, size_bytes: int = SIZE) -> Entry:
    """One of many blobs."""
    return Entry(f"key-{number}", Digest.of(b"%d" % number), size_bytes)


def furnish(layout: HotSetLayout, *numbers: int, again: bool = False, size_bytes: int = SIZE) -> None:
    """Kept files, used at second `number`; `again`: not for the first time."""
    for number in numbers:
        path = layout.kept_path(entry(number, size_bytes).name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size_bytes)
        path.chmod(0o444)
        os.utime(path, (NOW + number, NOW + number))
        if again:
            with path.open("rb") as file:
                mark_used(file.fileno(), now=NOW + number)


def left(layout: HotSetLayout) -> list[int]:
    """The numbers of the files that are kept."""
    numbers = {entry(number, size).name: number for number in range(100) for size in (SIZE, 1000)}
    return sorted(numbers[name] for _, name in layout.walk_kept())


def room_of(layout: HotSetLayout, *, capacity_bytes: int = 1000, reserve_bytes: int = 0) -> Room:
    """The count of a set of ten such files."""
    room = Room(layout, capacity_bytes=capacity_bytes, reserve_bytes=reserve_bytes)
    room.recount(now=NOW + 100)
    return room


def test_room_is_taken_and_given_back(layout: HotSetLayout) -> None:
    """So many bytes fit and no more, over all who count in the directory; what is given back may be taken again."""
    first, second = room_of(layout), room_of(layout)
    for number, room in enumerate((first, second)):
        name = entry(number, 400).name
        layout.growing_path(name).touch()
        assert room.take(400, now=NOW, growing=name)
    assert not first.take(300, now=NOW)
    layout.growing_path(entry(0, 400).name).unlink()
    second.give_back(400)
    assert second.take(600, now=NOW)


def test_reserved_by_one_who_died(layout: HotSetLayout) -> None:
    """Room that nothing in the directory stands for is found as soon as there is need."""
    assert room_of(layout).take(900, now=NOW)
    room = Room(layout, capacity_bytes=1000, reserve_bytes=0)
    assert room.take(500, now=NOW)
    assert room.take(500, now=NOW)


def test_least_recently_used_leaves(layout: HotSetLayout) -> None:
    """Of files that are wanted again, those used longest ago leave, and a little more than needed."""
    furnish(layout, *range(10), again=True)
    room = room_of(layout)
    assert room.take(150, now=NOW + 100)
    assert left(layout) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert (room.evicted_files, room.evicted_bytes) == (2, 200)


def test_a_scan_pushes_out_a_quarter_at_most(layout: HotSetLayout) -> None:
    """A hundred blobs that are pulled once leave most of what is wanted again where it is."""
    furnish(layout, *range(10), again=True)
    room = room_of(layout)
    for number in range(20, 100):
        assert room.take(SIZE, now=NOW + number)
        furnish(layout, number)
    stayed = left(layout)
    assert len([number for number in stayed if number < 10]) >= 6
    assert stayed[-1] == 99


def test_what_is_used_twice_stays(layout: HotSetLayout) -> None:
    """Among new ones, one that was used again outlives younger ones that were not."""
    furnish(layout, 0, again=True)
    furnish(layout, *range(1, 10))
    assert room_of(layout).take(300, now=NOW + 100)
    assert left(layout)[:2] == [0, 5]


def test_open_files_leave_last(layout: HotSetLayout) -> None:
    """What is being read stays while others can leave, and is as good as just used; with nobody else it leaves too."""
    furnish(layout, *range(10), again=True)
    descriptor = open_kept(layout, entry(0).name, now=NOW, touch_s=1e9)
    assert descriptor is not None
    room = room_of(layout)
    assert room.take(100, now=NOW + 100)
    assert left(layout)[:2] == [0, 3]
    assert layout.kept_path(entry(0).name).stat().st_atime == NOW + 100
    assert room.take(1000, now=NOW + 100)
    assert left(layout) == []
    assert os.pread(descriptor, SIZE, 0) == b"x" * SIZE  # who has it open reads on
    os.close(descriptor)


def test_file_of_another_size_is_removed(layout: HotSetLayout) -> None:
    """What is not whole does not count."""
    furnish(layout, 1, 2)
    path = layout.kept_path(entry(1).name)
    path.chmod(0o600)
    os.truncate(path, 5)
    assert room_of(layout).recount(now=NOW) == SIZE
    assert left(layout) == [2]


def test_capacity_that_was_made_smaller(layout: HotSetLayout) -> None:
    """A smaller capacity holds from the next count on."""
    furnish(layout, *range(10))
    assert room_of(layout, capacity_bytes=500).recount(now=NOW) <= 500


def test_reserve_of_the_disk(layout: HotSetLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files leave so that the disk keeps its reserve; when that is not enough, nothing is taken, whatever the count."""
    furnish(layout, *range(10))
    free = 1000

    def statvfs(_path: object) -> object:
        kept = sum(name.size_bytes for _, name in layout.walk_kept())
        return os.statvfs_result((1, 1, 0, 0, free - kept, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    room = Room(layout, capacity_bytes=10_000, reserve_bytes=500)
    assert room.is_disk_short()
    assert room.take(100, now=NOW + 100)
    assert len(left(layout)) == 4
    free = 300
    assert not room.take(100, now=NOW + 100)
    free = 10_000
    assert not room.take(100, now=NOW + 100)  # that there was none is believed for a while
    room.recount(now=NOW + 100)
    assert room.take(100, now=NOW + 100)


def test_what_takes_room_is_not_counted_twice(layout: HotSetLayout) -> None:
    """A file that grows in the directory already is not in its own way."""
    furnish(layout, *range(9))
    name = entry(50, 1000).name
    layout.growing_path(name).touch()
    assert room_of(layout).take(1000, now=NOW + 100, growing=name)
    assert left(layout) == []


def test_damaged_ledger(layout: HotSetLayout) -> None:
    """A count that cannot be read is nothing, until the next look sets it right."""
    furnish(layout, 1)
    layout.ledger.write_bytes(b"\0\0garbage")
    room = Room(layout, capacity_bytes=1000, reserve_bytes=0)
    assert room.take(10, now=NOW)
    assert room.recount(now=NOW) == SIZE
