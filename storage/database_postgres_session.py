"""Work on one connection of a PostgreSQL server at a time: begun, ended, and replaced after any failure of the server.

A connection on which anything of the server failed is closed and never used again; one that broke makes all others
of before suspect.
"""

from collections.abc import Callable
from typing import TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import pq

from storage.database_postgres_failures import DatabaseError, cause_of, translated
from storage.database_postgres_line import Line, NoAnswer, Role, line_of
from storage.database_postgres_server import Server
from storage.errors import Conflict, StorageError, StorageFull, Unavailable

T = TypeVar("T")


class Session:
    """One connection in one role, opened when first needed and replaced after a failure. One thread at a time."""

    def __init__(self, server: Server, role: Role, look: Callable[[], None] | None = None) -> None:
        """`look` is called each tenth of a second while a statement runs; what it raises ends the statement."""
        self._server = server
        self._role = role
        self._look = look
        self._connection: sa.Connection | None = None
        self._generation = 0

    def read(
        self,
        work: Callable[[sa.Connection], T],
        on_detour: Callable[[], None] | None = None,
        *,
        kind: object = None,
    ) -> T:
        """Run `work` inside one snapshot that is taken at its first statement, once more if the connection was dead.

        A single statement is a snapshot by itself: two messages to the server less. `kind` tells readings apart by the
        number of their statements, and those that turn out to need a transaction are run again in one. None: unknown.
        Raises what `work` raises, `Unavailable`, `StorageFull`.
        """
        was_open = self._is_open()
        try:
            return self._read(work, kind)
        except _Broken as error:
            if not was_open:
                raise error.reason from error.reason.__cause__
        if on_detour is not None:
            on_detour()
        try:
            return self._read(work, kind)
        except _Broken as error:
            raise error.reason from error.reason.__cause__

    def begin(self, statement: str = "") -> sa.Connection:
        """Begin the role's transaction, with another statement in the same message. A dead connection is replaced.

        Raises what the driver raises, and `Unavailable` if no connection can be made.
        """
        text = f"{self._role.begin}; {statement}" if statement else self._role.begin
        if self._is_open():
            try:
                return self._begin(text)
            except psycopg.Error as error:
                if isinstance(error, NoAnswer) or not self.is_broken():
                    raise
                self.give_up()
        return self._begin(text)

    def line(self) -> Line:
        """The driver's connection, opened if needed."""
        return line_of(self._open())

    def told(self, error: DatabaseError) -> Exception:
        """What a caller gets to see of `error`."""
        result = translated(error, self._server.name)
        if isinstance(result, StorageError):
            # The server's words about a row repeat its values.
            result.__cause__ = None if isinstance(result, Conflict) else cause_of(error)
        return result

    def failure(self, error: DatabaseError) -> Exception:
        """What to raise for `error`. A connection that broke, or whose server is in trouble, is replaced."""
        result = self.told(error)
        if self.is_broken():
            self.give_up()
        elif isinstance(result, Unavailable | StorageFull):
            self.close()
        return result

    def close(self) -> None:
        """Close the connection, undoing what is not committed; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._server.close(connection)

    def is_broken(self) -> bool:
        """Whether the connection is lost, or a statement still runs on it."""
        if self._connection is None:
            return False
        if self._connection.invalidated or line_of(self._connection).closed:
            return True
        return line_of(self._connection).pgconn.transaction_status in {
            pq.TransactionStatus.ACTIVE,
            pq.TransactionStatus.UNKNOWN,
        }

    def give_up(self) -> None:
        """It broke: so have the others, or will."""
        self.close()
        self._server.distrust()

    def _begin(self, text: str) -> sa.Connection:
        connection = self._open()
        line = line_of(connection)
        line.await_for(self._role.lock_s)  # nothing else is waited for yet
        try:
            line.execute(text.encode())
        finally:
            line.await_for(self._role.statement_s)
        return connection

    def _read(self, work: Callable[[sa.Connection], T], kind: object) -> T:
        try:
            connection = self._open()
            if kind is not None and kind not in self._server.longer:
                found = _read_single(work, connection)
                if found is not None:
                    return found[0]
                self._server.longer.add(kind)
            return self._read_in_transaction(work, connection)
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            is_broken = self.is_broken()
            told = self.failure(error)
            if is_broken and isinstance(told, Unavailable) and not isinstance(cause_of(error), NoAnswer):
                raise _Broken(told) from None
            raise told from told.__cause__
        except BaseException:
            if self.is_broken():  # cancelled while a statement ran
                self.close()
            raise

    def _read_in_transaction(self, work: Callable[[sa.Connection], T], connection: sa.Connection) -> T:
        line = line_of(connection)
        line.execute(self._role.begin.encode())
        try:
            return work(connection)
        finally:
            if not self.is_broken():
                line.execute(b"ROLLBACK")

    def _open(self) -> sa.Connection:
        if self._connection is None:
            self._generation = self._server.generation
            self._connection = self._server.connect(self._role)
            line_of(self._connection).look = self._look
        return self._connection

    def _is_open(self) -> bool:
        """Whether there is a connection that nothing speaks against; one of an older generation is closed."""
        if self._connection is not None and self._generation != self._server.generation:
            self.close()
        return self._connection is not None


def _read_single(work: Callable[[sa.Connection], T], connection: sa.Connection) -> tuple[T] | None:
    """What `work` gives with one statement at most; None if it wanted another."""
    line = line_of(connection)
    line.is_single, line.statements = True, 0
    try:
        found = (work(connection),)
    except Exception:
        if line.statements <= 1:
            raise
        return None
    finally:
        line.is_single = False
    return found if line.statements <= 1 else None


class _Broken(Exception):
    """The connection broke under a read, which may be run again."""

    def __init__(self, reason: Unavailable) -> None:
        super().__init__(str(reason))
        self.reason = reason
