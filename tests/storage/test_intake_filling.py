"""A fill of a growing file: batches, the digest, what another filler left, and a disk in trouble."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from trio.testing import MockClock

from storage.digest import Digest
from storage.errors import StorageFull
from storage.hotset import HotSet
from storage.hotset_files import Entry, GrowingFile
from storage.intake_filling import BATCH_BYTES, Filling, Homeless
from tests.storage.hotset_place import MIB, hot_set

CONTENT = bytes(range(251)) * 9000
CHUNK = 100_000


@pytest.fixture
async def hotset(tmp_path: Path) -> HotSet:
    """An empty set."""
    return await hot_set(tmp_path / "hot")


async def claim(hotset: HotSet, content: bytes = CONTENT) -> GrowingFile:
    """Our growing file."""
    growing = await hotset.claim(Entry("key", Digest.of(content), len(content)))
    assert isinstance(growing, GrowingFile)
    return growing


def filling(hotset: HotSet, growing: GrowingFile, advance: Callable[[int], object]) -> Filling:
    """A fill of it."""
    return Filling(hotset, growing, Entry("key", growing.name.digest, growing.name.size_bytes), advance=advance)


async def test_gathers_but_not_the_first(hotset: HotSet, autojump_clock: MockClock) -> None:
    """The first chunk is there at once; after it several are written together; all are there at the end."""
    growing, told = await claim(hotset), list[int]()
    fill = filling(hotset, growing, told.append)
    for start in range(0, len(CONTENT), CHUNK):
        await fill.put(CONTENT[start : start + CHUNK])
    assert told[0] == CHUNK
    assert all(BATCH_BYTES <= later - earlier < BATCH_BYTES + CHUNK for earlier, later in pairwise(told))
    assert await fill.end()
    assert told[-1] == len(CONTENT)
    assert growing.look().is_verified
    assert hotset._layout.growing_path(growing.name).read_bytes() == CONTENT
    growing.close()


async def test_slow_chunks_do_not_wait(hotset: HotSet, mock_clock: MockClock) -> None:
    """What comes after a moment of silence is written as it comes."""
    growing, told = await claim(hotset), list[int]()
    fill = filling(hotset, growing, told.append)
    for start in range(0, 3000, 1000):
        await fill.put(CONTENT[start : start + 1000])
        mock_clock.jump(0.05)
    assert told == [1000, 2000, 3000]
    growing.close()


@pytest.mark.parametrize("given", [CONTENT[:-1] + b"?", CONTENT[:-1], CONTENT + b"?"])
async def test_wrong_bytes(hotset: HotSet, given: bytes) -> None:
    """Other bytes, too few and too many are not right, and the file does not say that they were."""
    growing = await claim(hotset)
    fill = filling(hotset, growing, lambda _: None)
    for start in range(0, len(given), CHUNK):
        await fill.put(given[start : start + CHUNK])
    assert not await fill.end()
    assert not growing.look().is_verified
    growing.close()


@pytest.mark.parametrize("left", [1, MIB, len(CONTENT)])
async def test_goes_on_with_what_was_left(hotset: HotSet, left: int) -> None:
    """The digest is of all bytes, those of an earlier filler included, even if nothing is missing."""
    growing = await claim(hotset)
    hotset.append(growing, [CONTENT[:left]], 0)
    fill = filling(hotset, growing, lambda _: None)
    await fill.adopt(left)
    if left < len(CONTENT):
        await fill.put(CONTENT[left:])
    assert await fill.end()
    growing.close()


async def test_what_was_left_is_wrong(hotset: HotSet) -> None:
    """Bytes of an earlier filler that are not right are found."""
    growing = await claim(hotset)
    hotset.append(growing, [b"?" * MIB], 0)
    fill = filling(hotset, growing, lambda _: None)
    await fill.adopt(MIB)
    await fill.put(CONTENT[MIB:])
    assert not await fill.end()
    growing.close()


async def test_disk_in_trouble(hotset: HotSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not take the bytes is told apart from a source in trouble; a file that was cut is one, too."""
    growing = await claim(hotset)
    fill = filling(hotset, growing, lambda _: None)
    with pytest.raises(Homeless):
        await fill.adopt(100)

    def refuse(*_: object) -> int:
        raise StorageFull("full")

    monkeypatch.setattr(hotset, "append", refuse)
    with pytest.raises(Homeless, match="full"):
        await fill.put(b"x")
    growing.close()
