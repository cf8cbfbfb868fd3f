"""The hot set as one process has it: room, trouble with the disk, and the upkeep."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from storage.blobstore import Span
from storage.digest import Digest
from storage.errors import Unavailable
from storage.hotset import HotSet, UpkeepReport
from storage.hotset_files import DAMAGED_MODE, Entry, FileName, GrowingFile, named_files
from storage.hotset_store import HotSetStore
from storage.intake import Intakes
from tests.storage.directory import open_below, open_descriptors, small_disk
from tests.storage.hotset_place import MIB, OddStore, hot_set
from tests.storage.place import content_of, put
from tests.storage.scene import Clock

CONTENT = bytes(range(256)) * 2048


def entry(key: str, content: bytes = CONTENT) -> Entry:
    """A blob."""
    return Entry(key, Digest.of(content), len(content))


async def keep(hotset: HotSet, key: str, content: bytes = CONTENT) -> Path:
    """Bring a blob in, as an intake does."""
    growing = await hotset.claim(entry(key, content))
    assert isinstance(growing, GrowingFile)
    hotset.append(growing, [content], 0)
    hotset.mark_verified(growing)
    assert await hotset.keep(growing)
    growing.close()
    return hotset._layout.kept_path(entry(key, content).name)


async def has(hotset: HotSet, key: str) -> bool:
    """Whether a blob is kept."""
    descriptor = await hotset.open(entry(key))
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


async def test_kept_blob_is_found(tmp_path: Path) -> None:
    """Each process with the same directory finds it, until it is forgotten."""
    first, second = await hot_set(tmp_path / "hot"), await hot_set(tmp_path / "hot")
    await keep(first, "a")
    assert [await has(first, "a"), await has(second, "a"), await has(second, "b")] == [True, True, False]
    await second.forget("a")
    await second.forget("a")
    assert not await has(first, "a")
    now = second.statistics()
    assert (now.hits, now.misses, now.kept) == (1, 1, 0)


async def test_claim_of_what_was_just_kept(tmp_path: Path) -> None:
    """Who looked a moment too early is given the whole file, and begins no second one."""
    hotset = await hot_set(tmp_path / "hot")
    await keep(hotset, "a")
    descriptor = await hotset.claim(entry("a"))
    assert isinstance(descriptor, int)
    os.close(descriptor)
    assert list(hotset._layout.walk_growing()) == []


async def test_large_blobs_are_not_admitted(tmp_path: Path) -> None:
    """A blob of more than a quarter of the capacity is not kept, nor is an empty one."""
    hotset = await hot_set(tmp_path / "hot", capacity_bytes=4 * MIB)
    assert [hotset.admits(Entry("k", Digest.of(b""), size)) for size in (0, 1, MIB, MIB + 1)] == [
        False,
        True,
        True,
        False,
    ]


async def test_no_room_is_no_failure(tmp_path: Path) -> None:
    """Where the disk has too little left, blobs are read from the origin, and nothing is begun."""
    origin = OddStore()
    stored = await put(origin, "one", CONTENT)
    hotset = await hot_set(tmp_path / "hot", reserve_bytes=1 << 60)
    async with Intakes.open() as intakes:
        store = HotSetStore(origin, hotset, intakes)
        for _ in range(2):
            assert await content_of(store, stored) == CONTENT
    assert list(hotset._layout.walk_growing()) == []
    assert (hotset.statistics().refused, hotset.statistics().kept) == (2, 0)
    assert origin.behaviour.opened == [Span(0, len(CONTENT))] * 2


async def test_directory_that_went(tmp_path: Path) -> None:
    """Without its directory the set is of no use, and nothing fails for it."""
    origin = OddStore()
    stored = await put(origin, "one", CONTENT)
    hotset = await hot_set(tmp_path / "hot")
    (tmp_path / "hot").rename(tmp_path / "elsewhere")
    async with Intakes.open() as intakes:
        assert await content_of(HotSetStore(origin, hotset, intakes), stored) == CONTENT


@pytest.mark.slow
async def test_small_disk(tmp_path: Path) -> None:
    """On a disk that is really full, pulls are right, whether or not their blobs found room."""
    origin = OddStore()
    contents = [bytes([number]) * MIB for number in range(6)]
    stored = [await put(origin, f"s{number}", each) for number, each in enumerate(contents)]
    before = open_descriptors()
    with small_disk(tmp_path / "disk", size_bytes=4 * MIB) as disk:
        hotset = await hot_set(disk / "hot", capacity_bytes=64 * MIB)
        (disk / "ballast").write_bytes(b"x" * (MIB + MIB // 2))

        async def pull(number: int) -> None:
            assert await content_of(HotSetStore(origin, hotset, intakes), stored[number]) == contents[number]

        async with Intakes.open() as intakes:
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for number in range(6):
                        nursery.start_soon(pull, number)
            await intakes.wait_idle()
        assert hotset.statistics().kept >= 1
    assert open_descriptors() == before


async def test_eviction_under_load(tmp_path: Path) -> None:
    """Readers of a set that is far too small get right bytes, and it stays within its capacity."""
    origin = OddStore()
    contents = [bytes([number]) * (MIB // 2) for number in range(12)]
    stored = [await put(origin, f"s{number}", each) for number, each in enumerate(contents)]
    hotset = await hot_set(tmp_path / "hot", capacity_bytes=2 * MIB)

    async def pull(number: int) -> None:
        async with HotSetStore(origin, hotset, intakes).open(stored[number], Span(0, MIB // 2)) as reader:
            got = bytearray()
            async for chunk in reader.chunks():
                got += chunk
                await trio.lowlevel.checkpoint()
        assert bytes(got) == contents[number]

    async with Intakes.open() as intakes:
        async with trio.open_nursery() as nursery:
            for turn in range(48):
                nursery.start_soon(pull, turn * 5 % 12)
        await intakes.wait_idle()
    assert (await hotset.upkeep()).used_bytes <= 2 * MIB
    assert sum(path.stat().st_size for path, _ in hotset._layout.walk_kept()) <= 2 * MIB


# --- upkeep -------------------------------------------------------------------------------------------------------


async def test_upkeep_is_done_by_one_process(tmp_path: Path) -> None:
    """While one process is at it the others leave it alone."""
    first, second = await hot_set(tmp_path / "hot"), await hot_set(tmp_path / "hot")
    lock = first._lock_upkeep()
    assert lock is not None
    assert await second.upkeep() == UpkeepReport(is_ours=False)
    os.close(lock)
    assert (await second.upkeep()).is_ours


async def test_abandoned_files_go(tmp_path: Path) -> None:
    """A growing file that nobody fills stays for those who come back, and goes after a while."""
    clock = Clock()
    hotset = await hot_set(tmp_path / "hot", clock=clock)
    growing = await hotset.claim(entry("a"))
    assert isinstance(growing, GrowingFile)
    hotset.append(growing, [CONTENT[:100]], 0)
    clock.advance(3600)
    assert (await hotset.upkeep()).abandoned == 0
    growing.close()
    clock.advance(-3600)
    assert (await hotset.upkeep()).abandoned == 0
    clock.advance(3600)
    report = await hotset.upkeep()
    assert (report.abandoned, report.used_bytes) == (1, 0)


async def test_start_removes_what_was_left(tmp_path: Path) -> None:
    """A start removes growing files without a filler at once, those that were condemned too; kept ones stay."""
    hotset = await hot_set(tmp_path / "hot")
    await keep(hotset, "a")
    for key in ("b", "c"):
        growing = await hotset.claim(entry(key))
        assert isinstance(growing, GrowingFile)
        if key == "c":
            os.fchmod(growing.descriptor, DAMAGED_MODE)
        growing.close()
    again = await hot_set(tmp_path / "hot")
    assert list(again._layout.walk_growing()) == []
    assert await has(again, "a")
    assert (await again.upkeep()).used_bytes == len(CONTENT)


async def test_rotten_copy_is_found(tmp_path: Path) -> None:
    """In the time of a round everything kept is hashed once more; what is wrong is removed, what is right stays."""
    clock = Clock()
    hotset = await hot_set(tmp_path / "hot", clock=clock, recheck_s=1000)
    paths = [await keep(hotset, key) for key in "abcd"]
    paths[2].chmod(0o600)
    with paths[2].open("r+b") as file:
        file.seek(5)
        file.write(b"?")
    checked, damaged = 0, 0
    assert (await hotset.upkeep()).checked_bytes == 0
    for _ in range(10):
        clock.advance(100)
        report = await hotset.upkeep()
        checked, damaged = checked + report.checked_bytes, damaged + report.damaged
    assert damaged == 1
    assert 4 * len(CONTENT) <= checked <= 10 * len(CONTENT)
    assert [path.exists() for path in paths] == [True, True, False, True]


async def test_check_is_bounded(tmp_path: Path) -> None:
    """However long nobody checked, one turn hashes so many bytes, and the file that it began."""
    clock = Clock()
    hotset = await hot_set(tmp_path / "hot", clock=clock, recheck_s=10)
    for key in "abcd":
        await keep(hotset, key)
    await hotset.upkeep()
    clock.advance(3600)
    assert (await hotset.upkeep(check_bytes=len(CONTENT) + 1)).checked_bytes == 2 * len(CONTENT)


async def test_trouble_with_the_directory(tmp_path: Path) -> None:
    """Who prepares or keeps up is told of trouble with the disk."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        await hot_set(tmp_path / "file" / "hot")
    hotset = await hot_set(tmp_path / "hot")
    (tmp_path / "hot").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable):
        await hotset.upkeep()


