"""Doing a thing once: for many in a process, and over processes that share a database."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from gateway.repositories.turns import Turns
from gateway.upstream.errors import UpstreamBusy
from storage import Database, Transaction, Unavailable
from storage.metadata import leases
from tests.storage.scene import Clock, Scene


@pytest.fixture
def clock(memory_scene: Scene) -> Clock:
    """What leases are measured by."""
    return memory_scene.clock


@pytest.fixture
def database(memory_scene: Scene) -> Database:
    """What the processes share."""
    return memory_scene.database


@pytest.fixture
async def turns(database: Database, clock: Clock) -> AsyncIterator[Turns]:
    """One process."""
    async with Turns.open(database, clock=clock) as opened:
        yield opened


@pytest.fixture
async def others(database: Database, clock: Clock) -> AsyncIterator[Turns]:
    """Another one."""
    async with Turns.open(database, clock=clock) as opened:
        yield opened


class Work:
    """Something that takes until it is let go, and is counted."""

    def __init__(self, result: str = "done", failure: Exception | None = None) -> None:
        self.runs = 0
        self.go = trio.Event()
        self._result = result
        self._failure = failure

    async def __call__(self) -> str:
        """Do it."""
        self.runs += 1
        await self.go.wait()
        if self._failure is not None:
            raise self._failure
        return self._result


async def test_all_get_what_one_did(turns: Turns) -> None:
    """P7: many who ask meanwhile get one result; who asks later gets another; other keys are other things."""
    work, results = Work(), []

    async def ask(key: str) -> None:
        results.append(await turns.share(key, work, whose=1))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask, "a")
        nursery.start_soon(ask, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert work.runs == 2
        work.go.set()
    assert results == ["done"] * 21
    await turns.share("a", work, whose=1)
    assert work.runs == 3


async def test_who_leaves_ends_nothing(turns: Turns) -> None:
    """The first who asked is cancelled: the others get the result, and so does who asks after that."""
    work, results = Work(), []

    async def ask() -> None:
        results.append(await turns.share("a", work, whose=1))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0):
            await ask()
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        work.go.set()
    assert (results, work.runs) == (["done"], 1)


async def test_trouble_is_told_to_all_and_ends_nothing_else(turns: Turns) -> None:
    """Each gets an error of its own with everything that is in it; the next try is a new one."""
    work = Work(failure=UpstreamBusy("too often", retry_after_s=7))
    caught: list[UpstreamBusy] = []

    async def ask() -> None:
        with pytest.raises(UpstreamBusy) as found:
            await turns.share("a", work, whose=1)
        caught.append(found.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        work.go.set()
    assert [(str(each), each.retry_after_s) for each in caught] == [("too often", 7)] * 3
    assert len({id(each) for each in caught}) == 3
    assert await turns.share("a", _ready(), whose=1) == "done"


def _ready() -> Work:
    work = Work()
    work.go.set()
    return work


async def test_only_so_much_is_done_at_once(database: Database, clock: Clock) -> None:
    """Who asks for one thing more is told to come back; what is being done already may be joined."""
    work = Work()
    async with Turns.open(database, clock=clock, most=8) as turns:
        for number in range(8):
            turns.begin(number, work, whose=number)

        with pytest.raises(UpstreamBusy) as caught:
            turns.begin("one more", work, whose=1)
        assert caught.value.retry_after_s == 1
        joined = turns.begin(7, work, whose=1)
        work.go.set()
        assert await joined.outcome() == "done"
        await turns.wait_idle()
        assert await turns.share("one more", work, whose=1) == "done"


async def test_one_cannot_keep_the_others_from_theirs(database: Database, clock: Clock) -> None:
    """Whose questions are never answered gets no more of them in, and whatever others ask for is done."""
    work, quick = Work(), Work()
    quick.go.set()
    async with Turns.open(database, clock=clock, most=32) as turns:
        for number in range(4):
            turns.begin(number, work, whose="one")
        with pytest.raises(UpstreamBusy):
            turns.begin("fifth", work, whose="one")

        assert await turns.share("a", quick, whose="another") == "done"
        work.go.set()
        await turns.wait_idle()
        assert await turns.share("fifth", work, whose="one") == "done"


async def test_who_waits_at_the_end_is_told(database: Database, clock: Clock) -> None:
    """When the process stops, who still waits gets `Unavailable`, and the work is cancelled; errors come out bare."""
    work, told = Work(), trio.Event()

    async def ask(turns: Turns) -> None:
        with pytest.raises(Unavailable, match="stopping"):
            await turns.share("a", work, whose=1)
        told.set()

    async with trio.open_nursery() as nursery:
        with pytest.raises(LookupError):  # noqa: PT012 - what is raised inside is what this is about
            async with Turns.open(database, clock=clock) as turns:
                nursery.start_soon(ask, turns)  # noqa: ASYNC111 - that it closes before is what this is about
                await trio.testing.wait_all_tasks_blocked()
                raise LookupError
        await told.wait()


# --- over processes ------------------------------------------------------------------------------------------------


class Thing:
    """What is made once; both processes look for it in the database's place."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.looked = 0

    def look(self, tx: Transaction) -> str | None:
        """Whether it is there."""
        self.looked += 1
        tx.exec_driver_sql("SELECT 1")
        return self.made[0] if self.made else None

    async def make(self, by: str = "a") -> str:
        """Make it."""
        self.made.append(by)
        return by


