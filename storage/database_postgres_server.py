"""A PostgreSQL server: how connections to it are made, watched, and given up. Knows nothing of Trio tasks or of tables.

SQLAlchemy is told AUTOCOMMIT and to keep no pool; transactions are begun here, on the driver's connection, as with
SQLite. A connection on which anything of the server failed is closed and never used again.

Nothing waits without end: the server gets its own limits (statement, lock, idle transaction), and as a server that
stands still keeps none of them, each wait for an answer ends `_GRACE_S` after the statement should have ended.
While the server cannot be reached, one caller at a time tries; all others are told at once.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, cast

import psycopg
import sqlalchemy as sa
from psycopg import abc, conninfo, pq

from storage.database_postgres_failures import DatabaseError, cause_of, refused, translated
from storage.errors import Conflict, StorageError, StorageFull, Unavailable

T = TypeVar("T")

_CONNECT_S: Final = 3  # of patience with a server that does not answer, for each address; libpq's least is 2
_RETRY_S: Final = 0.25  # between two attempts to reach a server that cannot be reached
_GRACE_S: Final = 1.0  # for the answer to arrive after the server should have ended the statement
_LOOK_S: Final = 0.1  # between two looks at the clock and at cancellation while a statement runs
_STATEMENTS: Final = 512  # prepared statements that a connection keeps; Sluice has about 250
_CHECKS_CLIENTS: Final = 140_000  # the first version that notices a client that left while it computes
# A peer that vanished without a word is noticed within these, if nothing is awaited from it.
_KEEPALIVE: Final = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


@dataclass(frozen=True, slots=True)
class Role:
    """What a connection is for: how its transactions begin, and how long statements, locks and pauses may last."""

    begin: str
    statement_s: float
    lock_s: float
    pause_s: float


_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
READER: Final = Role(_SNAPSHOT, statement_s=4, lock_s=2, pause_s=10)
SURVEYOR: Final = Role(_SNAPSHOT, statement_s=30, lock_s=2, pause_s=30)
# A writer that was frozen (a stopped process, a paused machine) loses the lock after `pause_s`.
WRITER: Final = Role("BEGIN ISOLATION LEVEL READ COMMITTED", statement_s=30, lock_s=10, pause_s=5)
# Waits for a table's lock only shortly, as everybody else waits behind it; then it tries again.
MIGRATOR: Final = Role("BEGIN ISOLATION LEVEL READ COMMITTED", statement_s=3600, lock_s=2, pause_s=60)
LISTENER: Final = Role(_SNAPSHOT, statement_s=2, lock_s=1, pause_s=5)


class NoAnswer(psycopg.OperationalError):
    """The server kept silent for longer than the statement was allowed to take."""


class _SecondStatement(Exception):
    """A reading that was begun without a transaction needs one."""


class _Cursor(psycopg.Cursor[Any]):
    """Counts the statements of a reading."""

    def execute(self, *arguments: Any, **options: Any) -> Self:
        """As the driver's."""
        line = cast("Line", self.connection)  # made by it
        if line.is_single:
            line.statements += 1
            if line.statements > 1:
                raise _SecondStatement
        return super().execute(*arguments, **options)


class Line(psycopg.Connection[Any]):
    """A connection whose waits end: at a deadline, or when `look` raises."""

    answer_s: float = READER.statement_s + _GRACE_S
    look: Callable[[], None] | None = None
    is_single: bool = False
    """Whether just one statement may be executed now."""
    statements: int = 0

    def wait(self, gen: abc.PQGen[T], *arguments: Any, **options: Any) -> T:
        """As the driver's, but not for ever."""
        return super().wait(self._watched(gen), *arguments, **options)

    def _watched(self, gen: abc.PQGen[T]) -> abc.PQGen[T]:
        until = time.monotonic() + self.answer_s
        looked_at = time.monotonic()
        try:
            state = next(gen)
            while True:
                ready = yield state
                now = time.monotonic()
                if not ready or now - looked_at > _LOOK_S:
                    looked_at = now
                    if self.look is not None:
                        self.look()
                    if now > until:
                        raise NoAnswer("no answer")
                state = gen.send(ready)
        except StopIteration as end:
            return cast("T", end.value)  # a generator of the driver ends with its result


