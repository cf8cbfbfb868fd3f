"""Patience: a pause is bounded, the whole is not."""

import pytest
import trio
from trio.testing import MockClock

from gateway.wire.patience import PROGRESS_BYTES, Patience


@pytest.fixture
def autojump_clock() -> MockClock:
    """Nothing here waits for the kernel, so time may jump at once."""
    return MockClock(autojump_threshold=0)


async def test_who_moves_enough_may_take_for_ever(autojump_clock: MockClock) -> None:
    """Enough bytes within the idle time, in however small parts, start the time again."""
    with Patience(60) as patience:
        for _ in range(100):
            for _ in range(2):
                await trio.sleep(29)
                patience.moved(PROGRESS_BYTES // 2)

    assert not patience.over
    assert trio.current_time() == pytest.approx(5800)


async def test_a_trickle_is_not_enough(autojump_clock: MockClock) -> None:
    """A byte now and then does not count: the time ends as if nothing had come."""
    with Patience(60) as patience:
        for _ in range(1000):
            await trio.sleep(1)
            patience.moved(1)

    assert patience.over
    assert trio.current_time() == pytest.approx(60)


async def test_a_cancellation_from_outside_is_not_its_end(autojump_clock: MockClock) -> None:
    """Who is stopped for another reason is not called stalled."""
    with trio.move_on_after(5) as outer, Patience(60) as patience:
        await trio.sleep_forever()

    assert outer.cancelled_caught
    assert not patience.over
