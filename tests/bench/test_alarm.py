"""Alarms ring at their moment, neither before it nor a millisecond after it."""

from time import perf_counter_ns

from bench.alarm import Alarm


async def test_it_rings_when_it_is_due() -> None:
    """Nobody is woken early, and of several alarms the most punctual is within half a millisecond."""
    late_ns = []
    with Alarm() as alarm:
        for _ in range(400):
            due_ns = perf_counter_ns() + 2_300_000
            await alarm.wait_until(due_ns)
            late_ns.append(perf_counter_ns() - due_ns)
            if late_ns[-1] < 500_000:
                break
    assert min(late_ns) >= 0
    assert min(late_ns) < 500_000


async def test_what_is_past_does_not_wait() -> None:
    """A moment that has passed returns at once, and the next one still rings."""
    with Alarm() as alarm:
        start_ns = perf_counter_ns()
        await alarm.wait_until(start_ns - 1)
        await alarm.wait_until(start_ns + 1_000_000)
        assert perf_counter_ns() >= start_ns + 1_000_000
