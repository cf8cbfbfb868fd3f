"""Signs of life: who counts is alive, who does not is silent, and time in which nobody ran is nobody's silence."""

import mmap
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from gateway.wire.heartbeat import Heartbeats


@pytest.fixture
def autojump_clock() -> MockClock:
    """Nothing here waits for the kernel, so time may jump at once."""
    return MockClock(autojump_threshold=0)


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def heartbeats(clock: Callable[[], float], workers: int = 2) -> Heartbeats:
    """With a silence of 10 s, so that a look is due every second."""
    return Heartbeats(workers, silence_s=10, clock=clock)


async def beat(beats: Heartbeats, number: int) -> None:
    """One turn of a worker's loop."""
    async with beats.beating(number):
        await trio.testing.wait_all_tasks_blocked()


async def test_who_is_silent_for_long_is_found() -> None:
    """After the whole silence and not before; who counts in between is not."""
    clock = Clock()
    beats = heartbeats(clock)
    found = []
    for _ in range(11):
        await beat(beats, 0)
        clock.now += 1
        found.append(list(beats.look()))

    assert found == [[]] * 9 + [[1]] * 2


async def test_one_sign_of_life_is_enough() -> None:
    """The silence starts again after it, as after a new process."""
    clock = Clock()
    beats = heartbeats(clock)
    for _ in range(9):
        clock.now += 1
        assert not beats.look()
    await beat(beats, 0)
    beats.forget(1)
    for _ in range(9):
        clock.now += 1
        assert not beats.look()
    clock.now += 1
    assert list(beats.look()) == [1]  # the look that saw 0 count began its silence only then


async def test_a_look_that_comes_late_counts_little() -> None:
    """A supervisor that did not run for a day knows nothing about that day."""
    clock = Clock()
    beats = heartbeats(clock)
    for _ in range(4):
        clock.now += 86400
        assert not beats.look()
    clock.now += 86400
    assert list(beats.look()) == [0, 1]


async def test_a_look_is_due_ten_times_per_silence() -> None:
    """Often enough that a silence is noticed soon after it is over."""
    clock = Clock()
    beats = heartbeats(clock)
    assert beats.due_in_s() == 1
    clock.now += 1.5
    assert beats.due_in_s() == -0.5
    beats.look()
    assert beats.due_in_s() == 1


async def test_a_worker_counts_all_the_time(autojump_clock: MockClock) -> None:
    """Hours of serving: every look finds that it has counted, also when the byte begins anew."""
    beats = Heartbeats(1, silence_s=10, clock=trio.current_time)
    async with beats.beating(0):
        for _ in range(1000):
            await trio.sleep(beats.due_in_s())
            assert not beats.look()


async def test_the_bytes_are_shared() -> None:
    """The memory is one that a forked process and its parent both see."""
    assert isinstance(heartbeats(Clock())._beats, mmap.mmap)