async def test_one_process_does_it_and_the_others_find_it(turns: Turns, others: Turns) -> None:
    """While one is at it the other waits, and then finds what it made; nothing stays of the lease."""
    thing, begun, go = Thing(), trio.Event(), trio.Event()
    results: list[str] = []

    async def slowly() -> str:
        begun.set()
        await go.wait()
        return await thing.make("a")

    async def never() -> str:
        raise AssertionError

    async def first() -> None:
        results.append(await turns.alone("thing", thing.look, slowly))

    async def second() -> None:
        results.append(await others.alone("thing", thing.look, never))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await begun.wait()
        looked = thing.looked
        nursery.start_soon(second)
        while thing.looked < looked + 3:  # noqa: ASYNC110 - it polls a database
            await trio.sleep(0.01)
        go.set()

    assert (results, thing.made) == (["a", "a"], ["a"])


async def test_trouble_of_one_is_the_turn_of_the_next(turns: Turns, others: Turns, database: Database) -> None:
    """When one fails, the lease is let go and another tries; the row of the lease does not stay."""
    thing, begun, go = Thing(), trio.Event(), trio.Event()
    results: list[str] = []

    async def fail() -> str:
        begun.set()
        await go.wait()
        raise UpstreamBusy("not now")

    async def first() -> None:
        with pytest.raises(UpstreamBusy):
            await turns.alone("thing", thing.look, fail)

    async def second() -> None:
        results.append(await others.alone("thing", thing.look, thing.make))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await begun.wait()
        nursery.start_soon(second)
        go.set()

    assert results == ["a"]
    count = await database.read(lambda tx: tx.exec_driver_sql("SELECT count(*) FROM leases").scalar_one())
    assert count == 0


async def test_what_dead_processes_left_is_removed(turns: Turns, database: Database, clock: Clock) -> None:
    """Leases that ended long ago have no rows any more; those that may still be held, and others, stay."""
    for name in ("turn/dead", "job"):
        await database.transaction(leases.take, name, holder="dead", now=clock.now, lifetime_s=20)
    clock.advance(1000)
    await database.transaction(leases.take, "turn/held", holder="b", now=clock.now, lifetime_s=20)

    await turns.tidy()

    names = await database.read(lambda tx: tx.exec_driver_sql("SELECT name FROM leases ORDER BY name").scalars().all())
    assert names == ["job", "turn/held"]


async def test_a_process_that_died_delays_the_others_only(turns: Turns, database: Database, clock: Clock) -> None:
    """A lease that nobody lets go of ends by time."""
    thing = Thing()
    await database.transaction(leases.take, "turn/thing", holder="dead", now=clock.now, lifetime_s=20)
    results: list[str] = []

    async def ask() -> None:
        results.append(await turns.alone("thing", thing.look, thing.make))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        while thing.looked < 3:  # noqa: ASYNC110 - it polls a database
            await trio.sleep(0.01)
        assert not results
        clock.advance(20)

    assert results == ["a"]
