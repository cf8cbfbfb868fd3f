"""The database as the rest of Sluice sees it: snapshots for reading, one atomic act for writing.

Today one SQLite file; PostgreSQL will stand behind the same methods. What is specific to SQLite stays in
`database_sqlite.py`, `database_writer.py` and `database_failures.py`. Knows no tables: callers pass functions of
`storage.metadata`, which take the `Transaction` first.

Errors that all methods may raise: `Unavailable` (retry may help), `StorageFull` (retry after making room), `Conflict`
(from writing: a constraint said no). Whatever the passed function raises is raised as it is.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

import sqlalchemy as sa
import trio

from storage import migrations
from storage.blocking import Pool
from storage.changes import Changes
from storage.database_sqlite import (
    MIGRATOR,
    POINT_READER,
    SURVEYOR,
    Limits,
    Locked,
    Session,
    SqliteFile,
    require_references,
)
from storage.database_writer import Writer, WriterStatistics
from storage.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

Transaction = sa.Connection
"""What functions of `storage.metadata` take first. They execute statements on it; they never begin, commit or close."""

_SURVEYS: Final = 2  # long reads at once: listings of people and one job; each may read the disk at full speed
_STOP_PATIENCE_S: Final = 15.0  # a commit in progress waits 10 s for another process's lock at most
_LOCK_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class DatabaseStatistics:
    """A snapshot for metrics. `detours`: reads that met a lock and went to a thread. `log_bytes`: the log's size."""

    writer: WriterStatistics
    reads: int
    detours: int
    surveys_running: int
    surveys_waiting: int
    log_bytes: int


class Database:
    """Open it with `async with` in the Trio run that uses it, or by `open` and `aclose`."""

    def __init__(self, file: SqliteFile, pool: Pool) -> None:
        self._file = file
        self._pool = pool
        self._writer = Writer(file)
        self._reader = Session(file, POINT_READER)
        self._changes = Changes(file)
        self._idle: list[Session] = []
        self._idle_lock = threading.Lock()  # held for a few instructions only, by the loop and by survey threads
        self._is_open = False
        self._outdated: frozenset[str] = frozenset()
        self._reads = self._detours = 0

    @classmethod
    def sqlite(cls, path: Path, *, pool: Pool | None = None, limits: Limits | None = None) -> Self:
        """A database in the file `path`, which need not exist; its directory must. No I/O.

        `pool` gives the threads for surveys, so its size bounds how many run at once; two threads of its own if None.
        """
        return cls(SqliteFile(path, limits or Limits()), pool or Pool("database", _SURVEYS))

    async def open(self) -> None:
        """Make the file if needed and start the writer. Makes no tables: see `migrate`."""
        async with self._alone():
            await self._pool.run(self._file.prepare)
        older = await self._pool.run(migrations.revisions)
        self._outdated = frozenset(older[1:])
        self._writer.start()
        self._changes.open()
        self._is_open = True

    async def aclose(self) -> None:
        """Finish the writes that wait, then close; further calls raise `Unavailable`. Safe to call twice.

        Not interrupted by cancellation: waits `_STOP_PATIENCE_S` at most, in real time.
        """
        with self._idle_lock:
            self._is_open = False
            idle, self._idle = self._idle, []
        self._changes.close()
        for session in (self._reader, *idle):
            session.close()
        thread = self._writer.stop_nowait()
        if thread is not None:
            with trio.move_on_after(_STOP_PATIENCE_S, shield=True):
                await self._pool.run(thread.join, _STOP_PATIENCE_S)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def read(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(transaction, ...)` on one snapshot that holds every commit made before, by any process.

        For point reads: on SQLite it runs right here on the event loop, as a thread would cost more than the answer.
        `work` must return plain values, no open result, and may be run again if a lock was met.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._require_open()
        self._reads += 1
        try:
            return self._reader.read(lambda transaction: work(transaction, *args, **kwargs))
        except Locked:
            self._detours += 1
        return await self.survey(work, *args, **kwargs)

    async def survey(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for what may take longer than a millisecond: in a thread, with a connection of its own.

        Waits for a free thread. Keep one page, not a whole listing, in one survey: a snapshot that stays open stops
        the log from shrinking, and past a limit an old one is stopped with `Unavailable`. Cancellation stops it.
        """
        self._require_open()
        return await self._pool.run(self._survey, lambda transaction: work(transaction, *args, **kwargs))

    async def transaction(
        self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(transaction, ...)` as one atomic act that survives power loss when this returns.

        Writers take turns, over all processes, so what `work` reads stays true until it is committed. It runs in the
        writer's thread: it must not wait, and must return plain values. If it raises, nothing is stored and its error
        is raised here. A caller that is cancelled before its turn has changed nothing; once `work` has begun, the
        caller first learns the outcome.
        """
        return await self._writer.run(lambda transaction: work(transaction, *args, **kwargs))

    def changes(self) -> Changes:
        """What changed, for who remembers answers; always the same object. For the event loop only."""
        return self._changes

    async def migrate(self) -> None:
        """Bring the schema to this program's revision; all or nothing. Any number of processes may call it at once."""
        async with self._alone():
            await self._pool.run(self._migrate)

    async def revision(self) -> str | None:
        """The schema's revision; None if there are no tables yet."""
        return await self.survey(migrations.current)

    async def head(self) -> str:
        """The newest revision this program knows."""
        return (await self._pool.run(migrations.revisions))[0]

    async def check(self) -> None:
        """For readiness: raises `Unavailable` unless the database answers, its schema fits and the writer runs.

        One small read. A schema newer than this program is fine, as replicas are replaced one by one.
        """
        revision = await self.read(migrations.current)
        if revision is None or revision in self._outdated:
            raise Unavailable(f"the database {self._file.path.name} has an old schema; run `sluice migrate`")
        if not self._writer.is_running:
            raise Unavailable(f"the database {self._file.path.name} is not open for writing")

    def statistics(self) -> DatabaseStatistics:
        """A snapshot for metrics; looks up one file's size."""
        threads = self._pool.statistics()
        return DatabaseStatistics(
            writer=self._writer.statistics(),
            reads=self._reads,
            detours=self._detours,
            surveys_running=threads.busy,
            surveys_waiting=threads.waiting,
            log_bytes=self._file.wal_bytes(),
        )

    def _require_open(self) -> None:
        if not self._is_open:
            raise Unavailable(f"the database {self._file.path.name} is not open")

    def _survey(self, work: Callable[[Transaction], T]) -> T:
        with self._idle_lock:
            session = self._idle.pop() if self._idle else Session(self._file, SURVEYOR)
        try:
            return session.read(work)
        except Unavailable:
            trio.from_thread.check_cancelled()  # it was stopped because nobody waits for it
            raise
        finally:
            with self._idle_lock:
                if self._is_open:
                    self._idle.append(session)
                else:
                    session.close()

    def _migrate(self) -> None:
        session = Session(self._file, MIGRATOR)
        try:
            session.write(_upgrade)
        finally:
            session.close()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Hold the lock that processes take to make the file or change the schema; waits as long as it takes."""
        with self._file.lock() as lock:
            # Polled, because waiting inside flock could not be cancelled.
            while not lock.acquire_nowait():  # noqa: ASYNC110 - another process lets go, so no event can tell
                await trio.sleep(_LOCK_POLL_S)
            yield


def _upgrade(transaction: Transaction) -> None:
    migrations.upgrade(transaction)
    require_references(transaction)
