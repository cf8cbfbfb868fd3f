"""One SQLite file: how it is made, opened, begun, committed and kept small. Knows nothing of Trio tasks or of tables.

SQLAlchemy is told AUTOCOMMIT, so it sends no BEGIN or COMMIT of its own; the transactions are made here, on the
driver's connection. That costs 3 us around a read where `Connection.begin()` costs 25 us (docs/decisions/0002).

WAL: readers never wait for the writer. A reader keeps the log from being reused as long as its snapshot is open, so
the log is bounded from both sides: past `busy_bytes` writers wait for surveys, and surveys that are older than
`survey_grace_s` stop (see `_in_the_way`).
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar, cast

import sqlalchemy as sa
import trio

from storage.database_failures import cause_of, is_locked, translated
from storage.errors import Conflict, StorageFull, Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait and how far the log may grow."""

    write_lock_s: float = 10.0  # patience with writers of other processes; a commit takes milliseconds
    checkpoint_bytes: int = 4 * 2**20  # of log; SQLite's own default of 1000 pages
    busy_bytes: int = 256 * 2**20  # of log; what a disk can surely spare, and minutes of full load
    survey_grace_s: float = 5.0  # for surveys, once the log is past busy_bytes
    pause_s: float = 6.0  # of writing, until surveys have ended: survey_grace_s and a little
    pause_again_s: float = 60.0  # between two such pauses, if somebody outside holds an old snapshot


@dataclass(frozen=True, slots=True)
class Role:
    """What a connection is for: the statement that begins its transactions, its settings, and whether SQLite waits."""

    begin: str
    pragmas: tuple[str, ...]
    waits: bool


# Sorting in memory: a temporary file would need space on a disk that may be full. No mmap: an I/O error on a mapped
# page kills the process (SIGBUS) instead of failing one call.
_ALWAYS: Final = ("temp_store=MEMORY", "mmap_size=0")
# The writer waits by itself (`begin_patiently`): SQLite's handler sleeps up to 100 ms and let a writer starve for 1 s.
WRITER: Final = Role(
    "BEGIN IMMEDIATE", (*_ALWAYS, "foreign_keys=ON", "synchronous=FULL", "wal_autocheckpoint=0"), waits=False
)
# On the loop nothing may wait; the caller goes to a thread instead.
POINT_READER: Final = Role("BEGIN", (*_ALWAYS, "foreign_keys=ON", "query_only=ON"), waits=False)
SURVEYOR: Final = Role("BEGIN", (*_ALWAYS, "foreign_keys=ON", "query_only=ON"), waits=True)
# Foreign keys off, as SQLite asks for when tables are rebuilt; they are checked before the commit.
MIGRATOR: Final = Role("BEGIN IMMEDIATE", (*_ALWAYS, "foreign_keys=OFF", "synchronous=FULL"), waits=True)

_RETRY_S: Final = 0.001  # between attempts to get the write lock
_STATEMENTS: Final = 512  # prepared statements that a connection keeps; Sluice has about 200
_PROGRESS_STEPS: Final = 50_000  # virtual machine steps between two looks at the clock: 1 to 5 ms


class Locked(Unavailable):
    """Somebody else's lock is in the way just now."""


class SqliteFile:
    """A database file. Makes sessions; holds none."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self._wal = path.with_name(path.name + "-wal")
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            poolclass=sa.pool.NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={"check_same_thread": False, "cached_statements": _STATEMENTS},
        )

    def prepare(self) -> None:
        """Make the file, for its owner's eyes only, and set it to WAL. The caller keeps other processes away.

        SQLite gives the log files the permissions of the database file.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_mode & 0o077:
                    os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Unavailable(f"the database file {self.path} cannot be made or opened: {error.strerror}") from error
        session = Session(self, MIGRATOR)
        try:
            session.use_wal()
        finally:
            session.close()

    def connect(self, role: Role) -> sa.Connection:
        """A new connection, set up for `role`; raises what the driver raises."""
        connection = self._engine.connect()
        try:
            driver = driver_of(connection)
            driver.execute(f"PRAGMA busy_timeout={_ms(self.limits.write_lock_s) if role.waits else 0}")
            for pragma in role.pragmas:
                driver.execute(f"PRAGMA {pragma}")
            driver.execute(f"PRAGMA journal_size_limit={self.limits.checkpoint_bytes}")
        except BaseException:
            connection.close()
            raise
        return connection

    def lock(self) -> "ProcessLock":
        """The lock for making the file and changing the schema."""
        return ProcessLock(self.path.with_name(self.path.name + ".lock"))

    def wal_bytes(self) -> int:
        """Size of the log; past `checkpoint_bytes` it holds frames to copy, as it is cut to that when reused."""
        try:
            return self._wal.stat().st_size
        except OSError:
            return 0


