"""One connection to a PostgreSQL server: what it is for, the limits the server is told, and waits that end.

The server gets limits of its own (statement, lock, idle transaction); as a server that stands still keeps none of
them, each wait for an answer ends `_GRACE_S` after the statement should have ended. Knows no tables and no tasks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, cast

import psycopg
import sqlalchemy as sa
from psycopg import abc

T = TypeVar("T")

_GRACE_S: Final = 1.0  # for the answer to arrive after the server should have ended the statement
_LOOK_S: Final = 0.1  # between two looks at the clock and at cancellation while a statement runs
_STATEMENTS: Final = 512  # prepared statements that a connection keeps; Sluice has about 250
_CHECKS_CLIENTS: Final = 140_000  # the first version that notices a client that left while it computes


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


class SecondStatement(Exception):
    """A reading that was begun without a transaction needs one."""


class Cursor(psycopg.Cursor[Any]):
    """Counts the statements of a reading."""

    def execute(self, *arguments: Any, **options: Any) -> Self:
        """As the driver's."""
        line = cast("Line", self.connection)  # made by it
        if line.is_single:
            line.statements += 1
            if line.statements > 1:
                raise SecondStatement
        return super().execute(*arguments, **options)


class Line(psycopg.Connection[Any]):
    """A connection whose waits end: at a deadline, or when `look` raises."""

    answer_s: float = READER.statement_s + _GRACE_S
    look: Callable[[], None] | None = None
    is_single: bool = False
    """Whether just one statement may be executed now."""
    statements: int = 0

    def await_for(self, statement_s: float) -> None:
        """Let statements take so long from now on, and their answers a little longer."""
        self.answer_s = statement_s + _GRACE_S

    def set_up(self, role: Role) -> None:
        """Tell the server the limits of `role`, and keep them; raises what the driver raises."""
        self.await_for(role.statement_s)
        self.prepared_max = _STATEMENTS
        self.execute(_setup(role, self.info.server_version).encode())

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
