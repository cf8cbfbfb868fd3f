"""Tasks beside a block: they end with it, and nobody's error is hidden."""

import pytest
import trio

from storage import open_background


async def test_tasks_end_with_the_block() -> None:
    """They are cancelled when it is left, and have ended when it is over."""
    ended = trio.Event()

    async def go_on() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with open_background() as nursery:
        nursery.start_soon(go_on)
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()

    assert ended.is_set()


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    """However many are open around it; their tasks end all the same."""
    ended = []

    async def go_on() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async def fail() -> None:
        async with open_background() as outer, open_background() as inner:
            for nursery in (outer, inner):
                nursery.start_soon(go_on)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError("the block's own")

    with pytest.raises(KeyError, match="the block's own"):
        await fail()

    assert len(ended) == 2


async def test_a_task_that_fails_ends_the_block() -> None:
    """Its error comes out in a group: it is not what whoever wrote the block did wrong."""

    async def fail() -> None:
        raise KeyError("a task's")

    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="a task's")):
        async with open_background() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()


async def test_a_cancelled_block_is_just_cancelled() -> None:
    """Nothing is raised, and nothing goes on after it."""
    with trio.move_on_after(0) as scope:
        async with open_background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    assert scope.cancelled_caught
