"""Every error of the library becomes one of ours, says what to do, and gives nothing away."""

import sqlite3
import traceback
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import Conflict, Database, SqliteDatabase, StorageError, Transaction, Unavailable
from storage.database_failures import translated
from storage.database_sqlite import Limits
from storage.metadata.tables import accounts, credentials, grants, leases

CANARY = "canary-4711"
_ACCOUNT = {"kind": "user", "is_admin": False, "is_auditor": False, "is_enabled": True, "epoch": 1, "created_at": 1}


def insert_account(transaction: Transaction, name: object) -> None:
    """One account, of which only the name matters."""
    transaction.execute(sa.insert(accounts), {**_ACCOUNT, "name": name, "updated_at": 1})


def twice(transaction: Transaction) -> None:
    """Break a unique constraint."""
    insert_account(transaction, CANARY)
    insert_account(transaction, CANARY)


def orphan(transaction: Transaction) -> None:
    """Break a foreign key."""
    values = {"account_id": 77, "kind": CANARY, "secret_hash": CANARY, "label": CANARY, "created_at": 1}
    transaction.execute(sa.insert(credentials), values)


def both_scopes(transaction: Transaction) -> None:
    """Break a check: a grant on nothing."""
    insert_account(transaction, "a")
    transaction.execute(sa.insert(grants), {"account_id": 1, "role": CANARY, "created_at": 1})


def nameless(transaction: Transaction) -> None:
    """Leave out what must not be null."""
    insert_account(transaction, None)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (twice, r"accounts\.name: a row with this value exists already"),
        (orphan, "referred to does not exist"),
        (both_scopes, "ck_grants_one_scope"),
        (nameless, r"accounts\.name: a value is missing"),
    ],
)
async def test_broken_constraints_are_conflicts_that_name_the_constraint(
    database: Database, act: object, words: str
) -> None:
    """Unique, foreign key, check and not-null each raise `Conflict` with a readable reason."""
    with pytest.raises(Conflict, match=words):
        await database.transaction(act)  # type: ignore[arg-type]


async def test_no_value_and_no_statement_leaks_into_what_is_logged(database: Database) -> None:
    """A full traceback of a conflict, with causes, holds neither the values nor the SQL text."""
    with pytest.raises(Conflict) as caught:
        await database.transaction(twice)
    text = "".join(traceback.format_exception(caught.value))
    assert CANARY not in text
    assert "INSERT INTO" not in text


async def test_a_bug_of_ours_passes_unchanged_and_shows_no_values(database: Database) -> None:
    """A malformed statement is no failure of the database: the driver's error comes through, without values."""

    def malformed(transaction: Transaction) -> None:
        transaction.execute(sa.text("SELEC :value"), {"value": CANARY})

    for method in (database.transaction, database.read, database.survey):
        with pytest.raises(sa.exc.OperationalError) as caught:
            await method(malformed)
        assert CANARY not in "".join(traceback.format_exception(caught.value))


async def test_missing_tables_ask_for_a_migration(tmp_path: Path) -> None:
    """A file without tables is `Unavailable`, and the message names the command that helps."""
    async with SqliteDatabase(tmp_path / "sluice.db") as database:
        for method in (database.transaction, database.read, database.survey):
            with pytest.raises(Unavailable, match="sluice migrate"):
                await method(lambda tx: tx.execute(sa.select(leases)).all())


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """Foreign bytes in place of the database are said to be that, not an empty registry."""
    path = tmp_path / "sluice.db"
    path.write_bytes(b"something else " * 1000)
    with pytest.raises(Unavailable, match="no database"):
        await SqliteDatabase(path).open()


async def test_a_damaged_page_is_unavailable_never_not_found(database_file: Path) -> None:
    """Reading a table whose page was overwritten raises, instead of giving no row."""
    with sqlite3.connect(database_file) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'leases'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with database_file.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    async with SqliteDatabase(database_file) as database:
        with pytest.raises(Unavailable, match="damaged"):
            await database.read(lambda tx: tx.execute(sa.select(leases)).all())


async def test_a_foreign_lock_is_unavailable_after_patience_and_heals(database_file: Path) -> None:
    """While another process holds the write lock too long, writes fail as `Unavailable`; afterwards they work."""
    outsider = sqlite3.connect(database_file, isolation_level=None)
    async with SqliteDatabase(database_file, limits=Limits(write_lock_s=0.05)) as database:
        outsider.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process holds its lock"):
            await database.transaction(insert_account, "a")
        assert await database.read(lambda tx: tx.execute(sa.select(accounts)).all()) == []
        outsider.execute("ROLLBACK")
        await database.transaction(insert_account, "a")
    outsider.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, "StorageFull"),
        (sqlite3.SQLITE_IOERR_FSYNC, "Unavailable"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "Unavailable"),
        (sqlite3.SQLITE_CORRUPT_INDEX, "Unavailable"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "Unavailable"),
        (sqlite3.SQLITE_CANTOPEN, "Unavailable"),
    ],
)
def test_extended_codes_are_read_by_their_kind(tmp_path: Path, code: int, kind: str) -> None:
    """SQLite's extended result codes are mapped like the primary code that they refine; all of them may be retried."""
    error = sqlite3.OperationalError("some text")
    error.sqlite_errorcode = code
    result = translated(error, tmp_path / "sluice.db")
    assert type(result).__name__ == kind
    assert isinstance(result, StorageError)
    assert result.retryable
