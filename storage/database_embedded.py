"""The database in one SQLite file: the embedded default, for all processes of one machine.

Joins what is specific to SQLite: `database_sqlite.py` (the file), `database_embedded_writer.py` (what commits),
`changes_embedded.py`. The contract of the methods stands in `database.py`.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import trio

from storage import migrations
from storage.blocking import Pool
from storage.changes_embedded import SqliteChanges
from storage.database import Database, DatabaseStatistics, Transaction
from storage.database_embedded_writer import SqliteCommitter
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
from storage.database_writer import Writer
from storage.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

_SURVEYS: Final = 2  # long reads at once: listings of people and one job; each may read the disk at full speed
_STOP_PATIENCE_S: Final = 15.0  # a commit in progress waits 10 s for another process's lock at most
_LOCK_POLL_S: Final = 0.02


class SqliteDatabase(Database):
    """A database in the file `path`, which need not exist; its directory must. No I/O until it is opened.

    `pool` gives the threads for surveys, so its size bounds how many run at once; two threads of its own if None.
    """

    def __init__(self, path: Path, *, pool: Pool | None = None, limits: Limits | None = None) -> None:
        self._file = SqliteFile(path, limits or Limits())
        self._pool = pool or Pool("database", _SURVEYS)
        self._writer = Writer(SqliteCommitter(self._file))
        self._reader = Session(self._file, POINT_READER)
        self._changes = SqliteChanges(self._file)
        self._idle: list[Session] = []
        self._idle_lock = threading.Lock()  # held for a few instructions only, by the loop and by survey threads
        self._is_open = False
        self._outdated: frozenset[str] = frozenset()
        self._reads = self._detours = 0

    async def open(self) -> None:
        """Make the file if needed and start the writer."""
        async with self._alone():
            await self._pool.run(self._file.prepare)
        older = await self._pool.run(migrations.revisions)
        self._outdated = frozenset(older[1:])
        self._writer.start()
        self._changes.open()
        self._is_open = True

    async def aclose(self) -> None:
        """Waits `_STOP_PATIENCE_S` at most, in real time."""
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

    async def read(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Right here on the event loop, as a thread would cost more than the answer; in one if a lock is met."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._require_open()
        self._reads += 1
        try:
            return self._reader.read(lambda transaction: work(transaction, *args, **kwargs))
        except Locked:
            self._detours += 1
        return await self.survey(work, *args, **kwargs)

    async def survey(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """In one of the threads of `pool`, with a connection of its own."""
        self._require_open()
        return await self._pool.run(self._survey, lambda transaction: work(transaction, *args, **kwargs))

    async def transaction(
        self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """In the writer's thread, under SQLite's write lock."""
        return await self._writer.run(lambda transaction: work(transaction, *args, **kwargs))

    def changes(self) -> SqliteChanges:
        """Exact."""
        return self._changes

    async def migrate(self) -> None:
        """Under a lock of the file's own; all or nothing."""
        async with self._alone():
            await self._pool.run(self._migrate)

    async def head(self) -> str:
        """The newest revision this program knows."""
        return (await self._pool.run(migrations.revisions))[0]

    async def check(self) -> None:
        """One small read, and whether the writer runs."""
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
