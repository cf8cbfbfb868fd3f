"""A PostgreSQL server: how connections to it are made and given up. Knows nothing of Trio tasks or of tables.

SQLAlchemy is told AUTOCOMMIT and to keep no pool; transactions are begun by sessions, on the driver's connection, as
with SQLite. While the server cannot be reached, one caller at a time tries; all others are told at once.
"""

import threading
import time
from typing import Any, Final, cast

import psycopg
import sqlalchemy as sa
from psycopg import conninfo

from storage.database_postgres_failures import cause_of, refused, translated
from storage.database_postgres_line import Cursor, Line, Role, line_of
from storage.errors import StorageError, Unavailable

_CONNECT_S: Final = 3  # of patience with a server that does not answer, for each address; libpq's least is 2
_RETRY_S: Final = 0.25  # between two attempts to reach a server that cannot be reached
# A peer that vanished without a word is noticed within these, if nothing is awaited from it.
_KEEPALIVE: Final = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


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
            # Of several hosts never a standby, whose rows are old without a sign of it. Not "read-write": a primary
            # that takes no writes for a while goes on serving reads.
            "target_session_attrs": "primary",
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
        self._reached = 0
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
            reached_before = self._reached
        trouble: StorageError | None = Unavailable(f"{self.name} did not answer: the attempt was given up")
        try:
            connection = self._connect(role)
            trouble = None
        except StorageError as error:
            trouble = error
            raise
        finally:
            self._note(trouble, reached_before)
        return connection

    def _note(self, trouble: StorageError | None, reached_before: int) -> None:
        """How an attempt ended. A failure that took seconds is no news if others got through meanwhile."""
        with self._lock:
            if trouble is None:
                self._reached += 1
                self.connections += 1
            else:
                self.failed_connects += 1
            if trouble is None or self._reached == reached_before:
                self._trouble, self._is_tried = trouble, False
                self._retry_at = time.monotonic() + _RETRY_S

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
        return Line.connect(**cast("Any", self._parameters), autocommit=True, cursor_factory=Cursor)

    def _connect(self, role: Role) -> sa.Connection:
        try:
            connection = self._engine.connect()
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            cause = cause_of(error)
            raise (refused(cause, self.name) if isinstance(cause, psycopg.Error) else error) from None
        try:
            line_of(connection).set_up(role)
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            connection.invalidate()
            connection.close()
            raise translated(error, self.name) from cause_of(error)
        return connection