async def test_file_that_is_adopted(tmp_path: Path) -> None:
    """A verified file gets a second name in the set, counted and synced as any, until it leaves."""
    hotset = await hot_set(tmp_path / "hot")
    path = tmp_path / "arrived"
    path.write_bytes(CONTENT)
    assert await hotset.adopt(entry("a"), path)
    assert hotset._layout.kept_path(entry("a").name).samefile(path)
    path.unlink()
    assert await has(hotset, "a")
    assert (await hotset.upkeep()).used_bytes == len(CONTENT)
    await hotset.forget("a")
    assert not await has(hotset, "a")


@pytest.mark.parametrize("why", ["too large", "no room", "no links", "no file"])
async def test_file_that_is_not_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """What the set does not take, or cannot link, is not kept, takes no room, and is nobody's trouble."""
    capacity = {"too large": len(CONTENT), "no room": 5 * len(CONTENT)}.get(why, 64 * MIB)
    hotset = await hot_set(tmp_path / "hot", capacity_bytes=capacity, reserve_bytes=1 << 60 if why == "no room" else 0)
    path = tmp_path / "arrived"
    if why != "no file":
        path.write_bytes(CONTENT)

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        if why == "no links":
            patch.setattr(os, "link", refuse)
        assert not await hotset.adopt(entry("a"), path)
    assert not await has(hotset, "a")
    assert (await hotset.upkeep()).used_bytes == 0