class Server:
    """A server and one database on it. Makes connections; holds none."""

    def __init__(self, url: str) -> None:
        """`url` as libpq takes it, with any of its parameters. Raises `Unavailable` if it is none; no I/O."""
        try:
            parts = conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            # Not "from": the driver's words repeat the URL, and with it the password.
            raise Unavailable("the URL of the database is not valid: postgresql://user@host/name is") from None
        self.name = (
            f"the database {parts.get('dbname') or parts.get('user') or ''} on {parts.get('host') or 'localhost'}"
        )
        # What the operator says in the URL stands.
        self._parameters = {
            "application_name": "sluice",
            "connect_timeout": _CONNECT_S,
            **_KEEPALIVE,
            **parts,
            "client_encoding": "utf8",
        }
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._dial,
            poolclass=sa.pool.NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            use_native_hstore=False,  # would cost a query per connection
        )
        self._lock = threading.Lock()  # held for a few instructions only
        self._trouble: StorageError | None = None
        self._is_tried = False
        self._retry_at = 0.0
        self.generation = 0
        """Rises when connections made before should not be trusted any more."""
        self.failed_connects = 0
        self.connections = 0
        """How many are open."""
        self.longer: set[object] = set()
        """Readings that are known to take more than one statement; as many as there are functions at most."""

    def connect(self, role: Role) -> sa.Connection:
        """A new connection, set up for `role`. Raises `Unavailable`: at once, if others have just failed."""
        with self._lock:
            if self._trouble is not None and (self._is_tried or time.monotonic() < self._retry_at):
                raise type(self._trouble)(*self._trouble.args)
            self._is_tried = self._trouble is not None
        trouble: StorageError | None = Unavailable(f"{self.name} did not answer: the attempt was given up")
        try:
            connection = self._connect(role)
            trouble = None
        except StorageError as error:
            trouble = error
            raise
        finally:
            with self._lock:
                self._trouble, self._is_tried = trouble, False
                if trouble is None:
                    self.connections += 1
                else:
                    self._retry_at = time.monotonic() + _RETRY_S
                    self.failed_connects += 1
        return connection

    def close(self, connection: sa.Connection) -> None:
        """Close a connection in whatever state it is; what is not committed is undone."""
        connection.invalidate()
        connection.close()
        with self._lock:
            self.connections -= 1

    def distrust(self) -> None:
        """Something happened to the server: connections that are open now are replaced when next used."""
        with self._lock:
            self.generation += 1

    def _dial(self) -> Line:
        return Line.connect(**cast("Any", self._parameters), autocommit=True, cursor_factory=_Cursor)

    def _connect(self, role: Role) -> sa.Connection:
        try:
            connection = self._engine.connect()
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            cause = cause_of(error)
            raise (refused(cause, self.name) if isinstance(cause, psycopg.Error) else error) from None
        try:
            line = line_of(connection)
            line.answer_s = role.statement_s + _GRACE_S
            line.prepared_max = _STATEMENTS
            line.execute(_setup(role, line.info.server_version).encode())
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            connection.invalidate()
            connection.close()
            raise translated(error, self.name) from cause_of(error)
        return connection


class Session:
    """One connection in one role, opened when first needed and replaced after a failure. One thread at a time."""

    def __init__(self, server: Server, role: Role, look: Callable[[], None] | None = None) -> None:
        """`look` is called each `_LOOK_S` while a statement runs; what it raises ends the statement."""
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
                line_of(self._open()).execute(text.encode())
                return self._open()
            except psycopg.Error:
                if not self.is_broken():
                    raise
                self.give_up()
        line_of(self._open()).execute(text.encode())
        return self._open()

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

    def _read(self, work: Callable[[sa.Connection], T], kind: object) -> T:
        try:
            connection = self._open()
            if kind is not None and kind not in self._server.longer:
                line, line.is_single, line.statements = line_of(connection), True, 0
                try:
                    result = work(connection)
                except Exception:
                    if line.statements <= 1:
                        raise
                finally:
                    line.is_single = False
                if line.statements <= 1:
                    return result
                self._server.longer.add(kind)
            return self._read_in_transaction(work, connection)
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            is_broken = self.is_broken()
            result = self.failure(error)
            if is_broken and isinstance(result, Unavailable) and not isinstance(cause_of(error), NoAnswer):
                raise _Broken(result) from None
            raise result from result.__cause__
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


class _Broken(Exception):
    """The connection broke under a read, which may be run again."""

    def __init__(self, reason: Unavailable) -> None:
        super().__init__(str(reason))
        self.reason = reason


def line_of(connection: sa.Connection) -> Line:
    """The driver's connection inside SQLAlchemy's."""
    # The engine's creator makes no other.
    return cast("Line", connection.connection.dbapi_connection)


def _setup(role: Role, version: int) -> str:
    """One statement for all settings, as a pooler in between may not take them with the connection."""
    settings = {
        "statement_timeout": _ms(role.statement_s),
        "lock_timeout": _ms(role.lock_s),
        "idle_in_transaction_session_timeout": _ms(role.pause_s),
        "jit": "off",  # no statement of ours is worth compiling
        "default_transaction_read_only": "on" if "READ ONLY" in role.begin else None,
    }
    if version >= _CHECKS_CLIENTS:
        settings["client_connection_check_interval"] = "1000"
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items() if value)
    # Acknowledged means durable: a server that answers before is told not to.
    durable = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    return f"SELECT {calls}; {durable}"


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
