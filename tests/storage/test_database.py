"""What the rest of Sluice relies on: snapshots, atomic acts, outcomes that are certain, errors that are ours."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from storage import Conflict, Database, Transaction, Unavailable
from tests.storage.database_process import counter, raise_counter
from tests.storage.lease_rows import count, insert

Databases = Callable[[], Database]


@pytest.fixture
def database(any_database: Database) -> Database:
    """On either kind of database."""
    return any_database


async def test_a_transaction_gives_the_result_and_every_connection_sees_it(
    database: Database, databases: Databases
) -> None:
    """What `work` returns comes back, and reads here and through another database object see the row."""
    assert await database.transaction(insert, "one") == "one"
    assert await database.read(count) == 1
    assert await database.survey(count) == 1
    async with databases() as other:
        assert await other.read(count) == 1


async def test_what_work_raises_undoes_it_and_is_raised_as_it_is(database: Database) -> None:
    """The caller gets the very exception of its function, and nothing of the act is stored."""
    mine = LookupError("mine")

    def fail(transaction: Transaction) -> None:
        insert(transaction, "one")
        raise mine

    with pytest.raises(LookupError) as caught:
        await database.transaction(fail)
    assert caught.value is mine
    assert await database.read(count) == 0


async def test_a_broken_constraint_is_a_conflict_and_the_database_goes_on(database: Database) -> None:
    """A duplicate raises `Conflict`, and the next transaction works."""
    await database.transaction(insert, "one")
    with pytest.raises(Conflict, match=r"leases\.name"):
        await database.transaction(insert, "one")
    await database.transaction(insert, "two")
    assert await database.read(count) == 2


@pytest.mark.parametrize("method", ["read", "survey"])
async def test_reading_cannot_write(database: Database, method: str) -> None:
    """A function that writes is refused outside of `transaction`."""
    with pytest.raises(Unavailable, match="cannot be written"):
        await getattr(database, method)(insert, "one")
    assert await database.read(count) == 0


async def test_all_statements_of_one_survey_see_one_snapshot(database: Database) -> None:
    """A commit between two statements of a survey is not seen by the second, and is seen by the next survey."""
    first, committed = trio.Event(), threading.Event()

    def twice(transaction: Transaction) -> tuple[int, int]:
        before = count(transaction)
        trio.from_thread.run_sync(first.set)
        assert committed.wait(10)
        return before, count(transaction)

    seen: list[tuple[int, int]] = []

    async def survey() -> None:
        seen.append(await database.survey(twice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(survey)
        await first.wait()
        await database.transaction(insert, "one")
        committed.set()
    assert seen == [(0, 0)]
    assert await database.survey(count) == 1


async def test_a_read_after_a_failed_read_works(database: Database) -> None:
    """The connection on the loop survives what a function raises."""
    with pytest.raises(ZeroDivisionError):
        await database.read(lambda _: 1 / 0)
    assert await database.read(count) == 0


async def test_a_cancelled_caller_does_not_even_read(database: Database) -> None:
    """Reading is a cancellation point although it never waits."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.read(lambda _: pytest.fail("was run"))
    assert scope.cancelled_caught


async def test_cancelling_stops_a_survey_that_computes(database: Database) -> None:
    """A survey that would run for ever ends when its caller is cancelled, and its connection is good again."""
    started = trio.Event()
    endless = sa.text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")

    def compute(transaction: Transaction) -> None:
        trio.from_thread.run_sync(started.set)
        transaction.execute(endless).scalar_one()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.survey, compute)
        await started.wait()
        nursery.cancel_scope.cancel()
    assert await database.survey(count) == 0


async def test_surveys_are_bounded(databases: Databases) -> None:
    """With two threads the third survey waits, and the statistics say so."""
    release = threading.Event()

    def wait(_: Transaction) -> None:
        assert release.wait(10)

    async with databases() as database, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(database.survey, wait)
        await trio.testing.wait_all_tasks_blocked()
        statistics = database.statistics()
        assert (statistics.surveys_running, statistics.surveys_waiting) == (2, 1)
        release.set()


async def test_closing_finishes_the_writes_that_wait(databases: Databases) -> None:
    """Writes that were queued before `aclose` are acknowledged and stored; later calls are refused."""
    release = threading.Event()
    done: list[str] = []

    def gate(_: Transaction) -> None:
        assert release.wait(10)

    async with databases() as database, trio.open_nursery() as nursery:

        async def write(name: str) -> None:
            done.append(await database.transaction(insert, name))

        nursery.start_soon(database.transaction, gate)
        await trio.testing.wait_all_tasks_blocked()
        for name in ("one", "two"):
            nursery.start_soon(write, name)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(database.aclose)
        await trio.testing.wait_all_tasks_blocked()
        for refused in (database.transaction, database.read, database.survey):
            with pytest.raises(Unavailable, match="not open"):
                await refused(count)
        release.set()
    assert sorted(done) == ["one", "two"]
    async with databases() as database:
        assert await database.read(count) == 2


async def test_closing_twice_or_without_opening_is_fine(databases: Databases) -> None:
    """`aclose` may be called at any time."""
    database = databases()
    await database.aclose()
    async with database:
        await database.transaction(insert, "one")
        await database.aclose()


async def test_a_cancelled_close_still_closes(databases: Databases) -> None:
    """Cancellation does not leave the thread or the files open."""
    with trio.CancelScope() as scope:
        async with databases() as database:
            await database.transaction(insert, "one")
            scope.cancel()
    assert not any(thread.name.startswith("database-") for thread in threading.enumerate())


async def test_time_that_jumps_does_not_cut_the_close_short(
    databases: Databases, autojump_clock: trio.testing.MockClock
) -> None:
    """Under a clock that jumps while threads work, `aclose` still waits for the writer in real time."""
    async with databases() as database:
        assert await database.transaction(insert, "one") == "one"
    assert not any(thread.name.startswith("database-") for thread in threading.enumerate())


async def test_check_tells_a_closed_database(database: Database) -> None:
    """Readiness is given while it is open, and refused after closing."""
    await database.check()
    await database.aclose()
    with pytest.raises(Unavailable, match="not open"):
        await database.check()


async def test_writers_of_several_processes_take_turns(databases: Databases) -> None:
    """What an act reads stays true until it is committed: two that count in turns lose nothing."""
    async with databases() as one, databases() as two:
        await one.transaction(insert, "counter")

        async def add(database: Database) -> None:
            for _ in range(50):
                await database.transaction(raise_counter)

        async with trio.open_nursery() as nursery:
            for database in (one, two):
                for _ in range(2):
                    nursery.start_soon(add, database)
        assert await two.read(counter) == 200
