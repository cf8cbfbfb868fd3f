"""The PostgreSQL server that other tests rely on does what they ask of it, and is whole again afterwards."""

import psycopg
import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.processes import wait_until

pytestmark = pytest.mark.slow


def test_databases_are_made_and_removed(postgres: PostgresServer) -> None:
    """A migrated database has the tables, an empty one none; both are reached over TCP and the socket."""
    full, empty = postgres.new_database(), postgres.new_database(migrated=False)
    tables = b"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    with psycopg.connect(postgres.url_of(full)) as over_tcp, psycopg.connect(postgres.url_of(empty, "socket")) as local:
        (counted,) = over_tcp.execute(tables).fetchone() or (0,)
        assert counted > 10
        assert local.execute(tables).fetchone() == (0,)

    postgres.drop(full)
    postgres.drop(empty)

    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres.url_of(full))


def test_it_is_stopped_killed_and_started(shaken_postgres: PostgresServer, postgres_url: str) -> None:
    """After stop and after kill nothing answers; what was committed is there after the start."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (value int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    for end in (shaken_postgres.stop, shaken_postgres.kill):
        end()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(postgres_url)
        shaken_postgres.start()
        with psycopg.connect(postgres_url) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (1,)


def test_it_refuses_writes(shaken_postgres: PostgresServer, postgres_url: str) -> None:
    """While it is read-only an open connection may read and not write; then it may again."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        shaken_postgres.read_only(on=True)
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE refused (value int)")
        shaken_postgres.heal()
        connection.execute("CREATE TABLE taken (value int)")


def test_it_stands_still(shaken_postgres: PostgresServer, postgres_url: str) -> None:
    """Paused, it keeps connections open and answers none; resumed, the same connection is served."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        shaken_postgres.pause()
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(postgres_url, connect_timeout=2)
        shaken_postgres.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_connections_run_out_and_are_cut(
    shaken_postgres: PostgresServer, postgres_database: str, postgres_url: str
) -> None:
    """A limit holds for the product's role, and the server can end the connections that are open."""
    shaken_postgres.limit_connections(postgres_database, 1)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            psycopg.connect(postgres_url)
        assert shaken_postgres.cut_connections(postgres_database) == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    # The server tells the client before it has taken the connection off its list.
    assert wait_until(lambda: shaken_postgres.connections(postgres_database) == 0, 5)
