"""The spool: parts within one budget, first come first served, nothing left behind, and room that is never lost."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from storage import Hasher, Pool, Unavailable
from storage.spool import Kept, Spool, SpoolPart

PART = 1000


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    """Room for three parts."""
    made = Spool(tmp_path / "made" / "spool", budget_bytes=3 * PART, pool=Pool("spool", 2))
    await made.prepare()
    yield made
    made.close()


def reserved(spool: Spool) -> int:
    """Bytes that are given out."""
    return spool.statistics().reserved_bytes


async def test_bytes_come_back(spool: Spool, tmp_path: Path) -> None:
    """What was written is read, cut and written on; the file has no name."""
    part = await spool.part(PART)
    await spool.run(part.write, [b"one", bytearray(b"two"), memoryview(b"-three-")[1:6]])
    assert (part.size_bytes, part.read(3, 11)) == (11, b"twothree")
    part.cut(6)
    part.write([b"!"])
    assert part.read(0, part.size_bytes) == b"onetwo!"
    assert list((tmp_path / "made" / "spool").iterdir()) == []
    part.close()
    part.close()
    assert reserved(spool) == 0
    with pytest.raises(ValueError, match="closed"):
        part.write([b"late"])


async def test_part_is_bounded(spool: Spool) -> None:
    """More than the capacity is refused, all of it; more than the budget is never promised."""
    part = await spool.part(PART)
    part.write([bytes(PART - 1)])
    with pytest.raises(ValueError, match="full"):
        part.write([b"12"])
    assert part.size_bytes == PART - 1
    for capacity_bytes in (0, 3 * PART + 1):
        with pytest.raises(ValueError, match="does not fit"):
            await spool.part(capacity_bytes)


async def test_file_is_used_again_only_when_it_was_sent(spool: Spool) -> None:
    """A file that was sent serves the next part, empty; one that was not may still be read by the kernel and is not."""
    part = await spool.part(PART)
    part.write([b"old bytes"])
    descriptor = part.descriptor
    part.close(was_sent=True)
    again = await spool.part(PART)
    assert (again.descriptor, again.size_bytes) == (descriptor, 0)
    keeper = await spool.part(PART)
    again.close()
    other = await spool.part(PART)
    other.write([b"new"])
    assert other.read(0, 100) == b"new"
    keeper.close()


async def test_first_come_first_served(spool: Spool) -> None:
    """Who waits gets room in the order of arrival; a small wish does not overtake a large one."""
    parts = [await spool.part(PART) for _ in range(3)]
    order: list[str] = []

    async def take(name: str, capacity_bytes: int) -> None:
        part = await spool.part(capacity_bytes)
        order.append(name)
        part.close()

    async with trio.open_nursery() as nursery:
        for name, capacity_bytes in (("large", 2 * PART), ("small", 10), ("last", PART)):
            nursery.start_soon(take, name, capacity_bytes)
            await wait_all_tasks_blocked()
        assert spool.statistics().waiting == 3
        parts.pop().close()
        await wait_all_tasks_blocked()
        assert order == []
        parts.pop().close()
    # The other two have room at the same moment, and each opens its file in a thread.
    assert (order[0], sorted(order[1:])) == ("large", ["last", "small"])
    parts.pop().close()
    assert reserved(spool) == 0


async def test_cancelled_waiter_leaves_the_line(spool: Spool) -> None:
    """Whoever is cancelled while it waits takes nothing, and those behind it move up."""
    parts = [await spool.part(PART) for _ in range(3)]
    got = trio.Event()

    async def take() -> None:
        (await spool.part(PART)).close()
        got.set()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_blocked, scope)  # noqa: ASYNC111 - the task ends with the scope that it cancels
            await spool.part(3 * PART)
        assert scope.cancelled_caught
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        parts.pop().close()
        await got.wait()
    for part in parts:
        part.close()
    assert reserved(spool) == 0


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_cancelled_as_it_is_served(spool: Spool) -> None:
    """Room that was granted at the same moment as its waiter was cancelled is given back."""
    parts = [await spool.part(PART) for _ in range(3)]
    async with trio.open_nursery() as nursery:

        async def take() -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await spool.part(PART)

        scopes: list[trio.CancelScope] = []
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        parts.pop().close()
        scopes[0].cancel()
    for part in parts:
        part.close()
    assert reserved(spool) == 0


async def kept_part(spool: Spool, upload: str, *, version: int = 1) -> SpoolPart:
    """Keep a part for the upload."""
    part = await spool.part(PART)
    part.write([upload.encode()])
    spool.keep(upload, Kept(version, part, Hasher()))
    return part


async def test_kept_for_the_next_request(spool: Spool) -> None:
    """What was kept is there once, for exactly the version that it was kept at."""
    part = await kept_part(spool, "a", version=7)
    kept = spool.take("a", 7)
    assert kept is not None
    assert kept.part is part
    assert spool.take("a", 7) is None
    spool.keep("a", kept)
    assert spool.take("a", 8) is None
    assert reserved(spool) == 0


async def test_kept_parts_give_way(spool: Spool) -> None:
    """Whoever needs room gets that of the part that was kept longest; its hasher, which costs nothing, stays."""
    for upload in "abc":
        await kept_part(spool, upload)
    assert spool.statistics().kept_bytes == 3 * PART
    parts = [await spool.part(PART), await spool.part(PART)]
    for upload, is_there in (("a", False), ("b", False), ("c", True)):
        kept = spool.take(upload, 1)
        assert kept is not None
        assert (kept.part is not None, kept.hasher is not None) == (is_there, True)
        if kept.part is not None:
            parts.append(kept.part)
    for part in parts:
        part.close()
    assert reserved(spool) == 0


async def test_room_that_nobody_gives_back(autojump_clock: MockClock, spool: Spool) -> None:
    """Uploads that trickle keep their room: who waits for it in vain hears so, and nobody's place in line is left."""
    parts = [await spool.part(PART) for _ in range(3)]
    began = trio.current_time()
    with pytest.raises(Unavailable, match="full of other uploads"):
        await spool.part(PART)
    assert trio.current_time() - began == 60
    assert (spool.statistics().waiting, spool.statistics().reserved_bytes) == (0, 3 * PART)
    for part in parts:
        part.close()
    (await spool.part(PART)).close()


