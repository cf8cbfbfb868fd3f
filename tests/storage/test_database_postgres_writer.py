"""The lock that all writers of all replicas share: who holds it cannot keep it, and no act is half done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import trio

from storage import PostgresDatabase, Transaction, Unavailable
from storage.database_postgres_line import WRITER
from storage.database_postgres_writer import _LOCK, statement_since
from tests.servers.postgres import PostgresServer
from tests.storage.database_process import process
from tests.storage.lease_rows import insert, names
from tests.storage.test_database_writer import together

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
async def database(rows_url: str) -> AsyncIterator[PostgresDatabase]:
    """Open, without rows."""
    async with PostgresDatabase(rows_url) as opened:
        yield opened


def cut(tx: Transaction) -> None:
    """End the connection that this act runs on."""
    tx.execute(sa.select(sa.func.pg_terminate_backend(sa.func.pg_backend_pid())))


async def test_a_connection_that_breaks_amid_a_batch_fails_all_of_it(database: PostgresDatabase) -> None:
    """Nobody is acknowledged, nothing is stored, and the next act works on a new connection."""
    outcomes = await together(database, lambda tx: insert(tx, "before"), cut, lambda tx: insert(tx, "after"))
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert await database.read(names) == []
    assert await database.transaction(insert, "next") == "next"


async def test_a_connection_that_died_while_idle_costs_nobody_anything(
    database: PostgresDatabase, postgres: PostgresServer, rows_database: str
) -> None:
    """No act had begun on it, so the first one goes to a new connection."""
    await database.transaction(insert, "one")
    postgres.cut_connections(rows_database)
    assert await database.transaction(insert, "two") == "two"


async def test_an_act_that_hides_an_error_of_the_database_stores_nothing(database: PostgresDatabase) -> None:
    """The server undoes the transaction; a commit of it would be a lie."""

    def hides(tx: Transaction) -> str:
        insert(tx, "one")
        with pytest.raises(sa.exc.DBAPIError):
            insert(tx, "one")
        return "done"

    for acts in ([hides], [lambda tx: insert(tx, "before"), hides]):
        outcomes = await together(database, *acts)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * len(acts)
    assert await database.read(names) == []


async def test_a_lock_that_a_stranger_holds_is_waited_for_and_then_told(
    rows_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded by the role's patience; when it is free again, the next act gets it."""
    monkeypatch.setattr("storage.database_postgres_writer.WRITER", replace(WRITER, lock_s=0.3))
    async with PostgresDatabase(rows_url) as database:
        with psycopg.connect(rows_url) as stranger:
            stranger.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            began = time.monotonic()
            with pytest.raises(Unavailable, match="others hold its locks"):
                await database.transaction(insert, "early")
            assert time.monotonic() - began < 5
        assert await database.transaction(insert, "late") == "late"


async def test_a_server_that_stands_still_keeps_writers_no_longer_than_the_lock_would(
    rows_url: str, shaken_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a turn is told when the turn should have come, not when a statement might have ended."""
    monkeypatch.setattr("storage.database_postgres_writer.WRITER", replace(WRITER, lock_s=0.3))
    async with PostgresDatabase(rows_url) as database:
        await database.transaction(insert, "before")
        shaken_postgres.pause()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await database.transaction(insert, "refused")
        assert time.monotonic() - began < 6
        shaken_postgres.resume()
        assert await database.transaction(insert, "after") == "after"


FREEZE = """
import sys, time, trio
from storage import PostgresDatabase, StorageError
from tests.storage.lease_rows import insert

def act(tx):
    insert(tx, "frozen")
    print("inside", flush=True)
    sys.stdin.readline()
    insert(tx, "thawed")

async def main():
    async with PostgresDatabase(sys.argv[1]) as database:
        try:
            await database.transaction(act)
        except StorageError as error:
            print(type(error).__name__, flush=True)
        else:
            print("committed", flush=True)

trio.run(main)
"""


async def test_a_process_that_is_frozen_loses_the_lock_and_its_act(database: PostgresDatabase, rows_url: str) -> None:
    """Others write again within seconds; when it goes on its act fails as a whole, and nothing of it is stored."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", FREEZE, rows_url]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) as frozen:  # noqa: ASYNC220 - another process, while nothing else runs in the loop
        try:
            assert frozen.stdout is not None
            assert frozen.stdin is not None
            assert frozen.stdout.readline() == "inside\n"
            frozen.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert await database.transaction(insert, "other") == "other"
            assert time.monotonic() - began < WRITER.lock_s
            frozen.send_signal(signal.SIGCONT)
            frozen.stdin.write("go\n")
            frozen.stdin.flush()
            assert frozen.stdout.readline() == "Unavailable\n"
        finally:
            frozen.kill()
    assert await database.read(names) == ["other"]


async def test_a_process_that_is_killed_lets_go_at_once(database: PostgresDatabase, rows_url: str) -> None:
    """Its transaction is undone by the server, and nobody waits for a limit."""
    with process("insert", rows_url, "killed") as running:
        assert running.stdout is not None
        running.stdout.readline()
        os.kill(running.pid, signal.SIGKILL)
        began = time.monotonic()
        await database.transaction(insert, "other")
        assert time.monotonic() - began < WRITER.pause_s


async def test_two_replicas_get_their_turns(database: PostgresDatabase, rows_url: str) -> None:
    """A replica that always has something to write keeps no other one waiting for long."""
    async with PostgresDatabase(rows_url) as greedy, trio.open_nursery() as nursery:

        async def write(number: int) -> None:
            turn = 0
            while True:
                turn += 1
                await greedy.transaction(insert, f"g{number}-{turn}")

        for number in range(32):
            nursery.start_soon(write, number)
        slowest_s = 0.0
        for number in range(20):
            began = time.monotonic()
            await database.transaction(insert, f"modest-{number}")
            slowest_s = max(slowest_s, time.monotonic() - began)
        assert slowest_s < WRITER.lock_s / 2
        nursery.cancel_scope.cancel()


def test_reading_changes_asks_for_a_bounded_page() -> None:
    """A number and nothing else gets into the statement."""
    assert statement_since(7).endswith("WHERE at >= 7 ORDER BY at DESC LIMIT 1000")
