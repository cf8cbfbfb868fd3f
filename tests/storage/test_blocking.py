"""The pool of threads: how many run at once, and what cancelling does to a running and to a waiting call."""

import threading

import pytest
import trio
import trio.testing

from storage.blocking import Pool, PoolStatistics


async def test_call_runs_in_a_thread_with_its_arguments() -> None:
    """The call gets its arguments, runs in a thread named after the pool, and gives its result."""

    def call(left: int, *, right: int) -> tuple[int, str]:
        return left * right, threading.current_thread().name

    assert await Pool("disk", 1).run(call, 6, right=7) == (42, "disk")


async def test_error_comes_back() -> None:
    """What the call raises is raised where it was waited for."""

    def fail() -> None:
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        await Pool("disk", 1).run(fail)


async def test_no_more_threads_than_the_size() -> None:
    """Callers beyond the size wait, and the statistics say so."""
    pool = Pool("disk", 2)
    release = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(pool.run, release.wait)
        await trio.testing.wait_all_tasks_blocked()
        assert pool.statistics() == PoolStatistics("disk", busy=2, size=2, waiting=1)
        release.set()
    assert pool.statistics() == PoolStatistics("disk", busy=0, size=2, waiting=0)


async def test_waiting_for_a_thread_can_be_cancelled() -> None:
    """A caller that is cancelled while it waits for a thread leaves at once, and its call never runs."""
    pool = Pool("disk", 1)
    release = threading.Event()
    ran = threading.Event()
    async with trio.open_nursery() as outer:
        outer.start_soon(pool.run, release.wait)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as inner:
            inner.start_soon(pool.run, ran.set)
            await trio.testing.wait_all_tasks_blocked()
            assert pool.statistics().waiting == 1
            inner.cancel_scope.cancel()
        assert pool.statistics() == PoolStatistics("disk", busy=1, size=1, waiting=0)
        release.set()
    assert not ran.is_set()


async def test_running_call_is_never_abandoned() -> None:
    """A caller that is cancelled while its call runs waits for the end and gets the result."""
    pool = Pool("disk", 1)
    release = threading.Event()
    results = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel, scope)
                results.append(await pool.run(release.wait))

        async def cancel(scope: trio.CancelScope) -> None:
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert pool.statistics().busy == 1
            assert results == []
            release.set()

        nursery.start_soon(run)
    assert results == [True]


async def test_a_look_is_left_behind_by_who_is_cancelled() -> None:
    """What changes nothing may end by itself: nobody waits for it, but its place in the pool is taken until then."""
    pool = Pool("names", 1)
    release, ended = threading.Event(), threading.Event()

    def look() -> None:
        release.wait()
        ended.set()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.look, look)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

    assert not ended.is_set()
    assert pool.statistics().busy == 1
    release.set()
    assert await pool.look(lambda: "next") == "next"
    assert ended.is_set()


async def test_pools_do_not_starve_each_other() -> None:
    """A full pool does not keep another one waiting."""
    full, other = Pool("full", 1), Pool("other", 1)
    release = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(full.run, release.wait)
        await trio.testing.wait_all_tasks_blocked()
        assert await other.run(lambda: "ran") == "ran"
        release.set()
