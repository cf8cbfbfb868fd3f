"""`Changes` sees every commit of everybody at once, costs nothing when there was none, and never claims too much."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import Database, SqliteDatabase
from storage.changes_embedded import _AT_ONCE, _KEPT, SqliteChanges
from storage.database_sqlite import Limits, SqliteFile
from storage.metadata import projects
from storage.metadata.changes import ACCESS, blob_scope, image_scope
from tests.storage.lease_rows import insert
from tests.storage.metadata.samples import NOW

_RAISE = "INSERT INTO changes VALUES (?, (SELECT coalesce(max(at), 0) + 1 FROM changes))"
_BY_ANOTHER_PROCESS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO projects (name, created_at) VALUES ('theirs', 0)")
connection.commit()
"""


@pytest.fixture
def looking(database_file: Path) -> Iterator[SqliteChanges]:
    """An open one, of a process that does nothing else."""
    changes = SqliteChanges(SqliteFile(database_file, Limits()))
    changes.open()
    yield changes
    changes.close()


@pytest.fixture
def stranger(database_file: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection, which commits each statement unless it begins a transaction."""
    with closing(sqlite3.connect(database_file, isolation_level=None, timeout=0)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        yield connection


async def test_it_sees_commits_of_this_database_and_of_another(database: Database, database_file: Path) -> None:
    """Right after each commit, through whichever database object, the next look of both has the new number."""
    async with SqliteDatabase(database_file) as other:
        assert (database.changes().look(), other.changes().look()) == (0, 0)
        for number, writer in enumerate([database, other, database], start=1):
            await writer.transaction(projects.create, name=f"p{number}", description="", now=NOW)
            for reader in (database, other):
                assert reader.changes().look() == number
                assert reader.changes().changed_at(ACCESS) == number


def test_it_sees_commits_of_another_process(looking: SqliteChanges, database_file: Path) -> None:
    """Somebody with nothing but SQLite counts too, as the triggers are in the database."""
    assert looking.look() == 0
    subprocess.run([sys.executable, "-c", _BY_ANOTHER_PROCESS, str(database_file)], check=True, timeout=30)
    assert (looking.look(), looking.changed_at(ACCESS)) == (1, 1)


async def test_what_does_not_count_moves_nothing(database: Database) -> None:
    """A commit that no scope depends on leaves the number where it was."""
    await database.transaction(projects.create, name="one", description="", now=NOW)
    before = database.changes().look()
    await database.transaction(insert, "lease")
    assert database.changes().look() == before == 1


def test_only_what_is_committed_counts(looking: SqliteChanges, stranger: sqlite3.Connection) -> None:
    """Neither an open transaction nor one that is undone is seen."""
    stranger.execute("BEGIN IMMEDIATE")
    stranger.execute(_RAISE, ["a"])
    assert (looking.look(), looking.changed_at("a")) == (0, 0)
    stranger.execute("ROLLBACK")
    assert looking.look() == 0
    stranger.execute("BEGIN IMMEDIATE")
    stranger.execute(_RAISE, ["b"])
    stranger.execute("COMMIT")
    assert (looking.look(), looking.changed_at("a"), looking.changed_at("b")) == (1, 0, 1)


def test_a_look_keeps_no_snapshot(looking: SqliteChanges, stranger: sqlite3.Connection) -> None:
    """After a look, with or without news, the log can be copied and cut whole: nobody reads from it."""
    for scope in ("a", "b"):
        stranger.execute(_RAISE, [scope])
        looking.look()
        assert stranger.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        looking.look()
        assert stranger.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


async def test_nothing_is_told_unless_the_database_is_open(database_file: Path) -> None:
    """Before `open`, after `aclose`: None. A look makes no file. It is always the same object."""
    path = database_file.with_name("none.db")
    database = SqliteDatabase(path)
    assert database.changes().look() is None
    assert not path.exists()
    async with database:
        await database.migrate()
        assert database.changes().look() == 0
        assert database.changes() is database.changes()
    assert database.changes().look() is None


async def test_nothing_is_told_of_a_database_without_tables(tmp_path: Path) -> None:
    """Before the first migration None, and the number right after it."""
    async with SqliteDatabase(tmp_path / "new.db") as database:
        assert [database.changes().look() for _ in range(3)] == [None] * 3
        await database.migrate()
        assert database.changes().look() == 0


def test_nothing_is_told_while_the_file_is_locked(looking: SqliteChanges, database_file: Path) -> None:
    """Whoever holds the whole file makes a look give None at once; when they let go it knows what they did."""
    assert looking.look() == 0
    looking.close()
    with closing(sqlite3.connect(database_file, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute(_RAISE, ["a"])
        looking.open()
        assert looking.look() is None
        assert looking.look() is None
    assert (looking.look(), looking.changed_at("a")) == (1, 1)


def test_a_broken_connection_is_replaced(looking: SqliteChanges, stranger: sqlite3.Connection) -> None:
    """After a failure of the database the next look opens it anew, and what was committed between is not missed."""
    stranger.execute(_RAISE, ["a"])
    assert looking.look() == 1
    stranger.execute("ALTER TABLE changes RENAME TO hidden")
    assert looking.look() is None
    assert looking.look() is None
    stranger.execute("ALTER TABLE hidden RENAME TO changes")
    stranger.execute(_RAISE, ["b"])
    assert (looking.look(), looking.changed_at("a"), looking.changed_at("b")) == (2, 1, 2)


def test_more_than_it_reads_at_once_counts_everywhere(looking: SqliteChanges, stranger: sqlite3.Connection) -> None:
    """One short of the bound each scope has its own number; at the bound all have the newest, also the unchanged."""
    _raise_many(stranger, _AT_ONCE - 1, "a")
    assert looking.look() == _AT_ONCE - 1
    assert (looking.changed_at("a0"), looking.changed_at("never")) == (1, 0)
    _raise_many(stranger, _AT_ONCE, "b")
    newest = 2 * _AT_ONCE - 1
    assert looking.look() == newest
    assert {looking.changed_at(scope) for scope in ("a0", "b0", f"b{_AT_ONCE - 1}", "never")} == {newest}
    stranger.execute(_RAISE, ["c"])
    assert looking.look() == newest + 1
    assert (looking.changed_at("c"), looking.changed_at("a0")) == (newest + 1, newest)


def test_what_it_keeps_is_bounded(looking: SqliteChanges, stranger: sqlite3.Connection) -> None:
    """When too many scopes have changed since the start all are forgotten, and none seems older than it is."""
    step, newest = _AT_ONCE - 1, looking.look()
    for portion in range(_KEPT // step + 1):
        _raise_many(stranger, step, f"{portion}-")
        newest = looking.look()
        assert newest == (portion + 1) * step
        assert looking.changed_at(f"{portion}-{step - 1}") == newest
    assert newest is not None
    assert looking.changed_at("0-0") == looking.changed_at("never") == newest


def _raise_many(stranger: sqlite3.Connection, count: int, prefix: str) -> None:
    stranger.execute("BEGIN IMMEDIATE")
    stranger.executemany(_RAISE, [[f"{prefix}{number}"] for number in range(count)])
    stranger.execute("COMMIT")


def test_scopes_are_as_many_as_the_table_may_have_rows() -> None:
    """Ids share a scope when they are 65,536 apart; images and blobs never do."""
    assert image_scope(7) == image_scope(7 + 65_536) == "image:7"
    assert len({make(number) for make in (image_scope, blob_scope) for number in range(200_000)}) == 2 * 65_536
