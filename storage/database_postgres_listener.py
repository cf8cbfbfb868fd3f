"""The thread of a process that listens for changes in a PostgreSQL database.

Revision 0004 notifies a channel when a number is raised. A notification says only that; what changed is then read from
the table, and so it is each second without one, as a notification may be lost with its connection. While the server
is away the thread tries again, and looks at the changes give None.
"""

import os
import select
import threading
from typing import Final

import psycopg
import sqlalchemy as sa

from storage.changes_postgres import PostgresChanges
from storage.database_postgres_line import LISTENER, Line
from storage.database_postgres_server import Server
from storage.database_postgres_session import Session
from storage.database_postgres_writer import statement_since
from storage.errors import StorageError

CHANNEL: Final = "sluice_changes"  # as in revision 0004
# Which server, and which of its histories: another timeline begins when a replica takes over, or a backup is restored.
_HISTORY: Final = (
    b"SELECT system_identifier || ':' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
)
_EACH_S: Final = 1.0
_RETRY_S: Final = 0.3


class Listener:
    """Started and stopped by its database; fills `changes`."""

    def __init__(self, server: Server, changes: PostgresChanges) -> None:
        self._changes = changes
        self._session = Session(server, LISTENER)
        self._listening: Line | None = None
        self._history: str | None = None
        self._thread: threading.Thread | None = None
        self._wake = -1
        self._woken = -1

    def start(self) -> None:
        """Start the thread; it connects by itself."""
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, name="database-listener", daemon=True)
        self._thread.start()

    def stop_nowait(self) -> threading.Thread | None:
        """End the thread, which may take as long as one statement. Gives the thread, to be joined."""
        thread, self._thread = self._thread, None
        if thread is not None:
            os.close(self._wake)
        return thread

    # --- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._session.close()
            os.close(self._woken)

    def _turn(self) -> bool:
        """Read the table, then wait until there may be something new; False when the thread shall end."""
        try:
            line = self._session.line()
            if line is not self._listening:
                self._listen(line)
            self._read(line)
            descriptor = line.fileno()
        except StorageError:
            return not self._is_ended(_RETRY_S)
        except (psycopg.Error, sa.exc.DBAPIError, OSError):
            self._session.close()
            return not self._is_ended(_RETRY_S)
        return not self._is_ended(_EACH_S, descriptor)

    def _listen(self, line: Line) -> None:
        line.add_notify_handler(_ignore)
        line.execute(f"LISTEN {CHANNEL}".encode())
        try:
            ((history,),) = line.execute(_HISTORY).fetchall()
        except psycopg.errors.InsufficientPrivilege:
            history = None  # then only numbers that fell betray a server that lacks the last commits
        if history != self._history and self._history is not None:
            self._changes.begin_anew()
        self._history = history
        self._listening = line

    def _read(self, line: Line) -> None:
        # One statement is a snapshot by itself.
        for _ in range(2):
            since, asked_at = self._changes.since(), self._changes.now()
            rows = line.execute(statement_since(since).encode()).fetchall()
            if self._changes.absorb(rows, since=since, asked_at=asked_at):
                return

    def _is_ended(self, seconds: float, *descriptors: int) -> bool:
        """Wait for something on `descriptors`, or so long; True once the thread shall end."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        return any(descriptor == self._woken for descriptor, _ in poll.poll(seconds * 1000))


def _ignore(_: psycopg.Notify) -> None:
    """The table is read anyway. Without a handler the driver would keep every notification."""
