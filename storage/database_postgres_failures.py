"""The one place where an error of psycopg becomes an error of `storage.errors`.

Never lets SQL text, values or the server's own words out, which may hold them: messages name the state of the server,
or columns and constraints. What is not a failure of the database (a malformed statement) is a bug of ours and passes
unchanged.
"""

import re
from typing import Final

import psycopg
import sqlalchemy as sa

from storage.errors import Conflict, StorageError, StorageFull, Unavailable

DatabaseError = sa.exc.DBAPIError | psycopg.Error
"""What the driver raises, alone or in SQLAlchemy's wrapping."""

READ_ONLY: Final = "25006"
LOCK_TIMEOUT: Final = "55P03"
_FULL: Final = "53100"
_REASONS: Final = {
    READ_ONLY: "it cannot be written just now",
    LOCK_TIMEOUT: "others hold its locks",
    "53000": "it is short of resources",
    "53200": "its memory ran out",
    "53300": "it has no connection left; raise max_connections or lower storage.database_connections",
    "57014": "a statement took too long",
    "40001": "others changed the same rows",
    "40P01": "others hold its locks in another order",
    "25P02": "the transaction had failed before",
    "25P03": "the transaction stood still for too long",
    "25P04": "the transaction took too long",
    "57P01": "it is shutting down",
    "57P02": "it is restarting after a crash",
    "57P03": "it is starting up",
    "28000": "it refuses our user",
    "28P01": "it refuses our password",
    "3D000": "there is no such database",
    "42501": "our user lacks a right",
    "0A000": "its schema has just changed",
}
_CLASSES: Final = {
    "08": "the connection broke",
    "53": "it is short of resources",
    "57": "it was stopped",
    "58": "its disk or system reports an error",
    "XX": "its data is damaged or it has an internal error; see its log",
}
_OTHER_SCHEMA: Final = {"42P01", "42703", "42883"}
# The server gives no code for a connection that it refuses, only text in its language; these are its English ones.
_REFUSALS: Final = (
    ("too many clients", "53300"),
    ("too many connections", "53300"),
    ("connection slots", "53300"),
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("role ", "28000"),
    ("starting up", "57P03"),
    ("not yet accepting", "57P03"),
    ("shutting down", "57P01"),
    ("recovery mode", "57P02"),
    ("hot standby", READ_ONLY),
    ("does not exist", "3D000"),
)
_COLUMNS: Final = re.compile(r"\((.+?)\)=\(")


def code_of(error: BaseException) -> str:
    """The SQLSTATE; empty if the server gave none."""
    original = cause_of(error)
    return (original.sqlstate if isinstance(original, psycopg.Error) else None) or ""


def cause_of(error: BaseException) -> BaseException:
    """The driver's error without SQLAlchemy's wrapper, which carries the statement."""
    return error.orig or error if isinstance(error, sa.exc.DBAPIError) else error


def refused(error: psycopg.Error, name: str) -> StorageError:
    """What to raise when no connection could be made to the database `name`."""
    code = code_of(error)
    if not code:
        text = str(error)
        code = next((code for words, code in _REFUSALS if words in text), "")
    return Unavailable(f"{name} did not answer: {_REASONS.get(code, 'it cannot be reached')}")


def translated(error: DatabaseError, name: str) -> Exception:
    """What to raise instead of `error`; messages call the database `name`. Gives `error` itself if it is our bug."""
    original, code = cause_of(error), code_of(error)
    if not isinstance(original, psycopg.Error):
        return error
    if isinstance(original, psycopg.IntegrityError):
        return _conflict(original, code)
    if code == _FULL:
        return StorageFull(f"no space left for {name}")
    if code in _OTHER_SCHEMA:
        return Unavailable(f"{name} has another schema; run `sluice migrate`")
    if reason := _REASONS.get(code) or _CLASSES.get(code[:2]):
        return Unavailable(f"{name} did not answer: {reason}")
    if isinstance(original, psycopg.DataError):
        return Conflict("a text holds a character that the database cannot store")
    if not code and isinstance(original, psycopg.OperationalError | psycopg.InterfaceError):
        return Unavailable(f"{name} did not answer: the connection broke")
    return error


def _conflict(original: psycopg.IntegrityError, code: str) -> StorageError:
    """The words that SQLite's errors get, from what the server tells beside its message."""
    said = original.diag
    if code == "23505":
        # "Key (image_id, name)=(1, latest) already exists.", in the server's language; the values stay here.
        found = _COLUMNS.search(said.message_detail or "")
        columns = found.group(1).split(", ") if found else [said.constraint_name or "?"]
        where = ", ".join(f"{said.table_name}.{column}" for column in columns)
        return Conflict(f"{where}: a row with this value exists already")
    if code == "23514":
        return Conflict(f"the row breaks the rule {said.constraint_name}")
    if code == "23502":
        return Conflict(f"{said.table_name}.{said.column_name}: a value is missing")
    return Conflict("a row that is referred to does not exist, or is still referred to")
