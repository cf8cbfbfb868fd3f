"""Counting connections, sending the longest resting one home, and the last call."""

from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock

from gateway.wire.census import LAST_CALL_S, Census, ConnectionStatistics


class Resting:
    """Connections that do nothing but rest, by name, and when each was sent home."""

    def __init__(self, census: Census, nursery: trio.Nursery) -> None:
        self.census = census
        self.ended: dict[str, float] = {}
        self._nursery = nursery
        nursery.start_soon(census.watch)

    async def begin(self, name: str, timeout_s: float = 3600) -> None:
        """One more."""
        self._nursery.start_soon(self._rest, name, timeout_s)
        await trio.testing.wait_all_tasks_blocked()

    async def _rest(self, name: str, timeout_s: float) -> None:
        guest = self.census.admit("::1")
        assert guest is not None
        with guest.scope:
            self.census.rest(guest, timeout_s)
            await trio.sleep_forever()
        self.ended[name] = trio.current_time()
        self.census.leave(guest)


def test_admission_ends_at_the_limit() -> None:
    """A full worker whose connections are all busy turns newcomers away, and admits again when one leaves."""
    census = Census(2)
    guests = [census.admit("::1") for _ in range(3)]
    assert [guest is not None for guest in guests] == [True, True, False]
    assert guests[0] is not None

    census.leave(guests[0])

    assert census.admit("::1") is not None
    assert census.statistics() == ConnectionStatistics(
        open=2, resting=0, accepted_total=3, turned_away_total=1, stalled_total=0
    )


def test_one_address_cannot_take_all() -> None:
    """An address has a limit of its own, unless it is one behind which there are many; leaving gives the place back."""
    census = Census(10, max_per_address=2, unlimited=lambda address: address == "10.0.0.1")
    guests = [census.admit("10.0.0.9") for _ in range(3)]

    assert [guest is not None for guest in guests] == [True, True, False]
    assert all(census.admit("10.0.0.1") is not None for _ in range(5))
    assert census.admit("10.0.0.8") is not None

    assert guests[0] is not None
    census.leave(guests[0])
    assert census.admit("10.0.0.9") is not None
    assert census.admit("10.0.0.9") is None


def test_few_are_refused_aloud_at_once() -> None:
    """A flood of connections beyond the limit holds 64 descriptors at most; who has been refused makes room."""
    census = Census(1)
    with ExitStack() as refused:
        aloud = [refused.enter_context(census.refusing()) for _ in range(70)]
    with census.refusing() as later:
        assert later

    assert aloud == [True] * 64 + [False] * 6


async def test_a_newcomer_replaces_the_longest_resting(nursery: trio.Nursery) -> None:
    """When full, who rests longest goes first, one per newcomer."""
    census = Census(2)
    resting = Resting(census, nursery)
    for name in ("first", "second"):
        await resting.begin(name)
    for name in ("first", "second"):
        assert census.admit("::1") is not None
        await trio.testing.wait_all_tasks_blocked()
        assert list(resting.ended)[-1] == name

    assert census.admit("::1") is None


async def test_rest_ends_after_its_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Nobody rests longer than allowed, whoever came first; a quarter of a second does not count."""
    resting = Resting(Census(9), nursery)
    for name, timeout_s in (("long", 100), ("short", 60), ("shortest", 10)):
        await resting.begin(name, timeout_s)

    await trio.sleep(200)

    assert list(resting.ended) == ["shortest", "short", "long"]
    assert list(resting.ended.values()) == pytest.approx([10, 60, 100], abs=0.25)


async def test_who_wakes_in_time_is_left_alone(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A connection with a request is not ended, however long it rested before; one told to go learns it when waking."""
    census = Census(2)
    nursery.start_soon(census.watch)
    busy, late = census.admit("::1"), census.admit("::1")
    assert busy is not None
    assert late is not None
    census.rest(busy, 10)
    census.rest(late, 10)
    assert census.wake(busy)

    await trio.sleep(100)

    assert not busy.scope.cancel_called
    assert not census.wake(late)
    assert late.scope.cancel_called


async def test_the_last_call_ends_every_rest_soon(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Who rests at the stop, and who comes to rest after it, has only a moment; nobody gets longer than before."""
    census = Census(10)
    resting = Resting(census, nursery)
    await resting.begin("patient", 60.0)
    await resting.begin("hasty", LAST_CALL_S / 2)
    census.last_call()
    await resting.begin("late", 60.0)

    await trio.sleep(5)

    assert census.closing
    assert resting.ended["hasty"] <= resting.ended["patient"]
    assert max(resting.ended.values()) <= 2 * LAST_CALL_S
