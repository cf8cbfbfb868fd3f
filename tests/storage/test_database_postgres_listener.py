"""Other processes' commits are heard at once, one's own are known before the caller goes on, and silence is noticed."""

import time
from collections.abc import AsyncIterator

import psycopg
import pytest
import trio

from storage import PostgresDatabase, Transaction
from storage.metadata import projects
from storage.metadata.changes import ACCESS
from tests.servers.postgres import PostgresServer
from tests.storage.metadata.samples import NOW

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def change(tx: Transaction, name: str) -> None:
    """Something that counts."""
    projects.create(tx, name=name, description="", now=NOW)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[PostgresDatabase]:
    """Open, and certain of the changes."""
    async with PostgresDatabase(postgres_url) as opened:
        await looks(opened)
        yield opened


async def looks(database: PostgresDatabase, above: int = -1) -> int:
    """Wait for a look that is certain, and newer than a number."""
    with trio.fail_after(30):
        while True:
            look = database.changes().look()
            if look is not None and look > above:
                return look
            await trio.sleep(0.005)


async def test_a_change_of_ones_own_is_seen_when_the_caller_goes_on(database: PostgresDatabase) -> None:
    """However quick the look: whoever wrote never sees the state before."""
    for number in range(50):
        before = database.changes().look()
        await database.transaction(change, f"p{number}")
        look = database.changes().look()
        assert before is not None
        assert look is not None
        assert look > before
        assert database.changes().changed_at(ACCESS) == look


async def test_what_does_not_count_changes_nothing(database: PostgresDatabase) -> None:
    """Looks stay as they are, and certain, while rows are written that no remembered answer depends on."""
    before = await looks(database)
    for _ in range(5):
        await database.transaction(lambda tx: None)
    assert database.changes().look() == before


async def test_a_change_of_another_process_is_heard(database: PostgresDatabase, postgres_url: str) -> None:
    """Notified within milliseconds, not at the next reading a second later."""
    heard_s: list[float] = []
    async with PostgresDatabase(postgres_url) as other:
        for number in range(20):
            before = await looks(database)
            await other.transaction(change, f"p{number}")
            began = time.monotonic()
            await looks(database, above=before)
            heard_s.append(time.monotonic() - began)
    assert sorted(heard_s)[10] < 0.3


async def test_a_change_by_hand_is_heard(database: PostgresDatabase, postgres_url: str) -> None:
    """An operator's SQL counts as any other."""
    before = await looks(database)
    with psycopg.connect(postgres_url) as stranger:
        stranger.execute("INSERT INTO projects (name, created_at) VALUES ('by-hand', 1)")
    await looks(database, above=before)


async def test_while_the_server_is_away_nothing_is_certain(
    database: PostgresDatabase, shaken_postgres: PostgresServer
) -> None:
    """Looks are None three seconds after the last reading, the last number keeps its age, and all heals by itself."""
    before = await looks(database)
    shaken_postgres.stop("immediate")
    with trio.fail_after(30):
        while database.changes().look() is not None:  # noqa: ASYNC110 - a thread or a server tells, no event
            await trio.sleep(0.01)
    number, age_s = database.changes().last_certain() or (0, 0.0)
    assert number == before
    assert 3 <= age_s < 30
    shaken_postgres.start()
    assert await looks(database) == before


async def test_a_server_that_stands_still_makes_nothing_certain(
    database: PostgresDatabase, shaken_postgres: PostgresServer
) -> None:
    """Connections that stay open without an answer are no answer; commits made meanwhile are not missed."""
    before = await looks(database)
    shaken_postgres.pause()
    with trio.fail_after(30):
        while database.changes().look() is not None:  # noqa: ASYNC110 - a thread or a server tells, no event
            await trio.sleep(0.01)
    shaken_postgres.resume()
    await database.transaction(change, "after")
    await looks(database, above=before)


async def test_a_restored_backup_ends_all_memories(database: PostgresDatabase, postgres_url: str) -> None:
    """Numbers that fell belong to another history: looks go on above all that were given, and every scope changed."""
    await database.transaction(change, "one")
    await database.transaction(change, "two")
    before = await looks(database)
    with psycopg.connect(postgres_url) as stranger:
        stranger.execute("UPDATE changes SET at = at - 1")
    after = await looks(database, above=before)
    assert before < database.changes().changed_at("image:1") <= after