async def test_claim_that_fails_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble of the disk while a new file is claimed is no room, and leaves no descriptor and no lock."""

    def fail(*_args: object, **_kwargs: object) -> bool:
        raise OSError(5, "Input/output error")

    hotset = await hot_set(tmp_path / "hot")
    with monkeypatch.context() as patch:
        patch.setattr(hotset._room, "take", fail)
        assert await hotset.claim(entry("a")) is None
        patch.setattr(GrowingFile, "give_up", fail)
        assert await hotset.claim(entry("a")) is None
    assert open_below(tmp_path) == []
    await keep(hotset, "a")
    assert await has(hotset, "a")


async def test_check_lists_few_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hashed next is found in the directory of its first digits, not by a walk over the whole set."""
    clock = Clock()
    hotset = await hot_set(tmp_path / "hot", clock=clock, recheck_s=10)
    for number in range(40):
        await keep(hotset, f"key-{number}", b"%d" % number)
    await hotset.upkeep()
    listed, seen = [], set()

    def list_files(directory: Path) -> Iterator[tuple[Path, FileName]]:
        listed.append(directory)
        return named_files(directory)

    monkeypatch.setattr("storage.hotset.named_files", list_files)
    for _ in range(40):
        found = await hotset.pool.run(hotset._next_kept)
        assert found is not None
        seen.add(found[0])
    assert len(seen) == 40
    assert len(listed) <= 2 * 40 + 1
