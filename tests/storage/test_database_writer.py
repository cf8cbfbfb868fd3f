"""Writers that wait together are committed together, and each learns exactly what became of its own act."""

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from storage import Conflict, Database, PostgresDatabase, SqliteDatabase, Transaction, Unavailable
from storage.database_writer import Committer
from storage.metadata.tables import repositories
from tests.storage.lease_rows import insert, names

Act = Callable[[Transaction], object]
_REFUSING_COMMITS = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
    "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON leases INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
)
"""Undone with the transaction whose commit they refuse."""


@pytest.fixture
def database(any_database: Database) -> Database:
    """On either kind of database."""
    return any_database


@asynccontextmanager
async def busy_writer(database: Database) -> AsyncIterator[threading.Event]:
    """The writer is held inside a transaction until the event is set, so that everything else queues behind it."""
    entered, release = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def hold(_: Transaction) -> None:
        token.run_sync_soon(entered.set)
        assert release.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.transaction, hold)
        await entered.wait()
        try:
            yield release
        finally:
            release.set()


async def together(database: Database, *acts: Act) -> list[object]:
    """Queue the acts behind a busy writer, let it go, and give their results or errors in order."""
    outcomes: list[object] = [None] * len(acts)

    async def run(place: int, act: Act) -> None:
        try:
            outcomes[place] = await database.transaction(act)
        except Exception as error:  # noqa: BLE001 - the error is the outcome that is looked at
            outcomes[place] = error

    async with trio.open_nursery() as nursery, busy_writer(database) as release:
        for place, act in enumerate(acts):
            nursery.start_soon(run, place, act)
            await trio.testing.wait_all_tasks_blocked()
        release.set()
    return outcomes


