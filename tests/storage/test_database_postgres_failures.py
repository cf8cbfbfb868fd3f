"""Errors of a server become ours: the same words for a constraint on both databases, and no value in any message."""

from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy as sa

from storage import Conflict, Database, StorageFull, Transaction, Unavailable
from storage.database_postgres_failures import cause_of, code_of, refused, translated
from storage.metadata import tables
from tests.storage.lease_rows import insert
from tests.storage.metadata.pieces import image
from tests.storage.metadata.samples import NOW, account

SECRET = "a value that nobody else should read"


def failed(code: str) -> sa.exc.DBAPIError:
    """An error as SQLAlchemy raises it, with a statement and values."""
    kind = psycopg.errors.lookup(code)
    return sa.exc.DBAPIError("SELECT secret", {"value": SECRET}, kind(SECRET), hide_parameters=True)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("53100", StorageFull, "no space left"),
        ("53300", Unavailable, "no connection left"),
        ("25006", Unavailable, "cannot be written"),
        ("55P03", Unavailable, "others hold its locks"),
        ("57014", Unavailable, "too long"),
        ("57P01", Unavailable, "shutting down"),
        ("40001", Unavailable, "others changed"),
        ("40P01", Unavailable, "another order"),
        ("08006", Unavailable, "connection broke"),
        ("25P03", Unavailable, "stood still"),
        ("58030", Unavailable, "disk or system"),
        ("XX001", Unavailable, "damaged"),
        ("42P01", Unavailable, "sluice migrate"),
        ("42703", Unavailable, "sluice migrate"),
        ("0A000", Unavailable, "schema has just changed"),
        ("22021", Conflict, "cannot store"),
    ],
)
def test_each_failure_has_its_class_and_words(code: str, kind: type[Exception], words: str) -> None:
    """What the server reports is told by its code, never by its own words."""
    result = translated(failed(code), "the database x")
    assert type(result) is kind
    assert words in str(result)
    assert SECRET not in str(result)
    assert code_of(failed(code)) == code


def test_a_broken_connection_has_no_code() -> None:
    """The driver's own errors mean the connection."""
    for kind in (psycopg.OperationalError, psycopg.InterfaceError):
        assert "connection broke" in str(translated(kind(SECRET), "the database x"))


def test_a_bug_of_ours_stays_one() -> None:
    """A malformed statement is nobody's outage."""
    error = failed("42601")
    assert translated(error, "the database x") is error
    assert cause_of(error) is error.orig


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FATAL:  sorry, too many clients already", "no connection left"),
        ("FATAL:  remaining connection slots are reserved", "no connection left"),
        ('FATAL:  password authentication failed for user "x"', "password"),
        ("FATAL:  the database system is starting up", "starting up"),
        ("FATAL:  the database system is in recovery mode", "restarting"),
        ("connection refused", "cannot be reached"),
        ("Verbindung abgelehnt", "cannot be reached"),
    ],
)
def test_refused_connections_are_told_by_their_words(text: str, words: str) -> None:
    """There is no code before a connection; words in another language mean the general thing."""
    assert words in str(refused(psycopg.OperationalError(text), "the database x"))


def twice_the_same(tx: Transaction) -> None:
    """One column."""
    insert(tx, SECRET)
    insert(tx, SECRET)


def two_columns(tx: Transaction) -> None:
    """A key of two."""
    place = image(tx)
    values = {"repository_id": place.repository_id, "name": place.name, "full_name": SECRET, "created_at": NOW}
    tx.execute(sa.insert(tables.images), values)


def nowhere(tx: Transaction) -> None:
    """A row that refers to none."""
    values = {"repository_id": 77, "name": SECRET, "full_name": SECRET, "created_at": NOW}
    tx.execute(sa.insert(tables.images), values)


def no_scope(tx: Transaction) -> None:
    """A rule of several columns."""
    values = {"account_id": account(tx, "someone").id, "role": SECRET, "created_at": NOW}
    tx.execute(sa.insert(tables.grants), values)


def no_holder(tx: Transaction) -> None:
    """A value is missing."""
    tx.execute(sa.text("INSERT INTO leases (name, expires_at) VALUES (:name, 1)"), {"name": SECRET})


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (twice_the_same, "leases.name: a row with this value exists already"),
        (two_columns, "images.repository_id, images.name: a row with this value exists already"),
        (nowhere, "a row that is referred to does not exist, or is still referred to"),
        (no_scope, "the row breaks the rule ck_grants_one_scope"),
        (no_holder, "leases.holder: a value is missing"),
    ],
)
async def test_a_conflict_has_the_same_words_on_both(
    any_database: Database, act: Callable[[Transaction], None], message: str
) -> None:
    """Callers and users cannot tell the databases apart, and nobody reads the values."""
    with pytest.raises(Conflict) as caught:
        await any_database.transaction(act)
    assert str(caught.value) == message
    assert SECRET not in repr(caught.value.__cause__)
