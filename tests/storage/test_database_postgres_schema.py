"""Migrations on a server: the same tables, triggers that count in commit order, and replicas that go on meanwhile."""

import dataclasses
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
import sqlalchemy as sa
import trio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage import PostgresDatabase, Unavailable, migrations
from storage.database_postgres_line import MIGRATOR
from storage.database_postgres_schema import migrate
from storage.database_postgres_server import Server
from storage.metadata import blobs, grants, repositories, tags
from storage.metadata.tables import changes, metadata
from tests.storage.database_process import process, start_together
from tests.storage.lease_rows import count, insert
from tests.storage.metadata.pieces import blob, digest, image, manifest
from tests.storage.metadata.samples import NOW, account

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

_NEWEST = sa.select(changes.c.scope, changes.c.at).order_by(changes.c.at)


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    """A migrated database without rows, as seen by SQLAlchemy alone."""
    made = sa.create_engine(sa.make_url(postgres_url).set(drivername="postgresql+psycopg"))
    yield made
    made.dispose()


def counted(engine: sa.Engine) -> dict[str, int]:
    """Every scope with its number, oldest first."""
    with engine.connect() as connection:
        return {row.scope: row.at for row in connection.execute(_NEWEST)}


def fill(tx: sa.Connection) -> None:
    """An image with a tag, a manifest and a link, and a reader of its repository."""
    place = image(tx)
    blob(tx, "layer", place)
    tags.put(tx, place.id, "latest", manifest(tx, place, "one"), by=None, now=NOW)
    manifest(tx, place, "two")
    grants.put(tx, account_id=account(tx, "someone").id, repository_id=1, role="reader", now=NOW)


def test_the_tables_are_those_of_the_code(engine: sa.Engine) -> None:
    """Alembic sees no difference between the migrated schema and `tables.py`."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
        assert list(compare_metadata(context, metadata)) == []


def test_acts_count_in_their_scopes(engine: sa.Engine) -> None:
    """As on SQLite: a push of the same counts nowhere, a tag that moves in its image, a repository in all it held."""
    with engine.begin() as tx:
        fill(tx)
    before = max(counted(engine).values())
    with engine.begin() as tx:
        blobs.link(tx, 1, digest("layer"), 1, now=NOW + 1)
        tags.put(tx, 1, "latest", 1, by=None, now=NOW + 1)
    assert max(counted(engine).values()) == before
    with engine.begin() as tx:
        tags.put(tx, 1, "latest", 2, by=None, now=NOW)
    assert {scope for scope, at in counted(engine).items() if at > before} == {"image:1"}
    moved = max(counted(engine).values())
    with engine.begin() as tx:
        repositories.delete(tx, 1)
    after = counted(engine)
    # repository, grant, image, tag, link and two manifests
    assert max(after.values()) == moved + 7
    assert {scope for scope, at in after.items() if at > moved} == {"access", "image:1"}


def test_numbers_become_visible_in_their_order(engine: sa.Engine) -> None:
    """Who has changed something first and commits last gets the higher number, and nobody waits before the commit."""
    with engine.begin() as tx:
        fill(tx)
        fill_second(tx)
    before = max(counted(engine).values(), default=0)
    with engine.connect() as slow, slow.begin():
        tags.delete(slow, 1, "latest")
        with engine.begin() as quick:
            tags.delete(quick, 2, "latest")
        assert {scope: at for scope, at in counted(engine).items() if at > before} == {"image:2": before + 1}
    assert {scope: at for scope, at in counted(engine).items() if at > before} == {
        "image:2": before + 1,
        "image:1": before + 2,
    }


def fill_second(tx: sa.Connection) -> None:
    """Another image, with a tag and two manifests, 3 and 4."""
    place = image(tx, "team/app/second")
    tags.put(tx, place.id, "latest", manifest(tx, place, "one"), by=None, now=NOW)
    manifest(tx, place, "two")


def test_writers_at_once_share_no_number_and_do_not_deadlock(engine: sa.Engine) -> None:
    """Four writers raise two scopes in opposite orders; a reader never sees the newest number fall or be skipped."""
    with engine.begin() as tx:
        fill(tx)
        fill_second(tx)
        for number in range(4):
            tags.put(tx, 1, f"{number}", 1, by=None, now=NOW)
            tags.put(tx, 2, f"{number}", 3, by=None, now=NOW)
    before, rounds = max(counted(engine).values(), default=0), 50
    failures: list[Exception] = []

    def write(number: int) -> None:
        try:
            for turn in range(1, rounds + 1):
                with engine.begin() as tx:
                    for place in (1, 2) if number % 2 else (2, 1):
                        tags.put(tx, place, f"{number}", 2 * place - 1 + turn % 2, by=None, now=NOW)
        except sa.exc.DBAPIError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for each in writers:
        each.start()
    seen: list[dict[str, int]] = []
    while any(each.is_alive() for each in writers):
        seen.append(counted(engine))
    for each in writers:
        each.join()
    assert failures == []
    newest = [max(each.values()) for each in seen]
    assert newest == sorted(newest)
    assert all(len(set(each.values())) == len(each) for each in seen)
    assert max(counted(engine).values()) == before + 4 * rounds * 2


# --- how it is migrated --------------------------------------------------------------------------------------------


def test_four_processes_that_start_at_once_migrate_once(empty_postgres_url: str) -> None:
    """Four replicas that are started together all succeed and agree on the revision."""
    with ExitStack() as stack:
        running = [stack.enter_context(process("migrate", empty_postgres_url)) for _ in range(4)]
        start_together(*running)
        answers = [each.communicate(timeout=60)[0] for each in running]
    assert answers == [f"{migrations.revisions()[0]}\n"] * 4


async def test_a_migration_that_is_killed_is_begun_again(empty_postgres_url: str) -> None:
    """Killed at any moment it leaves all or nothing, and the next one finishes the work."""
    async with PostgresDatabase(empty_postgres_url) as database:
        for pause_s in (0.02, 0.1):
            with process("migrate", empty_postgres_url) as running:
                start_together(running)
                await trio.sleep(pause_s)
                running.send_signal(signal.SIGKILL)
            assert await database.revision() in {None, await database.head()}
        await database.migrate()
        assert await database.revision() == await database.head()
        await database.check()


def at_revision(url: str, revision: str) -> None:
    """Migrate an empty database up to there."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        migrations.upgrade(connection, to=revision)
    engine.dispose()


