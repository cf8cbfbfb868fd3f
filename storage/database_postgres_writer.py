"""Commits the writer's acts to a PostgreSQL server: one transaction under one advisory lock, a savepoint for each act.

The lock is taken before anything is read, and released by the server after the commit can be seen. So writers of all
processes take turns, and under READ COMMITTED each statement sees all that was committed before: what `BEGIN IMMEDIATE`
means on SQLite. Locks are granted in the order in which they were asked for.

A process that is frozen with the lock (stopped, swapped out) has its connection ended by the server after
`WRITER.pause_s`; when it goes on its acts fail as a whole. If the connection breaks while a commit is on its way, its
outcome is unknown and told as `Unavailable`.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus

from storage.changes_postgres import AT_ONCE, PostgresChanges
from storage.database_postgres_failures import READ_ONLY, code_of
from storage.database_postgres_line import WRITER
from storage.database_postgres_server import Server
from storage.database_postgres_session import Session
from storage.database_writer import RolledBack
from storage.errors import Unavailable

T = TypeVar("T")

# Among PostgreSQL's advisory locks: "sluice" and a "w" in ASCII. Not the one of revision 0002, which is taken later.
_LOCK: Final = 0x736C7569636577
_TAKE_TURN: Final = f"SELECT pg_advisory_xact_lock({_LOCK})"


class PostgresCommitter:
    """See `storage.database_writer.Committer`."""

    pause_s = 0.0  # the server hands the lock to who has waited longest
    pauses = 0

    def __init__(self, server: Server, changes: PostgresChanges) -> None:
        self.name = server.name
        self._server = server
        self._changes = changes
        self._session = Session(server, WRITER)
        self._connection: sa.Connection | None = None
        self._has_savepoint = False
        self._is_over = False

    def begin(self) -> None:
        """Wait for the turn; one message to the server."""
        self._has_savepoint = self._is_over = False
        self._connection = self._session.begin(_TAKE_TURN)

    def attempt(self, work: Callable[[sa.Connection], T], *, alone: bool) -> tuple[T | None, BaseException | None]:
        """Run one act in its savepoint; one that is alone needs none."""
        connection, line = self._begun(), self._session.line()
        if not alone:
            line.execute(b"RELEASE act; SAVEPOINT act" if self._has_savepoint else b"SAVEPOINT act")
            self._has_savepoint = True
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = work(connection)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised again in the task that waits for this act
            failed = self._told(error)
            if code_of(error) == READ_ONLY:
                self._server.distrust()  # another server may have taken over
                raise RolledBack(failed) from None  # noqa: ASYNC104 - the writer tells its callers, of whom one may be cancelled
            if self._session.is_broken():
                self._session.give_up()
                raise RolledBack(failed) from None  # noqa: ASYNC104 - as above
            line.execute(b"ROLLBACK" if alone else b"ROLLBACK TO act")
            self._is_over = alone
        if line.info.transaction_status != (TransactionStatus.IDLE if self._is_over else TransactionStatus.INTRANS):
            raise RolledBack(failed)
        return result, failed

    def commit(self) -> None:
        """Commit, and learn what that changed before anybody is told: who wrote does not look at an older state."""
        if self._is_over:
            return
        since = self._changes.since()
        # What the numbers say is read after the commit, in the same message; it is certain as of before it.
        asked_at = self._changes.now()
        cursor = self._session.line().execute(f"COMMIT; {statement_since(since)}".encode())
        if cursor.statusmessage != "COMMIT":
            raise Unavailable(f"{self.name} did not commit")
        cursor.nextset()
        self._changes.absorb(cursor.fetchall(), since=since, asked_at=asked_at)

    def failure(self, error: BaseException) -> BaseException:
        """A new connection for the next transaction, whatever happened to this one."""
        told = self._session.failure(error) if isinstance(error, sa.exc.DBAPIError | psycopg.Error) else error
        self.close()
        return told

    def tidy(self) -> bool:
        """Nothing is due: the server looks after itself."""
        return True

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
        if not isinstance(error, sa.exc.DBAPIError | psycopg.Error):
            return error
        return self._session.told(error)


def statement_since(number: int) -> str:
    """The statement that reads what changed from `number` on, newest first."""
    # Read through the index from its end.
    return f"SELECT scope, at FROM changes WHERE at >= {int(number)} ORDER BY at DESC LIMIT {AT_ONCE}"  # noqa: S608