async def test_nothing_is_kept_while_somebody_waits(spool: Spool) -> None:
    """A part that is handed in to be kept serves whoever waits, at once."""
    parts = [await spool.part(PART) for _ in range(3)]
    async with trio.open_nursery() as nursery:

        async def take() -> None:
            (await spool.part(PART)).close()

        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        spool.keep("a", Kept(1, parts.pop(), None))
    spool.forget("a")
    for part in parts:
        part.close()
    assert reserved(spool) == 0


async def test_many_at_once(spool: Spool) -> None:
    """Fifty uploads that each fill part after part all end: nobody waits for room while it holds a part."""
    chance = random.Random(1)
    most = 0

    async def push() -> None:
        nonlocal most
        for _ in range(5):
            part = await spool.part(chance.choice([PART, 2 * PART, 10]))
            most = max(most, reserved(spool))
            await trio.lowlevel.checkpoint()
            if chance.random() < 0.3:
                spool.keep(str(chance.random()), Kept(1, part, None))
            else:
                part.close(was_sent=chance.random() < 0.5)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(push)
    assert most <= 3 * PART
    assert reserved(spool) == spool.statistics().kept_bytes


async def test_after_close(spool: Spool) -> None:
    """A closed spool keeps nothing; parts that are still in use end as ever."""
    part = await spool.part(PART)
    spool.close()
    spool.keep("a", Kept(1, part, None))
    assert (spool.take("a", 1), reserved(spool)) == (None, 0)
