"""Periodic jobs: their pace, what a failure costs, the last run, and one run per installation under a lease."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from trio.testing import MockClock

from gateway.jobs import Job, run, take_turn
from storage import Database, PostgresDatabase, SqliteDatabase, Transaction, Unavailable
from storage.metadata import clock, leases, tables

NOW = 1_800_000_000
HOUR = 3600
LEASE_S = 20
DEADLINE_S = 270


@pytest.fixture(autouse=True)
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def closed(tmp_path: Path) -> Database:
    """A database that nobody has opened, for jobs that need none."""
    return SqliteDatabase(tmp_path / "none.db")


@dataclass
class Clock:
    """Unix seconds, moved by hand."""

    now: float = NOW

    def __call__(self) -> float:
        """Now."""
        return self.now


@dataclass
class Work:
    """Something to do that notes when it was done, and does what it is told to."""

    lasts_s: float = 0
    fails: bool = False
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    started: trio.Event = field(default_factory=trio.Event)

    async def __call__(self) -> None:
        """One run."""
        self.began.append(trio.current_time())
        self.started.set()
        if self.fails:
            raise Unavailable("the disk is gone")
        await trio.sleep(self.lasts_s)
        self.ended.append(trio.current_time())


@asynccontextmanager
async def running(*jobs: Job, database: Database) -> AsyncGenerator[None, None]:
    """The jobs of one worker."""
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            await run(jobs, database=database)

        nursery.start_soon(work)
        yield
        nursery.cancel_scope.cancel()


# --- in each worker ------------------------------------------------------------------------------------------------


async def test_jobs_keep_their_own_pace(closed: Database, autojump_clock: MockClock) -> None:
    """Each job rests for its own interval before every run, the first one too, whatever the others do."""
    started, quick, slow = trio.current_time(), Work(), Work(lasts_s=7)

    async with running(Job("quick", 5, quick), Job("slow", 10, slow), database=closed):
        await trio.sleep(31)

    assert [moment - started for moment in quick.began] == pytest.approx([5, 10, 15, 20, 25, 30])
    assert [moment - started for moment in slow.began] == pytest.approx([10, 27])


async def test_a_job_that_fails_goes_on(
    closed: Database, autojump_clock: MockClock, events: list[structlog.typing.EventDict]
) -> None:
    """A failure is logged with its stack and costs one run; the job and its neighbours keep their turns."""
    broken, fine = Work(fails=True), Work()

    async with running(Job("broken", 5, broken), Job("fine", 5, fine), database=closed):
        await trio.sleep(16)
        assert len(broken.began) == len(fine.ended) == 3
        broken.fails = False
        await trio.sleep(5)

    assert len(broken.ended) == 1
    assert [(event["event"], event["job"]) for event in events] == [("job_failed", "broken")] * 3
    assert all(isinstance(event["exc_info"], Unavailable) for event in events)


async def test_a_job_that_hangs_is_ended(
    closed: Database, autojump_clock: MockClock, events: list[structlog.typing.EventDict]
) -> None:
    """A run is cut off at the deadline, and said to be; the next one comes."""
    endless = Work(lasts_s=trio.CancelScope().deadline)

    async with running(Job("endless", 5, endless), database=closed):
        await trio.sleep(600)

    assert len(endless.began) == 3
    assert endless.began[1] - endless.began[0] == DEADLINE_S + 5
    assert endless.ended == []
    assert {event["event"] for event in events} == {"job_out_of_time"}


async def test_the_last_run_comes_when_the_worker_stops(closed: Database, autojump_clock: MockClock) -> None:
    """Being cancelled, also amid a run, still lets every `at_end` job run once to its end; the others just stop."""
    kept, lost, busy = Work(lasts_s=2), Work(lasts_s=2), Work(lasts_s=3)

    async with running(
        Job("kept", HOUR, kept, at_end=True),
        Job("lost", HOUR, lost),
        Job("busy", 1, busy, at_end=True),
        database=closed,
    ):
        await trio.sleep(2)
        assert (len(busy.began), len(busy.ended)) == (1, 0)

    assert (len(kept.ended), len(lost.began), len(busy.ended)) == (1, 0, 1)


async def test_a_last_run_cannot_keep_a_worker(
    closed: Database, autojump_clock: MockClock, events: list[structlog.typing.EventDict]
) -> None:
    """A last run that hangs or fails is given up within seconds and said to be, and the next one has its chance."""
    hung, broken, fine = Work(lasts_s=HOUR), Work(fails=True), Work()
    started = trio.current_time()

    async with running(
        Job("hung", HOUR, hung, at_end=True),
        Job("broken", HOUR, broken, at_end=True),
        Job("fine", HOUR, fine, at_end=True),
        database=closed,
    ):
        await trio.sleep(1)

    assert trio.current_time() - started < 10
    assert len(fine.ended) == 1
    assert [(event["event"], event["job"]) for event in events] == [
        ("job_last_run_out_of_time", "hung"),
        ("job_failed", "broken"),
    ]


# --- once per installation -----------------------------------------------------------------------------------------


async def turn(work: Work, database: Database, clock: Callable[[], float], holder: str = "one") -> bool:
    """One turn of an hourly job."""
    job = Job("garbage", HOUR, work, alone=True)
    return await take_turn(job, database=database, clock=clock, holder=holder)


async def test_a_job_runs_once_per_interval_wherever(database: Database) -> None:
    """Of all workers' turns within an interval one runs the job; the first of a new installation at once."""
    work, clock = Work(), Clock()

    ran = [await turn(work, database, clock, holder) for holder in ("one", "two", "one")]
    clock.now += HOUR - 1
    ran += [await turn(work, database, clock, holder) for holder in ("one", "two")]
    clock.now += 1
    ran += [await turn(work, database, clock, holder) for holder in ("two", "one")]

    assert ran == [True, False, False, False, False, True, False]
    assert len(work.ended) == 2


