"""Connections to a server: what they promise, how they fail, and that no wait of theirs is endless."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from storage import Unavailable
from storage.database_postgres_server import READER, SURVEYOR, WRITER, Line, Server, Session
from tests.servers.postgres import PostgresServer
from tests.storage.lease_rows import count, insert

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
SECRET = "hunter2-and-more"


@pytest.fixture
def server(rows_url: str) -> Server:
    """The server, and a database without rows."""
    return Server(rows_url)


@pytest.fixture
def reader(server: Server) -> Iterator[Session]:
    """A session that reads."""
    session = Session(server, READER)
    yield session
    session.close()


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


def test_a_snapshot_can_neither_write_nor_change(server: Server, reader: Session, rows_url: str) -> None:
    """Both statements of a reading see the same, and a writing one is refused."""

    def twice(tx: sa.Connection) -> tuple[int, int]:
        before = count(tx)
        with psycopg.connect(rows_url) as stranger:
            stranger.execute("INSERT INTO leases (name, holder, expires_at) VALUES ('x', '', 0)")
        return before, count(tx)

    assert reader.read(twice) == (0, 0)
    with pytest.raises(Unavailable, match="cannot be written"):
        reader.read(lambda tx: insert(tx, "one"))
    assert reader.read(count) == 1


def test_one_statement_needs_no_transaction_and_cannot_write(server: Server, reader: Session) -> None:
    """A reading of one statement is not run again, and is refused what a snapshot is refused."""
    runs: list[str] = []

    def once(tx: sa.Connection) -> int:
        runs.append(str(tx.execute(sa.text("SELECT pg_current_xact_id_if_assigned()")).scalar()))
        return len(runs)

    assert [reader.read(once, kind="once") for _ in range(3)] == [1, 2, 3]
    assert server.longer == set()
    with pytest.raises(Unavailable, match="cannot be written"):
        reader.read(lambda tx: insert(tx, "one"), kind="insert")
    assert reader.read(count, kind="count") == 0


def test_several_statements_see_one_snapshot_from_the_first_time(
    server: Server, reader: Session, rows_url: str
) -> None:
    """A reading that turns out to need a transaction is run again in one, and in one at once from then on."""
    runs: list[int] = []

    def twice(tx: sa.Connection) -> tuple[int, int]:
        runs.append(1)
        before = count(tx)
        with psycopg.connect(rows_url) as stranger:
            stranger.execute("INSERT INTO leases (name, holder, expires_at) VALUES (%s, '', 0)", [f"x{len(runs)}"])
        return before, count(tx)

    assert reader.read(twice, kind="twice") == (1, 1)
    assert (len(runs), server.longer) == (2, {"twice"})
    assert reader.read(twice, kind="twice") == (2, 2)
    assert len(runs) == 3


def test_a_reading_that_hides_its_second_statement_is_run_again_too(reader: Session) -> None:
    """Whatever a function does about an error, it never gets half an answer."""

    def hiding(tx: sa.Connection) -> list[int]:
        seen = [count(tx)]
        with suppress(Exception):
            seen.append(count(tx))
        return seen

    assert reader.read(hiding, kind="hiding") == [0, 0]


def test_an_error_of_a_reading_is_its_own(reader: Session) -> None:
    """What a function raises is raised as it is, before or after its statements, and the connection goes on."""
    mine = LookupError("mine")

    def fail(tx: sa.Connection, statements: int) -> None:
        for _ in range(statements):
            count(tx)
        raise mine

    for statements in (0, 1, 2):
        with pytest.raises(LookupError) as caught:
            reader.read(lambda tx, statements=statements: fail(tx, statements), kind=statements)  # type: ignore[misc]
        assert caught.value is mine
    assert reader.read(count, kind="count") == 0


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
    assert time.monotonic() - began < 3
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
    assert time.monotonic() - began < 1
    assert server.connections == 0


def test_a_reading_on_a_dead_connection_is_run_again(postgres: PostgresServer, server: Server, reader: Session) -> None:
    """Its caller hears nothing of it; one on a new connection is not."""
    assert reader.read(count) == 0
    postgres.cut_connections(str(conninfo_to_dict(postgres.url_of(database_of(reader)))["dbname"]))
    detours: list[int] = []
    assert reader.read(count, lambda: detours.append(1)) == 0
    assert detours == [1]


def database_of(session: Session) -> str:
    """The database's name, as the server knows it."""
    return str(session.read(lambda tx: tx.execute(sa.select(sa.func.current_database())).scalar_one()))


def test_connections_of_before_a_trouble_are_replaced(server: Server, reader: Session) -> None:
    """Once one has failed none is trusted: who uses an idle one next gets a new one without a failure."""

    def number(tx: sa.Connection) -> int:
        return int(tx.execute(sa.select(sa.func.pg_backend_pid())).scalar_one())

    first = reader.read(number)
    assert reader.read(number) == first
    server.distrust()
    assert reader.read(number) != first
    assert server.connections == 1


def test_while_nobody_answers_one_at_a_time_tries(postgres: PostgresServer, server: Server) -> None:
    """A hundred callers of a server that is not there make a few attempts, and all are told at once."""
    gone = Server(postgres.url_of("none", port=1))
    told: list[Unavailable] = []

    def ask() -> None:
        try:
            Session(gone, READER).read(count)
        except Unavailable as error:
            told.append(error)

    for _ in range(10):
        threads = [threading.Thread(target=ask) for _ in range(10)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(told) == 100
    assert len({id(error) for error in told}) == 100
    assert gone.failed_connects < 50
    assert all("cannot be reached" in str(error) for error in told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": "1"}, "cannot be reached"),
        ({"dbname": "no-such"}, "no such database"),
        ({"user": "nobody-at-all"}, "refuses our user"),
    ],
    ids=["unreachable", "database", "user"],
)
def test_a_refusal_says_why_and_no_secret(rows_url: str, change: dict[str, str], words: str) -> None:
    """The operator learns what to look at; the password is in no message and no cause."""
    server = Server(make_conninfo(rows_url, password=SECRET, **change))
    with pytest.raises(Unavailable, match=words) as caught:
        Session(server, READER).read(count)
    shown = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not any(SECRET in repr(error) for error in shown)


def test_a_url_that_is_none_is_told_without_repeating_it() -> None:
    """It may hold a password."""
    with pytest.raises(Unavailable, match="not valid") as caught:
        Server(f"postgresql://sluice:{SECRET}@[/x")
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_what_the_url_says_stands(rows_url: str) -> None:
    """Parameters of libpq are passed on, and come before ours."""
    server = Server(make_conninfo(rows_url, application_name="mine", connect_timeout="7"))
    session = Session(server, READER)
    assert session.read(lambda tx: setting(tx, "application_name")) == "mine"
    session.close()


def test_lines_are_watched(server: Server) -> None:
    """Every connection of a server ends its waits, whichever role made it."""
    session = Session(server, WRITER)
    assert isinstance(session.line(), Line)
    assert session.line().answer_s > WRITER.statement_s
    session.close()
