"""The server's own threads: counted, and told when others wait."""

import threading

import pytest
import trio

from gateway.wire.threads import Threads


async def test_calls_run_elsewhere_and_no_more_than_allowed() -> None:
    """A third caller waits for two threads, and whoever has one can see it."""
    threads = Threads(2)
    release = threading.Event()
    names: list[str] = []

    def work() -> int:
        names.append(threading.current_thread().name)
        release.wait(60)
        return 7

    async def call(done: list[int]) -> None:
        done.append(await threads.run(work))

    results: list[int] = []
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(call, results)
        with trio.fail_after(30):
            while not (len(names) == 2 and threads.are_wanted):  # noqa: ASYNC110 - a socket or thread tells, no event
                await trio.sleep(0.001)
        release.set()

    assert results == [7, 7, 7]
    assert len(names) == 3
    assert threading.current_thread().name not in names


async def test_arguments_and_errors_pass() -> None:
    """What the call raises is raised to who asked for it."""
    assert await Threads().run(int, "ff", base=16) == 255
    with pytest.raises(ValueError, match="invalid literal"):
        await Threads().run(int, "x")
