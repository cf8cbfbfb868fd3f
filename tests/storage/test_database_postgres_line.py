"""The server knows the limits of each connection, and no wait is endless when it does not keep them."""

import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from storage import Unavailable
from storage.database_postgres_line import READER, SURVEYOR, WRITER, Line
from storage.database_postgres_server import Server
from storage.database_postgres_session import Session
from tests.servers.postgres import PostgresServer
from tests.storage.lease_rows import count

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
SECRET = "hunter2-and-more"


@pytest.fixture
def server(rows_url: str) -> Server:
    """The server, and a database without rows."""
    return Server(rows_url)


def setting(tx: sa.Connection, name: str) -> str:
    """What the server goes by."""
    return str(tx.execute(sa.select(sa.func.current_setting(name))).scalar_one())


@pytest.mark.parametrize("role", [READER, SURVEYOR, WRITER], ids=["reader", "surveyor", "writer"])
def test_the_server_knows_the_limits(server: Server, role: object) -> None:
    """Statements, locks and pauses of each role are bounded by the server, and acknowledged means durable."""
    assert role in (READER, SURVEYOR, WRITER)
    chosen = next(each for each in (READER, SURVEYOR, WRITER) if each is role)
    session = Session(server, chosen)
    connection = session.begin()
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    for name, limit_s in zip(names, (chosen.statement_s, chosen.lock_s, chosen.pause_s), strict=True):
        assert setting(connection, name) == f"{limit_s:g}s"
    assert setting(connection, "synchronous_commit") == "on"  # the tests' server says off
    session.close()
    assert server.connections == 0


def test_a_statement_that_takes_too_long_is_stopped(server: Server) -> None:
    """By the server, in its time; the connection is as good as before, or replaced."""
    session = Session(server, replace(READER, statement_s=0.1))
    with pytest.raises(Unavailable, match="too long"):
        session.read(lambda tx: tx.execute(sa.select(sa.func.pg_sleep(10))).all())
    assert session.read(count) == 0
    session.close()
    assert server.connections == 0


def test_an_answer_that_does_not_come_is_not_awaited(shaken_postgres: PostgresServer, server: Server) -> None:
    """A server that stands still keeps no promise: the caller is told soon after the statement should have ended."""
    session = Session(server, replace(READER, statement_s=0.1))
    assert session.read(count) == 0
    shaken_postgres.pause()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        session.read(count)
    assert time.monotonic() - began < READER.statement_s  # which others have
    shaken_postgres.resume()
    assert session.read(count) == 0
    session.close()


def test_what_is_asked_while_a_statement_runs_can_end_it(server: Server) -> None:
    """Cancellation does not wait for the server; the connection is not used again."""

    class Cancelled(BaseException):
        pass

    def look() -> None:
        if time.monotonic() > began + 0.2:
            raise Cancelled

    began = time.monotonic()
    session = Session(server, READER, look)
    with pytest.raises(Cancelled):
        session.read(lambda tx: tx.execute(sa.select(sa.func.pg_sleep(10))).all())
    assert time.monotonic() - began < READER.statement_s  # when the server would end it
    assert server.connections == 0


def test_lines_are_watched(server: Server) -> None:
    """Every connection of a server ends its waits, whichever role made it."""
    session = Session(server, WRITER)
    assert isinstance(session.line(), Line)
    assert session.line().answer_s > WRITER.statement_s
    session.close()
