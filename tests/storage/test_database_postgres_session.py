"""Readings see one snapshot, cannot write, and are run again where nobody can tell."""

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

from storage import Unavailable
from storage.database_postgres_line import READER
from storage.database_postgres_server import Server
from storage.database_postgres_session import Session
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
