"""Migrations make exactly the tables that the code believes in, once, whoever asks and how often."""

import sqlite3
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage import Database, SqliteDatabase, Transaction, migrations
from storage.metadata import tags
from storage.metadata.changes import image_scope
from storage.metadata.tables import metadata
from tests.storage.database_process import process, start_together
from tests.storage.metadata.pieces import image, manifest
from tests.storage.metadata.samples import NOW


def differences(transaction: Transaction) -> list[object]:
    """What Alembic would change to turn the database into `tables.py`.

    Not asked to compare defaults, as it takes an empty text for no default; the next test compares them.
    """
    context = MigrationContext.configure(transaction, opts={"compare_type": True, "target_metadata": metadata})
    return list(compare_metadata(context, metadata))


def statements(path: Path) -> dict[str, list[str]]:
    """Each table and index with the lines that make it, sorted: order and white space do not matter.

    Without triggers, which only migrations make; test_changes.py says what each must do.
    """
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type <> 'trigger'"
    ).fetchall()
    connection.close()
    return {
        name: sorted(line.strip().rstrip(",") for line in sql.splitlines())
        for name, sql in rows
        if name not in ("alembic_version", "sqlite_sequence")
    }


async def test_autogenerate_finds_nothing_to_do(database: Database) -> None:
    """After all migrations, Alembic sees no difference to `tables.py`."""
    assert await database.survey(differences) == []


def test_every_clause_is_the_same(database_file: Path, tmp_path: Path) -> None:
    """What autogenerate does not compare is the same too: checks, cascades, partial indexes, AUTOINCREMENT, names."""
    path = tmp_path / "created.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    assert statements(database_file) == statements(path)


async def test_migrating_is_idempotent_and_tells_the_revision(tmp_path: Path) -> None:
    """Before: no revision. After one or two migrations: the newest."""
    async with SqliteDatabase(tmp_path / "sluice.db") as database:
        assert await database.revision() is None
        await database.migrate()
        await database.migrate()
        assert await database.revision() == await database.head()


async def test_tasks_of_one_process_may_migrate_at_once(tmp_path: Path) -> None:
    """Alembic's global state is used by one at a time, also for two different databases."""
    async with SqliteDatabase(tmp_path / "a.db") as a, SqliteDatabase(tmp_path / "b.db") as b:
        async with trio.open_nursery() as nursery:
            for database in (a, b, a, b):
                nursery.start_soon(database.migrate)
        assert {await a.revision(), await b.revision()} == {await a.head()}


async def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A table in the way stops the migration; none of its other tables stays, and it works once that is gone."""
    path = tmp_path / "sluice.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE tags (i)")
    async with SqliteDatabase(path) as database:
        with pytest.raises(sa.exc.OperationalError, match="already exists"):
            await database.migrate()
        assert await database.revision() is None
        assert list(statements(path)) == ["tags"]
        connection.execute("DROP TABLE tags")
        await database.migrate()
        await database.check()
    connection.close()


async def test_a_schema_from_the_future_is_fine_for_readiness(database: Database) -> None:
    """A replica of the older program stays ready while the newer one has already migrated."""
    await database.transaction(
        lambda tx: tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'").rowcount
    )
    await database.check()


async def test_a_schema_from_the_future_is_not_migrated(any_database: Database) -> None:
    """A replica of the older program that starts after the newer one has migrated leaves the schema alone."""

    def set_revision(tx: Transaction, revision: str) -> None:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    await any_database.transaction(set_revision, "9999")
    try:
        await any_database.migrate()
        assert await any_database.revision() == "9999"
        await any_database.check()
    finally:
        await any_database.transaction(set_revision, await any_database.head())  # noqa: ASYNC102 - a database of the test's own


STEPS = list(pairwise(reversed(migrations.revisions())))


@pytest.mark.parametrize(("older", "newer"), STEPS, ids=[newer for _, newer in STEPS])
def test_a_revision_only_adds(tmp_path: Path, older: str, newer: str) -> None:
    """The program before it works on its schema: nothing is gone or stricter, and new columns need no value."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'sluice.db'}")
    with engine.begin() as connection:
        migrations.upgrade(connection, to=older)
        before = columns(connection)
        migrations.upgrade(connection, to=newer)
        after = columns(connection)
    engine.dispose()
    for table, known in before.items():
        assert {name: after[table].get(name) for name in known} == known
        for name in after[table].keys() - known.keys():
            _, needs_value = after[table][name]
            assert not needs_value, f"{table}.{name}: the program before does not give it a value"


def columns(connection: sa.Connection) -> dict[str, dict[str, tuple[str, bool]]]:
    """Table -> column -> its type, and whether a row must come with a value for it."""
    inspector = sa.inspect(connection)
    return {
        table: {
            column["name"]: (str(column["type"]), not column["nullable"] and column["default"] is None)
            for column in inspector.get_columns(table)
        }
        for table in inspector.get_table_names()
    }


async def test_a_database_of_the_first_revision_counts_from_now_on(tmp_path: Path) -> None:
    """What was stored before the triggers stays as it is, and what happens to it after the migration counts."""
    path = tmp_path / "sluice.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        migrations.upgrade(connection, to="0001")
        connection.execute(sa.insert(metadata.tables["storages"]), {"name": "default"})
        place = image(connection)
        tags.put(connection, place.id, "latest", manifest(connection, place, "one"), by=None, now=NOW)
    engine.dispose()
    async with SqliteDatabase(path) as database:
        assert (await database.revision(), database.changes().look()) == ("0001", None)
        await database.migrate()
        assert await database.revision() == await database.head()
        assert database.changes().look() == 0
        assert await database.transaction(tags.delete, place.id, "latest")
        assert (database.changes().look(), database.changes().changed_at(image_scope(place.id))) == (1, 1)


@pytest.mark.slow
def test_four_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    """Four processes migrate a new file at the same moment: all succeed and agree on the revision."""
    path = tmp_path / "sluice.db"
    with ExitStack() as stack:
        running = [stack.enter_context(process("migrate", str(path))) for _ in range(4)]
        start_together(*running)
        answers = [each.communicate(timeout=60)[0] for each in running]
        assert [each.returncode for each in running] == [0] * 4
    assert len(set(answers)) == 1
    assert "tags" in statements(path)
