"""What changed in an SQLite file: exact, asked synchronously on the event loop.

`PRAGMA data_version` of a connection moves when any *other* connection has committed; this one never writes, so it
misses nothing.
"""

import sqlite3
import time
from typing import Final

from storage.database_failures import is_locked
from storage.database_sqlite import POINT_READER, SqliteFile

# The pragma first, then the rows: what is committed between the two is read now and looked for once more.
_VERSION: Final = "PRAGMA data_version"
_SINCE: Final = "SELECT scope, at FROM changes WHERE at > ? ORDER BY at DESC LIMIT ?"
# Read in one look at most, about 1 ms on the loop. More at once (a repository with all its images goes) ends all
# memories, which is cheaper than telling them apart.
_AT_ONCE: Final = 1000
_KEPT: Final = 20_000  # scopes, 2 MB; more than that changed since the start: begin anew


class SqliteChanges:
    """See `storage.changes.Changes`. Made, opened and closed by its `SqliteDatabase`; one thread only."""

    exact = True

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._is_open = False
        self._cursor: sqlite3.Cursor | None = None
        self._version: int | None = None
        self._certain_at: float | None = None
        self._newest = 0
        self._floor = 0
        self._changed: dict[str, int] = {}

    def look(self) -> int | None:
        """As of this moment: every commit before the call is included, whichever process made it."""
        if not self._is_open:
            return None
        try:
            cursor = self._cursor or self._connect()
            (version,) = cursor.execute(_VERSION).fetchone()
            if version != self._version:
                self._catch_up(cursor)
                self._version = version
        except sqlite3.Error as error:
            if not is_locked(error):
                self._disconnect()
            return None
        self._certain_at = time.monotonic()
        return self._newest

    def last_certain(self) -> tuple[int, float] | None:
        """The number of the last look that was certain."""
        return None if self._certain_at is None else (self._newest, time.monotonic() - self._certain_at)

    def changed_at(self, scope: str) -> int:
        """When the scope changed last, as of the last look; for one of long ago, a number that is rather too large."""
        return self._changed.get(scope, self._floor)

    def open(self) -> None:
        """The file is there now; it is first opened by a look."""
        self._is_open = True

    def close(self) -> None:
        """From now on looks give None. Safe to call twice."""
        self._is_open = False
        self._disconnect()

    def _catch_up(self, cursor: sqlite3.Cursor) -> None:
        rows = cursor.execute(_SINCE, (self._newest, _AT_ONCE)).fetchall()
        if not rows:
            return
        self._newest = rows[0][1]
        if len(rows) == _AT_ONCE or len(rows) + len(self._changed) > _KEPT:
            self._changed.clear()
            self._floor = self._newest
        else:
            self._changed.update(rows)

    def _connect(self) -> sqlite3.Cursor:
        # Not through SQLAlchemy, which this needs nothing of: its errors would have to be told apart as well.
        driver = sqlite3.connect(
            f"{self._file.path.absolute().as_uri()}?mode=rw",  # never makes the file
            uri=True,
            isolation_level=None,
            timeout=0,  # on the loop nothing may wait
            check_same_thread=False,
        )
        try:
            for pragma in POINT_READER.pragmas:
                driver.execute(f"PRAGMA {pragma}")
        except BaseException:
            driver.close()
            raise
        self._cursor = driver.cursor()
        return self._cursor

    def _disconnect(self) -> None:
        cursor, self._cursor = self._cursor, None
        self._version = None  # of that connection; another one's versions do not compare
        if cursor is not None:
            cursor.connection.close()