async def test_those_who_wait_share_one_commit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten queued writes are one commit, and each gets its own result."""
    monkeypatch.setattr("storage.database_writer._HOLD_S", 30.0)  # however busy the machine is
    before = database.statistics().writer
    acts = [lambda tx, name=f"n{number}": insert(tx, name) for number in range(10)]
    assert await together(database, *acts) == [f"n{number}" for number in range(10)]
    after = database.statistics().writer
    assert after.commits - before.commits == 2  # the one that was held, and the ten
    assert after.largest_commit == 10
    assert after.jobs - before.jobs == 11


async def test_a_failure_is_undone_alone(database: Database) -> None:
    """Of three acts in one commit the one that raises leaves no trace, and the others are stored."""

    def half(transaction: Transaction) -> None:
        insert(transaction, "half")
        raise LookupError("mine")

    first, failed, last = await together(database, lambda tx: insert(tx, "first"), half, lambda tx: insert(tx, "last"))
    assert (first, last) == ("first", "last")
    assert isinstance(failed, LookupError)
    assert await database.read(names) == ["first", "last"]


async def test_a_constraint_broken_in_a_shared_commit_hits_its_breaker_only(database: Database) -> None:
    """Two of three acts want the same name: the second gets `Conflict`, the third is stored."""
    outcomes = await together(
        database, lambda tx: insert(tx, "a"), lambda tx: insert(tx, "a"), lambda tx: insert(tx, "b")
    )
    assert [type(outcome) for outcome in outcomes] == [str, Conflict, str]
    assert await database.read(names) == ["a", "b"]


async def test_acts_of_one_commit_see_each_other_in_order(database: Database) -> None:
    """An act sees what those before it in the same commit did, as if each had committed by itself."""
    outcomes = await together(database, lambda tx: insert(tx, "a"), names, lambda tx: insert(tx, "b"), names)
    assert outcomes == ["a", ["a"], "b", ["a", "b"]]


def dangling(transaction: Transaction) -> None:
    """Make COMMIT fail: the check of this reference is put off until then."""
    if transaction.dialect.name == "postgresql":
        for statement in _REFUSING_COMMITS:
            transaction.exec_driver_sql(statement)
        insert(transaction, "refused")
        return
    transaction.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    values = {"project_id": 77, "storage_id": 77, "name": "r", "format": "docker", "repository_type": "hosted"}
    flags = {"is_catch_all": False, "anonymous_read": False, "immutable_tags": "[]", "settings": "{}"}
    transaction.execute(sa.insert(repositories), {**values, **flags, "created_at": 1, "updated_at": 1})


async def test_a_failed_commit_fails_all_of_it_and_the_next_works(database: Database) -> None:
    """If COMMIT itself is refused, everybody in it hears so, nothing is stored, and the writer goes on."""
    good, bad = await together(database, lambda tx: insert(tx, "good"), dangling)
    assert isinstance(good, Unavailable)
    assert isinstance(bad, Unavailable)
    assert good is not bad
    assert await database.read(names) == []
    assert await database.transaction(insert, "next") == "next"
    assert database.statistics().writer.failed_commits == 1


async def test_what_was_seen_in_a_failed_commit_is_not_told(database: Database) -> None:
    """An act that said "exists already" because of a row that was never committed hears of the failure instead."""

    def refuse(transaction: Transaction) -> None:
        if "a" in names(transaction):
            raise LookupError("exists already")

    _, refused, _ = await together(database, lambda tx: insert(tx, "a"), refuse, dangling)
    assert isinstance(refused, Unavailable)
    await database.transaction(refuse)


async def test_a_transaction_that_the_database_ended_fails_all_of_it(database: Database) -> None:
    """If SQLite rolls everything back in the middle, no act of that commit is acknowledged."""

    def ended(transaction: Transaction) -> None:
        transaction.exec_driver_sql("ROLLBACK")  # what SQLite does by itself when the disk is full

    outcomes = await together(database, lambda tx: insert(tx, "before"), ended, lambda tx: insert(tx, "after"))
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert await database.read(names) == []
    assert await database.transaction(insert, "next") == "next"


async def test_cancelled_while_queued_means_not_begun(database: Database) -> None:
    """A caller that gives up before its turn leaves at once, and its act never happens."""
    async with busy_writer(database):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(database.transaction, insert, "late")
                await trio.testing.wait_all_tasks_blocked()
                assert database.statistics().writer.waiting == 1
                scope.cancel()
        assert scope.cancelled_caught
    await database.transaction(insert, "next")
    assert await database.read(names) == ["next"]


async def test_cancelled_after_it_began_learns_the_outcome_first(database: Database) -> None:
    """A caller whose act has begun gets the result, and is cancelled only at its next checkpoint."""
    begun, release = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    steps: list[str] = []

    def slow(transaction: Transaction) -> str:
        token.run_sync_soon(begun.set)
        assert release.wait(10)
        return insert(transaction, "slow")

    async def caller() -> None:
        steps.append(await database.transaction(slow))
        await trio.lowlevel.checkpoint()
        steps.append("not reached")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller)
        await begun.wait()
        nursery.cancel_scope.cancel()
        release.set()
    assert steps == ["slow"]
    assert await database.read(names) == ["slow"]


async def test_more_than_one_commit_can_hold(database: Database) -> None:
    """Two hundred waiting writes are taken in turns; none is lost, and no commit grows beyond its bound."""
    acts = [lambda tx, name=f"n{number:03}": insert(tx, name) for number in range(200)]
    assert await together(database, *acts) == [f"n{number:03}" for number in range(200)]
    assert len(await database.read(names)) == 200
    assert database.statistics().writer.largest_commit <= 64


async def test_an_error_carries_no_reference_to_its_own_frames(database: Database) -> None:
    """The same function that failed can be retried many times without keeping old tracebacks alive."""

    def fail(_: Transaction) -> None:
        raise LookupError("mine")

    depths = set()
    for _ in range(3):
        with pytest.raises(LookupError) as caught:
            await database.transaction(fail)
        depths.add(len(caught.traceback))
    assert len(depths) == 1


def long(transaction: Transaction) -> str:
    """An act that takes longer than one transaction may last."""
    until = time.monotonic() + 0.06
    while time.monotonic() < until:
        transaction.execute(sa.text("SELECT 1"))
    return insert(transaction, "long")


async def test_a_transaction_that_lasts_takes_no_further_acts(database: Database) -> None:
    """What waits behind a long act is committed after it, in a transaction of its own; other processes come between."""
    before = database.statistics().writer
    outcomes = await together(
        database, lambda tx: insert(tx, "a"), long, lambda tx: insert(tx, "b"), lambda tx: insert(tx, "c")
    )
    after = database.statistics().writer
    assert outcomes == ["a", "long", "b", "c"]
    assert await database.read(names) == ["a", "b", "c", "long"]
    assert after.jobs - before.jobs == 5
    assert after.commits - before.commits >= 3  # held; a and long; b and c: a busy machine may part these


async def test_who_waits_behind_a_long_act_can_still_give_up(database: Database) -> None:
    """An act that was left for the next transaction has not begun: cancelled by then, it never happens."""
    scope = trio.CancelScope()
    token = trio.lowlevel.current_trio_token()

    def cancel_then_last(transaction: Transaction) -> str:
        cancelled = threading.Event()
        token.run_sync_soon(scope.cancel)
        token.run_sync_soon(cancelled.set)  # in order: by then the act is withdrawn
        assert cancelled.wait(10)
        return long(transaction)

    async def give_up() -> None:
        with scope:
            await database.transaction(insert, "late")

    async with trio.open_nursery() as nursery, busy_writer(database) as release:
        nursery.start_soon(database.transaction, cancel_then_last)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        release.set()
    assert scope.cancelled_caught
    assert await database.read(names) == ["long"]


async def test_when_the_thread_itself_fails_nobody_waits_for_ever(
    databases: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error outside of any act: those who queue get `Unavailable`, so does who comes later, and closing works."""
    async with databases() as broken:

        def fail(_: Committer) -> bool:
            raise MemoryError

        assert isinstance(broken, SqliteDatabase | PostgresDatabase)
        monkeypatch.setattr(type(broken._writer._committer), "tidy", fail)
        outcomes = await together(broken, lambda tx: insert(tx, "a"), lambda tx: insert(tx, "b"))
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 2
        assert isinstance(outcomes[0], Unavailable)
        assert isinstance(outcomes[0].__cause__, MemoryError)
        with pytest.raises(Unavailable):
            await broken.transaction(insert, "later")
        assert await broken.read(names) == []
