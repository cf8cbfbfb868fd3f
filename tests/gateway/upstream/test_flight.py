"""A question that several wait for."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.upstream.errors import UpstreamBusy, UpstreamFailed
from gateway.upstream.flight import Flight


async def test_it_is_asked_once_and_told_to_all(nursery: trio.Nursery) -> None:
    """Those who come while it is under way, and afterwards."""
    go_on, asked = trio.Event(), []

    async def ask() -> str:
        asked.append(1)
        await go_on.wait()
        return "answer"

    flight = Flight(nursery, ask, name="it")
    heard: list[str] = []

    async def hear() -> None:
        heard.append(await flight.result())

    async with trio.open_nursery() as waiting:
        for _ in range(3):
            waiting.start_soon(hear)
        await wait_all_tasks_blocked()
        assert (flight.is_over, flight.result_nowait()) == (False, None)
        go_on.set()

    assert (flight.is_over, flight.result_nowait(), await flight.result()) == (True, "answer", "answer")
    assert (heard, asked) == (["answer"] * 3, [1])


async def test_who_leaves_ends_nothing(nursery: trio.Nursery) -> None:
    """Not even when it was the first, and the only one."""
    go_on = trio.Event()

    async def ask() -> str:
        await go_on.wait()
        return "answer"

    flight = Flight(nursery, ask, name="it")
    with trio.CancelScope() as scope:
        scope.cancel()
        await flight.result()
    go_on.set()

    assert scope.cancelled_caught
    assert await flight.result() == "answer"


async def test_errors_are_raised_to_everybody_anew(nursery: trio.Nursery) -> None:
    """Of the same class and words, with the first one as their cause, so that tracebacks do not pile up."""

    async def ask() -> str:
        raise UpstreamBusy("not now", retry_after_s=7)

    flight = Flight(nursery, ask, name="it")
    raised = []
    for _ in range(2):
        with pytest.raises(UpstreamBusy, match="not now") as caught:
            await flight.result()
        raised.append(caught.value)

    assert raised[0] is not raised[1]
    assert raised[0].__cause__ is raised[1].__cause__
    assert [error.retry_after_s for error in raised] == [7, 7]
    assert flight.result_nowait() is None


async def test_what_nobody_foresaw_stays_out_of_the_nursery(nursery: trio.Nursery) -> None:
    """It is an upstream's failure to those who wait, with the cause at its end."""

    async def ask() -> str:
        raise ZeroDivisionError

    with pytest.raises(UpstreamFailed, match="unexpected") as caught:
        await Flight(nursery, ask, name="it").result()

    cause = caught.value.__cause__
    assert cause is not None
    assert isinstance(cause.__cause__, ZeroDivisionError)
    assert not nursery.cancel_scope.cancel_called


async def test_the_end_of_the_service_is_told_to_those_who_wait(nursery: trio.Nursery) -> None:
    """Whether it began or not: nobody waits for a task that is gone."""
    for turns in (0, 1):
        async with trio.open_nursery() as service:
            flight: Flight[None] = Flight(service, trio.sleep_forever, name="it")
            for _ in range(turns):
                await wait_all_tasks_blocked()
            service.cancel_scope.cancel()
        with pytest.raises(UpstreamFailed, match="it was cut off"):
            await flight.result()
