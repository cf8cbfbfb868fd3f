"""What changed in a database on a server, as far as this process has heard: what the listener and the writer have read.

Both read the table `changes`, whose numbers become visible in their order, and hand over what they found. Knows no
driver and asks nobody: a look is certain while the table was read within the last `_CERTAIN_S`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

AT_ONCE: Final = 1000
"""How many scopes are read at once at most; more changed since: all memories end, which is cheaper."""
_KEPT: Final = 20_000  # scopes, 2 MB; more than that changed since the start: begin anew
_CERTAIN_S: Final = 3.0  # the listener reads each second; two readings may fail


class PostgresChanges:
    """See `storage.changes.Changes`. Filled by threads, asked by the event loop."""

    exact = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # held for microseconds only
        self._is_open = False
        self._confirmed_at: float | None = None
        self._changed: dict[str, int] = {}
        self._floor = 0
        # The table's own numbers, and what is added to them since another server's history began with lower ones.
        self._newest = 0
        self._newest_scope: str | None = None
        self._newest_since = 0.0
        self._raised = 0

    def look(self) -> int | None:
        """The newest number known; None if the table was not read for a while, or the database is closed."""
        with self._lock:
            confirmed_at = self._confirmed_at
            if not self._is_open or confirmed_at is None or self._clock() - confirmed_at > _CERTAIN_S:
                return None
            return self._newest + self._raised

    def changed_at(self, scope: str) -> int:
        """When the scope changed last, or a number that is rather too large."""
        with self._lock:
            return self._changed.get(scope, self._floor)

    def last_certain(self) -> tuple[int, float] | None:
        """The newest number known, and how long ago the table was read."""
        with self._lock:
            if self._confirmed_at is None:
                return None
            return self._newest + self._raised, max(0.0, self._clock() - self._confirmed_at)

    def open(self) -> None:
        """Looks are answered once the table was read."""
        self._is_open = True

    def close(self) -> None:
        """From now on looks give None."""
        self._is_open = False

    # --- for the threads -----------------------------------------------------------------------------------------

    def since(self) -> int:
        """From which number on, itself included, the table has to be read."""
        return self._newest

    def now(self) -> float:
        """The time to take before the table is read, for `absorb`."""
        return self._clock()

    def absorb(self, rows: Sequence[tuple[str, int]], *, since: int, asked_at: float) -> bool:
        """Take over what was read: the rows from `since` on, newest first, `AT_ONCE` at most.

        False if they show another history than the one known (the server was replaced by one that lacked the last
        commits, or a backup was restored): all memories have ended then, and the table should be read again.
        """
        with self._lock:
            if asked_at > self._newest_since and since == self._newest and not self._continues(rows):
                self._forget()
                return False
            if rows and rows[0][1] > self._newest:
                self._newest_scope, self._newest = rows[0]
                self._newest_since = self._clock()
            if len(rows) >= AT_ONCE or len(rows) + len(self._changed) > _KEPT:
                self._changed.clear()
                self._floor = self._newest + self._raised
            else:
                for scope, at in rows:
                    self._changed[scope] = max(self._changed.get(scope, 0), at + self._raised)
            self._confirmed_at = max(asked_at, self._confirmed_at or asked_at)
            return True

    def begin_anew(self) -> None:
        """The server has another history than the one known: all memories end. Looks are None until it is read."""
        with self._lock:
            self._forget()

    def _continues(self, rows: Sequence[tuple[str, int]]) -> bool:
        """Whether the newest row known is still there, or newer ones have come after it."""
        if self._newest == 0:
            return True
        if not rows:
            return False
        scope, at = rows[-1]
        return at > self._newest or scope == self._newest_scope

    def _forget(self) -> None:
        """Numbers that were given out never fall: those to come are raised above them."""
        self._raised += self._newest + 1
        self._newest, self._newest_scope = 0, None
        self._newest_since = self._clock()
        self._changed.clear()
        self._floor = self._raised
        self._confirmed_at = None