async def test_acts_go_on_while_it_is_migrated(empty_postgres_url: str) -> None:
    """From the revision before all of this to the newest, under load: no read and no write fails."""
    at_revision(empty_postgres_url, "0002")
    async with PostgresDatabase(empty_postgres_url) as database, trio.open_nursery() as nursery:
        await database.transaction(fill)

        async def write(name: str) -> None:
            number = 0
            while True:
                number += 1
                await database.transaction(tags.put, 1, name, 1 + number % 2, by=None, now=NOW)

        async def read() -> None:
            while True:
                await database.read(tags.find, 1, "latest")

        for name in ("a", "b"):
            nursery.start_soon(write, name)
            nursery.start_soon(read)
        async with PostgresDatabase(empty_postgres_url) as newer:
            await newer.migrate()
            await newer.check()
        nursery.cancel_scope.cancel()


async def test_a_schema_that_is_up_to_date_needs_no_lock(postgres_url: str) -> None:
    """A replica that starts beside a migration of a version to come, or a table that is locked, does not wait."""
    with psycopg.connect(postgres_url) as stranger:
        stranger.execute("LOCK TABLE tags")
        async with PostgresDatabase(postgres_url) as database:
            with trio.fail_after(5):
                await database.migrate()


async def test_reads_do_not_wait_behind_a_migration_that_waits(empty_postgres_url: str) -> None:
    """A table that somebody reads for long is waited for in short attempts, between which others read it."""
    at_revision(empty_postgres_url, "0002")
    with psycopg.connect(empty_postgres_url) as stranger:
        stranger.execute("LOCK TABLE uploads, leases, storages IN ACCESS SHARE MODE")
        async with PostgresDatabase(empty_postgres_url) as database, trio.open_nursery() as nursery:
            nursery.start_soon(database.migrate)
            until = time.monotonic() + 3
            while time.monotonic() < until:
                await database.read(count)
                await database.transaction(insert, str(time.monotonic()))
            stranger.rollback()
    async with PostgresDatabase(empty_postgres_url) as database:
        await database.check()


def test_a_table_that_stays_locked_is_told(empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the migration gives up and says why, having changed nothing."""
    at_revision(empty_postgres_url, "0002")
    monkeypatch.setattr("storage.database_postgres_schema._TABLES_S", 0.1)
    server = Server(empty_postgres_url)
    quick = dataclasses.replace(MIGRATOR, lock_s=0.1)
    with psycopg.connect(empty_postgres_url) as stranger:
        stranger.execute("LOCK TABLE alembic_version")
        with pytest.raises(Unavailable, match="others hold its locks"):
            migrate(server, lambda: None, role=quick)
