"""Connections are made one attempt at a time while nobody answers, replaced after a trouble, and tell no secret."""

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from storage import Unavailable
from storage.database_postgres_line import READER
from storage.database_postgres_server import Server
from storage.database_postgres_session import Session
from tests.faults.fault import DOWN, Stall
from tests.faults.proxy import FaultProxy
from tests.servers.postgres import PostgresServer, standby
from tests.servers.processes import wait_until
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


@pytest.fixture
def reader(server: Server) -> Iterator[Session]:
    """A session that reads."""
    session = Session(server, READER)
    yield session
    session.close()


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


def test_an_attempt_that_took_long_to_fail_is_no_news(postgres: PostgresServer, postgres_database: str) -> None:
    """Somebody else has reached the server since it began: nobody is refused because of it."""
    hands = ThreadPoolExecutor(1)
    with hands, FaultProxy(postgres.port, http=False) as proxy:
        server = Server(make_conninfo(postgres.url_of(postgres_database, port=proxy.port), connect_timeout=2))
        proxy.harm(Stall(0, DOWN), times=1)
        failing = hands.submit(server.connect, READER)
        assert wait_until(lambda: proxy.connections == 1, 20)
        opened = [server.connect(READER)]
        assert isinstance(failing.exception(timeout=60), Unavailable)

        opened.append(server.connect(READER))

        assert server.failed_connects == 1
        for each in opened:
            server.close(each)


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


def test_a_standby_is_never_read(postgres: PostgresServer) -> None:
    """Its rows are old: with several hosts the primary is found wherever it stands, and alone a standby is refused."""

    def is_standby(tx: sa.Connection) -> bool:
        return bool(tx.execute(sa.select(sa.func.pg_is_in_recovery())).scalar_one())

    with tempfile.TemporaryDirectory(prefix="sluice-") as folder, standby(postgres, Path(folder)) as behind:
        both = Server(f"postgresql://sluice@127.0.0.1:{behind.port},127.0.0.1:{postgres.port}/postgres")
        session = Session(both, READER)
        assert session.read(is_standby) is False
        session.close()
        with pytest.raises(Unavailable, match="cannot be written"):
            Session(Server(behind.url_of("postgres")), READER).read(is_standby)


def test_connections_of_before_a_trouble_are_replaced(server: Server, reader: Session) -> None:
    """Once one has failed none is trusted: who uses an idle one next gets a new one without a failure."""

    def number(tx: sa.Connection) -> int:
        return int(tx.execute(sa.select(sa.func.pg_backend_pid())).scalar_one())

    first = reader.read(number)
    assert reader.read(number) == first
    server.distrust()
    assert reader.read(number) != first
    assert server.connections == 1