class Session:
    """One connection in one role, opened when first needed and replaced after a failure. One thread at a time."""

    def __init__(self, file: SqliteFile, role: Role) -> None:
        self._file = file
        self._role = role
        self._connection: sa.Connection | None = None
        self._began_at = 0.0
        self._pause_after = 0.0
        self.pauses = 0
        """How often writing had to wait for the log to shrink."""

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` inside one snapshot that is taken at its first statement.

        Raises what `work` raises, `Locked` if a lock is in the way, `Unavailable`, `StorageFull`.
        """
        try:
            connection = self.begin()
            try:
                return work(connection)
            finally:
                driver_of(connection).rollback()
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self.failure(error) from cause_of(error)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction of its own and commit it; everything is undone if either fails."""
        try:
            connection = self.begin()
            try:
                result = work(connection)
                driver_of(connection).commit()
            except BaseException:
                driver_of(connection).rollback()
                raise
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self.failure(error) from cause_of(error)
        return result

    def begin(self) -> sa.Connection:
        """Begin the role's transaction; raises what the driver raises."""
        if self._connection is None:
            self._connection = self._file.connect(self._role)
            if self._role is SURVEYOR:
                driver_of(self._connection).set_progress_handler(self._stop_survey, _PROGRESS_STEPS)
        self._began_at = time.monotonic()
        driver_of(self._connection).execute(self._role.begin)
        return self._connection

    def begin_patiently(self) -> sa.Connection:
        """As `begin`, trying again while another process holds the write lock, for `write_lock_s` at most."""
        deadline = time.monotonic() + self._file.limits.write_lock_s
        while True:
            try:
                return self.begin()
            except (sa.exc.DBAPIError, sqlite3.Error) as error:
                if not is_locked(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_S)

    def failure(self, error: sa.exc.DBAPIError | sqlite3.Error) -> Exception:
        """What to raise for `error`. Unless a lock or a constraint is the reason, the connection is replaced."""
        if is_locked(error):
            return Locked(str(translated(error, self._file.path)))
        result = translated(error, self._file.path)
        if isinstance(result, Unavailable | StorageFull):
            self.close()
        return result

    def use_wal(self) -> None:
        """Make the file write-ahead logged, which it then stays."""
        try:
            self._connection = self._file.connect(self._role)
            (mode,) = driver_of(self._connection).execute("PRAGMA journal_mode=WAL").fetchone()
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self.failure(error) from cause_of(error)
        if mode != "wal":
            raise Unavailable(f"the database {self._file.path.name} must lie on a local disk: it cannot use a log")

    def checkpoint_if_due(self) -> bool:
        """Copy the log into the file when it has grown; False if that failed (the next commit will say why).

        Past `busy_bytes` this waits for open snapshots, which end within `survey_grace_s`: writing pauses once, and
        the log does not grow without bound.
        """
        limits, size, now = self._file.limits, self._file.wal_bytes(), time.monotonic()
        if size <= limits.checkpoint_bytes or self._connection is None:
            return True
        try:
            driver = driver_of(self._connection)
            if size <= limits.busy_bytes or now < self._pause_after:
                driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                return True
            self._pause_after = now + limits.pause_again_s
            self.pauses += 1
            driver.execute(f"PRAGMA busy_timeout={_ms(limits.pause_s)}")
            ((blocked, _, _),) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            driver.execute("PRAGMA busy_timeout=0")
        except sqlite3.Error:
            self.close()
            return False
        if not blocked:
            self._pause_after = 0.0
        return True

    def close(self) -> None:
        """Close the connection, undoing what is not committed; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # closes the driver's connection, whatever state it is in
            connection.close()

    def _stop_survey(self) -> bool:
        """Asked by SQLite while a survey computes: True stops it, and so does an exception."""
        trio.from_thread.check_cancelled()
        return self._in_the_way()

    def _in_the_way(self) -> bool:
        age_s = time.monotonic() - self._began_at
        limits = self._file.limits
        return age_s > limits.survey_grace_s and self._file.wal_bytes() > limits.busy_bytes


class ProcessLock:
    """A lock over all processes of this machine, kept by an open file: a process that dies lets go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"the lock file {self._path} cannot be made or opened: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def acquire_nowait(self) -> bool:
        """Take it; False if another holder has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """The driver's connection inside SQLAlchemy's."""
    # The engine is always made with the sqlite3 driver.
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def require_references(connection: sa.Connection) -> None:
    """Raise `Conflict` if a row refers to one that is not there; for roles that have foreign keys off."""
    broken = driver_of(connection).execute("PRAGMA foreign_key_check").fetchall()
    if broken:
        tables = ", ".join(sorted({str(row[0]) for row in broken}))
        raise Conflict(f"rows of {tables} would refer to rows that do not exist")


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
