"""The one place where an error of SQLAlchemy or SQLite becomes an error of `storage.errors`.

Never lets SQL text or values out: messages name the file's state or the constraint, nothing else. What is not a
failure of the database (a malformed statement, a wrong type) is a bug of ours and passes unchanged.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from storage.errors import Conflict, StorageError, StorageFull, Unavailable

# A file system that has less than this left is the reason for an I/O error, not a broken disk: SQLite reports a failed
# fsync or a failed growth of the WAL index as IOERR or CANTOPEN without saying why. One WAL index block is 32 KiB.
_NEARLY_FULL_BYTES: Final = 64 * 1024

_LOCKED: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_MAYBE_FULL: Final = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_REASONS: Final = {
    sqlite3.SQLITE_BUSY: "another process holds its lock",
    sqlite3.SQLITE_LOCKED: "another connection holds its lock",
    sqlite3.SQLITE_PROTOCOL: "its lock protocol failed",
    sqlite3.SQLITE_IOERR: "the disk reports an I/O error",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_CORRUPT: "its file is damaged; restore a backup or run `sluice fsck`",
    sqlite3.SQLITE_NOTADB: "its file is no database",
    sqlite3.SQLITE_READONLY: "its file cannot be written",
    sqlite3.SQLITE_PERM: "access to its file is denied",
    sqlite3.SQLITE_NOMEM: "memory ran out",
    sqlite3.SQLITE_INTERRUPT: "a long survey was stopped because it kept the log from shrinking; read smaller pages",
}
_TAKEN: Final = "UNIQUE constraint failed: "
_BROKEN: Final = "CHECK constraint failed: "
_MISSING: Final = "NOT NULL constraint failed: "


def cause_of(error: sa.exc.DBAPIError | sqlite3.Error) -> BaseException | None:
    """What to name as the cause of a translated error: not SQLAlchemy's wrapper, which carries the statement."""
    return error.orig if isinstance(error, sa.exc.DBAPIError) else error


def is_locked(error: sa.exc.DBAPIError | sqlite3.Error) -> bool:
    """Whether somebody else's lock is the reason, so that waiting helps."""
    return _code(cause_of(error)) in _LOCKED


def translated(error: sa.exc.DBAPIError | sqlite3.Error, path: Path) -> Exception:
    """What to raise instead of `error`; the database is the file `path`. Gives `error` itself if it is our bug."""
    original = cause_of(error)
    if isinstance(original, sqlite3.IntegrityError):
        return _conflict(original)
    code = _code(original)
    if code == sqlite3.SQLITE_FULL or (code in _MAYBE_FULL and _nearly_full(path)):
        return StorageFull(f"no space left for the database {path.name}")
    if reason := _REASONS.get(code):
        return Unavailable(f"the database {path.name} did not answer: {reason}")
    text = str(original)
    if text.startswith(("no such table", "no such column")) or "has no column named" in text:
        return Unavailable(f"the database {path.name} has another schema; run `sluice migrate`")
    if "closed database" in text:
        return Unavailable(f"the database {path.name} is closed")
    return error


def _code(original: BaseException | None) -> int:
    # The low byte of SQLite's extended result code is the kind of failure. Errors of the driver itself have no code.
    return getattr(original, "sqlite_errorcode", 0) & 0xFF


def _nearly_full(path: Path) -> bool:
    try:
        state = os.statvfs(path.parent)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < _NEARLY_FULL_BYTES


def _conflict(original: sqlite3.IntegrityError) -> StorageError:
    """`UNIQUE constraint failed: tags.image_id, tags.name` names columns, never values."""
    text = str(original)
    if text.startswith(_TAKEN):
        return Conflict(f"{text.removeprefix(_TAKEN)}: a row with this value exists already")
    if text.startswith(_BROKEN):
        return Conflict(f"the row breaks the rule {text.removeprefix(_BROKEN)}")
    if text.startswith(_MISSING):
        return Conflict(f"{text.removeprefix(_MISSING)}: a value is missing")
    return Conflict("a row that is referred to does not exist, or is still referred to")
