"""The database as the rest of Sluice sees it: snapshots for reading, one atomic act for writing.

The contract and nothing else. `database_embedded.py` keeps it on one SQLite file, `database_postgres.py` on a
PostgreSQL server that many replicas share. Knows no tables: callers pass functions of `storage.metadata`, which take
the `Transaction` first.

Errors that all methods may raise: `Unavailable` (retry may help), `StorageFull` (retry after making room), `Conflict`
(from writing: a constraint said no). Whatever the passed function raises is raised as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import sqlalchemy as sa

from storage import migrations
from storage.changes import Changes
from storage.database_writer import WriterStatistics

P = ParamSpec("P")
T = TypeVar("T")

Transaction = sa.Connection
"""What functions of `storage.metadata` take first. They execute statements on it; they never begin, commit or close."""


@dataclass(frozen=True, slots=True)
class DatabaseStatistics:
    """A snapshot for metrics.

    `detours`: reads that met a lock and went to a thread, or a dead connection and were run again on another.
    `log_bytes`: the size of an embedded database's log. `connections`: open to a server; `failed_connects`: since the
    start.
    """

    writer: WriterStatistics
    reads: int
    detours: int
    surveys_running: int
    surveys_waiting: int
    log_bytes: int = 0
    reads_waiting: int = 0
    connections: int = 0
    failed_connects: int = 0


class Database(ABC):
    """Open it with `async with` in the Trio run that uses it, or by `open` and `aclose`."""

    @abstractmethod
    async def open(self) -> None:
        """Make the database usable, and start the writer. Makes no tables: see `migrate`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Finish the writes that wait, then close; further calls raise `Unavailable`. Safe to call twice.

        Not interrupted by cancellation, and bounded in real time.
        """

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @abstractmethod
    async def read(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(transaction, ...)` on one snapshot that holds every commit made before, by any process.

        For point reads, of about a millisecond. `work` must return plain values, no open result, and may be run again
        if a lock or a dead connection was met.
        """

    @abstractmethod
    async def survey(self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for what may take longer than a millisecond: in a thread, with a connection of its own.

        Waits for a free thread. Keep one page, not a whole listing, in one survey: a snapshot that stays open keeps
        the database from reusing space, and past a limit it is stopped with `Unavailable`. Cancellation stops it.
        """

    @abstractmethod
    async def transaction(
        self, work: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(transaction, ...)` as one atomic act that survives power loss when this returns.

        Writers take turns, over all processes, so what `work` reads stays true until it is committed. It runs in the
        writer's thread: it must not wait, and must return plain values. If it raises, nothing is stored and its error
        is raised here. A caller that is cancelled before its turn has changed nothing; once `work` has begun, the
        caller first learns the outcome. On `Unavailable` the act may have been carried out if the connection to a
        server broke while it committed: what is tried again must bear that it was done.
        """

    @abstractmethod
    def changes(self) -> Changes:
        """What changed, for who remembers answers; always the same object. For the event loop only."""

    @abstractmethod
    async def migrate(self) -> None:
        """Bring the schema to this program's revision; all or nothing. Any number of processes may call it at once.

        A schema newer than this program is left as it is.
        """

    async def revision(self) -> str | None:
        """The schema's revision; None if there are no tables yet."""
        return await self.survey(migrations.current)

    @abstractmethod
    async def head(self) -> str:
        """The newest revision this program knows."""

    @abstractmethod
    async def check(self) -> None:
        """For readiness: raises `Unavailable` unless the database answers, its schema fits and the writer runs.

        One small read. A schema newer than this program is fine, as replicas are replaced one by one.
        """

    @abstractmethod
    def statistics(self) -> DatabaseStatistics:
        """A snapshot for metrics."""
