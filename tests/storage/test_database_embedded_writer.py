"""Acts on a file's one write transaction: undone alone, or all together when SQLite ends the transaction itself."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import Conflict, Unavailable
from storage.database_embedded_writer import SqliteCommitter
from storage.database_sqlite import POINT_READER, WRITER, Limits, Session, SqliteFile
from storage.database_writer import RolledBack
from tests.storage.lease_rows import insert, names


@pytest.fixture
def file(database_file: Path) -> SqliteFile:
    """Migrated, without rows, and impatient."""
    return SqliteFile(database_file, Limits(write_lock_s=0.05))


@pytest.fixture
def committer(file: SqliteFile) -> Iterator[SqliteCommitter]:
    """With nothing begun."""
    made = SqliteCommitter(file)
    yield made
    made.close()


def stored(file: SqliteFile) -> list[str]:
    """What another connection sees."""
    session = Session(file, POINT_READER)
    try:
        return session.read(names)
    finally:
        session.close()


def test_an_act_that_fails_is_undone_alone(committer: SqliteCommitter, file: SqliteFile) -> None:
    """Its error is given, translated, and what came before and comes after is committed."""
    committer.begin()
    assert committer.attempt(lambda tx: insert(tx, "one"), alone=False) == ("one", None)
    result, error = committer.attempt(lambda tx: insert(tx, "one"), alone=False)
    assert result is None
    assert isinstance(error, Conflict)
    assert committer.attempt(lambda tx: insert(tx, "two"), alone=False) == ("two", None)
    assert stored(file) == []
    committer.commit()
    assert stored(file) == ["one", "two"]


def test_a_transaction_that_is_gone_is_told(committer: SqliteCommitter, file: SqliteFile) -> None:
    """An act during which SQLite undid everything raises, whatever the act itself said."""
    committer.begin()
    committer.attempt(lambda tx: insert(tx, "one"), alone=False)
    with pytest.raises(RolledBack):
        committer.attempt(lambda tx: tx.execute(sa.text("ROLLBACK")), alone=False)
    committer.close()
    assert stored(file) == []


def test_a_failure_undoes_and_closes(committer: SqliteCommitter, file: SqliteFile) -> None:
    """After it nothing is stored, no lock is held, and the next transaction works."""
    committer.begin()
    committer.attempt(lambda tx: insert(tx, "one"), alone=True)
    mine = LookupError("mine")
    assert committer.failure(mine) is mine
    committer.begin()
    committer.attempt(lambda tx: insert(tx, "two"), alone=True)
    committer.commit()
    assert committer.tidy()
    assert stored(file) == ["two"]


def test_a_lock_that_is_not_free_in_time_is_told(committer: SqliteCommitter, file: SqliteFile) -> None:
    """Somebody else's transaction is the reason that callers hear."""
    other = Session(file, WRITER)
    other.begin()
    with pytest.raises((sa.exc.DBAPIError, sqlite3.Error)) as caught:
        committer.begin()
    told = committer.failure(caught.value)
    assert isinstance(told, Unavailable)
    assert "lock" in str(told)
    other.close()
    committer.begin()


def test_nothing_is_attempted_before_it_is_begun(committer: SqliteCommitter) -> None:
    """A bug of the writer's is said aloud."""
    with pytest.raises(RuntimeError):
        committer.attempt(names, alone=True)