async def test_workers_at_once(database: Database) -> None:
    """Ten workers whose turns come together run the job once."""
    work, clock, ran = Work(lasts_s=0.01), Clock(), list[bool]()

    async def worker(holder: str) -> None:
        ran.append(await turn(work, database, clock, holder))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(worker, f"worker-{number}")

    assert (sorted(ran), len(work.began)) == ([False] * 9 + [True], 1)


async def test_a_dead_holder_is_succeeded(database: Database) -> None:
    """Nobody runs the job while the lease of a worker that was killed lasts; then another does."""
    work, clock = Work(), Clock()
    await database.transaction(leases.take, "garbage", holder="dead", now=NOW, lifetime_s=LEASE_S)

    clock.now += LEASE_S - 1
    assert not await turn(work, database, clock)
    clock.now += 1
    assert await turn(work, database, clock)


async def test_a_run_that_fails_is_not_the_last_one(
    database: Database, events: list[structlog.typing.EventDict]
) -> None:
    """After a failure the job is free and due: another worker, or the same one, tries again at its next turn."""
    work, clock = Work(fails=True), Clock()

    assert not await turn(work, database, clock, "one")
    work.fails = False
    assert await turn(work, database, clock, "two")
    assert not await turn(work, database, clock, "one")

    assert [event["event"] for event in events] == ["job_failed"]


async def test_a_worker_that_stops_lets_go(database: Database) -> None:
    """A run that is cancelled counts for nothing, and its lease is free before the worker is gone."""
    work, clock = Work(lasts_s=HOUR), Clock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn, work, database, clock, "one")
        await work.started.wait()
        assert not await turn(work, database, clock, "two")
        nursery.cancel_scope.cancel()

    work.lasts_s = 0
    assert await turn(work, database, clock, "two")


async def test_the_last_run_is_remembered_over_restarts(database_file: Path) -> None:
    """When a job last ended well is in the database: a restart neither repeats nor forgets it."""
    work, clock = Work(), Clock()
    for passed_s, runs in ((0, True), (HOUR - 1, False), (1, True)):
        clock.now += passed_s
        async with SqliteDatabase(database_file) as database:
            assert await turn(work, database, clock, f"started-{clock.now}") is runs


async def test_a_clock_that_was_wrong_does_not_stop_a_job(database: Database) -> None:
    """A run noted in the future is not waited for: the job would not run again for as long."""
    work, clock = Work(), Clock(NOW + 1000 * HOUR)
    assert await turn(work, database, clock)

    clock.now = NOW
    assert await turn(work, database, clock)
    assert not await turn(work, database, clock)


async def test_jobs_of_other_names_do_not_wait(database: Database) -> None:
    """Each job has a lease and an interval of its own."""
    work, clock = Work(), Clock()
    assert await turn(work, database, clock)

    other = Job("other", HOUR, work, alone=True)
    assert await take_turn(other, database=database, clock=clock, holder="one")
    assert not await take_turn(replace(other, name="garbage"), database=database, clock=clock, holder="one")


async def test_without_a_database_nothing_runs_alone(
    closed: Database, events: list[structlog.typing.EventDict]
) -> None:
    """Who cannot take the lease does not run, says so, and goes on."""
    work = Work()

    assert not await turn(work, closed, Clock())

    assert work.began == []
    assert [(event["event"], event["job"]) for event in events] == [("job_lease_failed", "garbage")]


async def test_a_run_whose_end_cannot_be_noted(database: Database, events: list[structlog.typing.EventDict]) -> None:
    """A database that dies during the run costs no worker: it is said, and the job is due again."""

    async def unplug() -> None:
        await database.aclose()

    job = Job("garbage", HOUR, unplug, alone=True)
    await take_turn(job, database=database, clock=Clock(), holder="one")

    assert [event["event"] for event in events] == ["job_lease_failed"]


class Watched(SqliteDatabase):
    """A database that knows how many callers wait for its writer."""

    waiting = 0

    async def transaction(self, *args: Any, **kwargs: Any) -> Any:
        """See `Database.transaction`."""
        self.waiting += 1
        try:
            return await super().transaction(*args, **kwargs)
        finally:
            self.waiting -= 1


