"""The pool by itself: order, age, bounds, and what closing means."""

import pytest
import trio
from trio.testing import MockClock

from storage.transfer.connection import Connection
from storage.transfer.origin import Origin
from storage.transfer.pool import IDLE_LIMIT_S, ConnectionPool
from tests.storage.transfer.memory import Memory, as_channel

HERE, THERE = Origin("http", "here", 80), Origin("http", "there", 80)


@pytest.fixture
def autojump_clock() -> MockClock:
    """Nothing here waits for the kernel."""
    return MockClock(autojump_threshold=0)


def connection() -> tuple[Connection, Memory]:
    """A connection at rest, and what tells whether it is open."""
    channel = Memory([])
    return Connection(as_channel(channel), idle_s=10), channel


async def test_last_one_is_taken_first() -> None:
    """So that those too many grow old."""
    pool = ConnectionPool(3)
    kept = [connection() for _ in range(3)]
    async with pool.slot():
        for each, _ in kept:
            pool.keep(HERE, each)
        assert [pool.take(HERE) for _ in range(4)] == [kept[2][0], kept[1][0], kept[0][0], None]
    assert pool.statistics().reused == 3


async def test_origins_are_not_mixed() -> None:
    """A connection serves the origin that it was opened for."""
    pool = ConnectionPool(2)
    here, _ = connection()
    async with pool.slot():
        pool.keep(HERE, here)
        assert pool.take(THERE) is None
        assert pool.take(Origin("https", "here", 80)) is None
        assert pool.take(HERE) is here


async def test_dead_ones_are_closed_and_passed_over() -> None:
    """What has something to read before it was asked is dead."""
    pool = ConnectionPool(2)
    (alive, _), (dead, dead_channel) = connection(), connection()
    async with pool.slot():
        pool.keep(HERE, alive)
        pool.keep(HERE, dead)
        dead_channel.says(b"408")
        assert pool.take(HERE) is alive
    assert not dead_channel.is_open


async def test_old_ones_are_closed_whoever_comes(autojump_clock: MockClock) -> None:
    """Any use of the pool closes what has rested too long, of every origin."""
    pool = ConnectionPool(3)
    (old, old_channel), (young, young_channel) = connection(), connection()
    async with pool.slot():
        pool.keep(HERE, old)
        await trio.sleep(IDLE_LIMIT_S / 2)
        pool.keep(HERE, young)
        await trio.sleep(IDLE_LIMIT_S / 2)
        assert pool.take(THERE) is None
        assert (old_channel.is_open, young_channel.is_open) == (False, True)
        assert pool.take(HERE) is young


async def test_the_one_that_rested_longest_makes_room() -> None:
    """In use and at rest together they are never more than the bound."""
    pool = ConnectionPool(2)
    (first, first_channel), (second, second_channel) = connection(), connection()
    async with pool.slot():
        pool.keep(HERE, first)
    async with pool.slot():
        pool.keep(HERE, second)
    async with pool.slot():
        pool.make_room()
        assert (first_channel.is_open, second_channel.is_open) == (False, True)
        assert pool.statistics().idle == 1
        pool.make_room()
        assert second_channel.is_open


async def test_waiting_is_in_turn() -> None:
    """Who waited first goes first, and who gives up is forgotten."""
    pool = ConnectionPool(1)
    order: list[int] = []
    scopes = [trio.CancelScope() for _ in range(3)]

    async def use(number: int) -> None:
        with scopes[number]:
            async with pool.slot():
                order.append(number)

    async with trio.open_nursery() as nursery, pool.slot():
        for number in range(3):
            nursery.start_soon(use, number)
            await trio.testing.wait_all_tasks_blocked()
        scopes[1].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert pool.statistics().waiting == 2
    assert order == [0, 2]


async def test_closed_pool_keeps_nothing() -> None:
    """What rests is closed, what comes back too, and those who wait are refused."""
    pool = ConnectionPool(1)
    (resting, resting_channel), (used, used_channel) = connection(), connection()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            async with pool.slot():
                pytest.fail("a closed pool gave a connection")

    async with trio.open_nursery() as nursery, pool.slot():
        pool.keep(HERE, resting)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        pool.close()
        pool.keep(HERE, used)
    assert (resting_channel.is_open, used_channel.is_open) == (False, False)
