"""The database on a PostgreSQL server: for many replicas that share nothing but it and the blob stores.

Joins what is specific to PostgreSQL: `database_postgres_line.py`, `_server.py` and `_session.py` (connections),
`_writer.py` (what commits), `_listener.py` with `changes_postgres.py`, and `_schema.py` (migrations). The contract of
the methods stands in `database.py`, the reasons in docs/decisions/0013-postgresql.md. psycopg is imported when a
database is made, as it belongs to the extra `postgres`.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import trio

from storage import migrations
from storage.blocking import Pool
from storage.changes_postgres import PostgresChanges
from storage.database import Database, DatabaseStatistics, Transaction
from storage.database_writer import Writer
from storage.errors import Unavailable

if TYPE_CHECKING:
    from storage.database_postgres_session import Session

P = ParamSpec("P")
T = TypeVar("T")

_SURVEYS: Final = 2  # long reads at once
_LEAST_CONNECTIONS: Final = 5  # the writer, the listener, the surveys and one for reads
_STOP_PATIENCE_S: Final = 15.0  # the writer may wait 10 s for its turn


class PostgresDatabase(Database):
    """The database that `url` names, as libpq takes it: `postgresql://user:password@host:5432/name?sslmode=...`.

    `connections`: how many this process opens at most, 5 or more: one that writes, one that listens, two for surveys,
    the rest for reads. No I/O until it is opened; raises `Unavailable` if psycopg is missing or `url` is none.
    """

    def __init__(self, url: str, *, connections: int = 8) -> None:
        try:
            from storage import database_postgres_line as line  # noqa: PLC0415 - an extra
            from storage import database_postgres_listener as listener  # noqa: PLC0415
            from storage import database_postgres_schema as schema  # noqa: PLC0415
            from storage import database_postgres_server as server  # noqa: PLC0415
            from storage import database_postgres_session as session  # noqa: PLC0415
            from storage import database_postgres_writer as writer  # noqa: PLC0415
        except ImportError as error:
            raise Unavailable("PostgreSQL needs psycopg: install sluice-gateway[postgres]") from error
        reads = max(connections, _LEAST_CONNECTIONS) - _LEAST_CONNECTIONS + 1
        self._server = server.Server(url)
        self._changes = PostgresChanges()
        self._writer = Writer(writer.PostgresCommitter(self._server, self._changes))
        self._listener = listener.Listener(self._server, self._changes)
        look = trio.from_thread.check_cancelled
        self._reads = _Sessions(Pool("database", reads), partial(session.Session, self._server, line.READER, look))
        self._surveys = _Sessions(
            Pool("surveys", _SURVEYS), partial(session.Session, self._server, line.SURVEYOR, look)
        )
        self._migrate = partial(schema.migrate, self._server, look)
        self._outdated: frozenset[str] = frozenset()
        self._is_open = False

    async def open(self) -> None:
        """Connect, so that a wrong URL or password is known at once; raises `Unavailable`."""
        self._reads.open()
        self._surveys.open()
        try:
            await self._reads.run(_nothing, None)
            older = await self._reads.pool.run(migrations.revisions)
        except BaseException:
            self._reads.close()
            self._surveys.close()
            raise
        self._outdated = frozenset(older[1:])
        self._changes.open()
        self._writer.start()
        self._listener.start()
        self._is_open = True

    async def aclose(self) -> None:
        """Waits `_STOP_PATIENCE_S` at most, in real time."""
        self._is_open = False
        self._changes.close()
        self._reads.close()
        self._surveys.close()
        threads = [each.stop_nowait() for each in (self._listener, self._writer)]
        with trio.move_on_after(_STOP_PATIENCE_S, shield=True):
            for thread in threads:
                if thread is not None:
                    await self._surveys.pool.run(thread.join, _STOP_PATIENCE_S)

    async def read(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """In one of the threads for reads; a snapshot of one server, taken at the first statement."""
        self._require_open()
        return await self._reads.run(lambda transaction: work(transaction, *args, **kwargs), _kind_of(work))

    async def survey(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """In one of the threads for surveys, which reads never wait for."""
        self._require_open()
        return await self._surveys.run(lambda transaction: work(transaction, *args, **kwargs), None)

    async def transaction(
        self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """In the writer's thread, under a lock that all replicas share."""
        return await self._writer.run(lambda transaction: work(transaction, *args, **kwargs))

    def changes(self) -> PostgresChanges:
        """Heard, not exact."""
        return self._changes

    async def migrate(self) -> None:
        """In one transaction, under a lock that all replicas share."""
        self._require_open()
        await self._surveys.pool.run(self._migrate)

    async def head(self) -> str:
        """Read from this program's files."""
        return (await self._surveys.pool.run(migrations.revisions))[0]

    async def check(self) -> None:
        """One small read, and whether the writer runs."""
        revision = await self.read(migrations.current)
        if revision is None or revision in self._outdated:
            raise Unavailable(f"{self._server.name} has an old schema; run `sluice migrate`")
        if not self._writer.is_running:
            raise Unavailable(f"{self._server.name} is not open for writing")

    def statistics(self) -> DatabaseStatistics:
        """Costs nothing at the server."""
        reads, surveys = self._reads.pool.statistics(), self._surveys.pool.statistics()
        return DatabaseStatistics(
            writer=self._writer.statistics(),
            reads=self._reads.runs,
            detours=self._reads.detours + self._surveys.detours,
            surveys_running=surveys.busy,
            surveys_waiting=surveys.waiting,
            reads_waiting=reads.waiting,
            connections=self._server.connections,
            failed_connects=self._server.failed_connects,
        )

    def _require_open(self) -> None:
        if not self._is_open:
            raise Unavailable(f"{self._server.name} is not open")


class _Sessions:
    """Threads and as many connections, the one used last first, so that a quiet process uses few of them."""

    def __init__(self, pool: Pool, make: "Callable[[], Session]") -> None:
        self.pool = pool
        self._make = make
        self._idle: list[Session] = []
        self._lock = threading.Lock()  # held for a few instructions only
        self._is_open = False
        self.runs = self.detours = 0

    def open(self) -> None:
        """From now on connections are kept."""
        self._is_open = True

    def close(self) -> None:
        """Close the idle ones; those in use are closed when their work ends."""
        with self._lock:
            self._is_open = False
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    async def run(self, work: Callable[[Transaction], T], kind: object) -> T:
        """Read in a thread; waits for a free one. `kind`: see `Session.read`."""
        self.runs += 1
        return await self.pool.run(self._read, work, kind)

    def _read(self, work: Callable[[Transaction], T], kind: object) -> T:
        with self._lock:
            session = self._idle.pop() if self._idle else self._make()
        try:
            return session.read(work, self._note_detour, kind=kind)
        finally:
            with self._lock:
                keep = self._is_open
                if keep:
                    self._idle.append(session)
            if not keep:
                session.close()

    def _note_detour(self) -> None:
        with self._lock:
            self.detours += 1


def _nothing(transaction: Transaction) -> None:
    """Work that only needs a connection."""


def _kind_of(work: Callable[..., object]) -> object:
    """What is the same for all calls of one function, also of one that is made anew for each call."""
    return getattr(work, "__code__", None)