async def settled(*databases: Watched) -> None:
    """Wait until every task waits for time alone."""
    await trio.testing.wait_all_tasks_blocked()
    while any(each.waiting for each in databases):
        await trio.testing.wait_all_tasks_blocked()


async def test_two_workers_share_a_job(database_file: Path, mock_clock: MockClock) -> None:
    """Two `run`s over one database, each looking every 10 s: in six minutes a job of every two runs three times."""
    ran: list[float] = []

    async def note() -> None:
        ran.append(trio.current_time())

    async def worker(database: Database) -> None:
        job = Job("garbage", 120, note, alone=True)
        await run([job], database=database, clock=lambda: NOW + mock_clock.current_time())

    async with (
        Watched(database_file) as first,
        Watched(database_file) as second,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(worker, first)
        nursery.start_soon(worker, second)
        for _ in range(36):
            await settled(first, second)
            mock_clock.jump(10)
        await settled(first, second)
        nursery.cancel_scope.cancel()

    assert [later - earlier for earlier, later in pairwise(ran)] == [120, 120]


async def test_a_long_run_keeps_its_lease(database_file: Path, mock_clock: MockClock) -> None:
    """A run of many lease times is not begun by another worker, as the lease is renewed."""
    work = Work(lasts_s=10 * LEASE_S)

    def clock() -> float:
        return NOW + mock_clock.current_time()

    async with Watched(database_file) as first, Watched(database_file) as second, trio.open_nursery() as nursery:
        nursery.start_soon(turn, work, first, clock, "one")
        await work.started.wait()
        for _ in range(10 * LEASE_S - 1):
            await settled(first)
            mock_clock.jump(1)
            assert not await turn(Work(fails=True), second, clock, "two")
        mock_clock.jump(1)
        await settled(first)

    assert len(work.ended) == 1


async def test_a_run_whose_lease_was_taken_is_ended(
    database_file: Path, mock_clock: MockClock, events: list[structlog.typing.EventDict]
) -> None:
    """Who learns that another holds the lease stops its run at once, and its end counts for nothing."""
    work, ran = Work(lasts_s=HOUR), list[bool]()

    async with Watched(database_file) as database, trio.open_nursery() as nursery:

        async def first() -> None:
            ran.append(await turn(work, database, Clock(), "one"))

        nursery.start_soon(first)
        await work.started.wait()
        await database.transaction(leases.take, "garbage", holder="two", now=NOW + LEASE_S, lifetime_s=LEASE_S)
        mock_clock.jump(6)
        await settled(database)

    assert (ran, work.ended) == ([False], [])
    assert [event["event"] for event in events] == ["job_lease_lost"]


async def test_a_run_whose_lease_cannot_be_renewed_ends_before_it(
    database_file: Path, mock_clock: MockClock, events: list[structlog.typing.EventDict]
) -> None:
    """While the database is away the run goes on as long as nobody else can have the lease, and no longer."""
    work, ran = Work(lasts_s=HOUR), list[bool]()

    async with Watched(database_file) as database, trio.open_nursery() as nursery:

        async def first() -> None:
            ran.append(await turn(work, database, Clock(), "one"))

        nursery.start_soon(first)
        await work.started.wait()
        await database.aclose()
        for _ in range(LEASE_S - 4):
            mock_clock.jump(1)
            await settled(database)
        assert ran == []
        mock_clock.jump(1)
        await settled(database)
        assert ran == [False]

    assert {event["event"] for event in events} == {"job_lease_failed", "job_lease_lost"}


# --- replicas over one server --------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_replica_whose_clock_is_wrong_takes_no_lease(postgres_url: str) -> None:
    """Leases are measured by the server's clock: neither a late nor an early replica runs what another one runs."""
    work, early, late = Work(lasts_s=HOUR), Clock(NOW + 1000 * HOUR), Clock(0)
    async with PostgresDatabase(postgres_url) as one, PostgresDatabase(postgres_url) as two:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn, work, one, early, "one")
            await work.started.wait()
            assert not await turn(Work(fails=True), two, late, "two")
            assert not await turn(Work(fails=True), two, early, "two")
            nursery.cancel_scope.cancel()
        work.lasts_s = 0
        assert await turn(work, two, late, "two")
        assert not await turn(work, one, early, "one")


@pytest.mark.slow
async def test_a_replica_that_died_is_succeeded(postgres_url: str) -> None:
    """Its lease ends by the server's clock within 20 s of its last renewal; until then nobody runs the job."""
    work = Work()

    def expire(tx: Transaction, seconds: int) -> None:
        values = {"expires_at": tables.leases.c.expires_at - seconds}
        tx.execute(tables.leases.update().values(values))

    async with PostgresDatabase(postgres_url) as database:

        def take(tx: Transaction) -> bool:
            now = clock.now(tx, lambda: 0)
            return leases.take(tx, "garbage", holder="dead", now=now, lifetime_s=LEASE_S)

        assert await database.transaction(take)
        assert not await turn(work, database, Clock())
        await database.transaction(expire, LEASE_S - 10)  # as if so many seconds had passed
        assert not await turn(work, database, Clock())
        await database.transaction(expire, 10)
        assert await turn(work, database, Clock())
