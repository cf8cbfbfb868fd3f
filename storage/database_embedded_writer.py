"""Commits the writer's acts to a SQLite file: one `BEGIN IMMEDIATE` transaction with a savepoint for each act."""

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

import sqlalchemy as sa

from storage.database_failures import cause_of, translated
from storage.database_sqlite import WRITER, Session, SqliteFile, driver_of
from storage.database_writer import RolledBack

T = TypeVar("T")

# Who waits for the lock in another process looks each millisecond: it must find it free.
_PAUSE_S: Final = 0.003


class SqliteCommitter:
    """See `storage.database_writer.Committer`."""

    pause_s = _PAUSE_S

    def __init__(self, file: SqliteFile) -> None:
        self.name = f"the database {file.path.name}"
        self._file = file
        self._session = Session(file, WRITER)
        self._connection: sa.Connection | None = None

    @property
    def pauses(self) -> int:
        """How often writing had to wait for the log to shrink."""
        return self._session.pauses

    def begin(self) -> None:
        """Take SQLite's write lock."""
        self._connection = self._session.begin_patiently()

    def attempt(self, work: Callable[[sa.Connection], T], *, alone: bool) -> tuple[T | None, BaseException | None]:
        """Run one act in its savepoint, which costs too little to be left out where it is `alone`."""
        del alone
        connection = self._begun()
        driver = driver_of(connection)
        driver.execute("SAVEPOINT job")
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = work(connection)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised again in the task that waits for this act
            failed = self._told(error)
            if driver.in_transaction:
                driver.execute("ROLLBACK TO job")
        if not driver.in_transaction:
            raise RolledBack(failed)  # disk full, I/O error
        driver.execute("RELEASE job")
        return result, failed

    def commit(self) -> None:
        """One fsync for all."""
        driver_of(self._begun()).commit()

    def failure(self, error: BaseException) -> BaseException:
        """A new connection for the next transaction, whatever happened to this one."""
        told = self._session.failure(error) if isinstance(error, sa.exc.DBAPIError | sqlite3.Error) else error
        self.close()
        return told

    def tidy(self) -> bool:
        """Copy the log into the file when it has grown."""
        return self._session.checkpoint_if_due()

    def close(self) -> None:
        """Undo what is not committed."""
        self._connection = None
        self._session.close()

    def _begun(self) -> sa.Connection:
        if self._connection is None:
            raise RuntimeError("no transaction was begun")
        return self._connection

    def _told(self, error: BaseException) -> BaseException:
        """What the caller gets to see of `error`."""
        if not isinstance(error, sa.exc.DBAPIError | sqlite3.Error):
            return error
        result = translated(error, self._file.path)
        if result is not error:
            result.__cause__ = cause_of(error)
        return result
