"""Counting connections, sending the longest resting one home, and the last call."""

import pytest
import trio
from trio.testing import MockClock

from gateway.wire.census import LAST_CALL_S, Census, ConnectionStatistics


def test_admission_ends_at_the_limit() -> None:
    """A full worker whose connections are all busy turns newcomers away, and admits again when one leaves."""
    census = Census(2)
    assert [census.admit() for _ in range(3)] == [True, True, False]

    census.leave()

    assert census.admit()
    assert census.statistics() == ConnectionStatistics(
        open=2, resting=0, accepted_total=3, turned_away_total=1, stalled_total=0
    )


async def test_a_newcomer_replaces_the_longest_resting(nursery: trio.Nursery) -> None:
    """When full, who rests longest goes first, one per newcomer."""
    census = Census(2)
    ended: list[str] = []

    async def rest(name: str) -> None:
        with census.resting(3600):
            await trio.sleep(3600)
        ended.append(name)
        census.leave()

    for name in ("first", "second"):
        assert census.admit()
        nursery.start_soon(rest, name)
        await trio.testing.wait_all_tasks_blocked()
    for name in ("first", "second"):
        assert census.admit()
        await trio.testing.wait_all_tasks_blocked()
        assert ended[-1] == name

    assert not census.admit()


async def test_rest_ends_after_its_time(autojump_clock: MockClock) -> None:
    """Nobody rests longer than allowed."""
    with Census(1).resting(60) as scope:
        await trio.sleep(3600)

    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(60)


async def test_the_last_call_ends_every_rest_soon(autojump_clock: MockClock) -> None:
    """Who rests at the stop, and who comes to rest after it, has only a moment; nobody gets longer than before."""
    census = Census(10)
    ends: list[float] = []

    async def rest(timeout_s: float) -> None:
        with census.resting(timeout_s):
            await trio.sleep(3600)
        ends.append(trio.current_time())

    async with trio.open_nursery() as resting:
        resting.start_soon(rest, 60.0)
        resting.start_soon(rest, LAST_CALL_S / 2)
        await trio.testing.wait_all_tasks_blocked()
        census.last_call()
        resting.start_soon(rest, 60.0)

    assert census.closing
    assert ends == pytest.approx([LAST_CALL_S / 2, LAST_CALL_S, LAST_CALL_S])
