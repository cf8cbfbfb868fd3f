"""What changed in the database, asked synchronously on the event loop before a remembered answer is used.

The numbers come from triggers in the database (revision 0002), so every commit of every process counts, and they
become visible in their order. Knows scopes (`storage.metadata.changes`) as names only, and nothing of what depends on
them. `changes_embedded.py` asks SQLite; `changes_postgres.py` listens to a server.
"""

from typing import Protocol


class Changes(Protocol):
    """What changed, as one process sees it. Made, opened and closed by its `Database`; for the event loop only."""

    @property
    def exact(self) -> bool:
        """Whether a look sees every commit of every process that was made before it.

        If False, commits of this process are seen exactly, and those of others some milliseconds later; never more
        than three seconds later, as a look gives None then.
        """
        ...

    def look(self) -> int | None:
        """Bring this up to date and give the number of the newest change of all: 0 or more, and it never falls.

        None when that cannot be told just now (the database is closed, locked, broken or not migrated): do not use
        what you remember; ask again at the next occasion. Never waits and never raises.

        An answer that was made after a look gave `n` (taken before anything was read for it) holds as long as a fresh
        look is not None and `changed_at(scope) <= n` for each scope that it depends on.
        """
        ...

    def changed_at(self, scope: str) -> int:
        """When the scope changed last, as of the last look; for one of long ago, a number that is rather too large."""
        ...

    def last_certain(self) -> tuple[int, float] | None:
        """The number that a look gave, or could have given, when it was last certain, and how many seconds ago.

        For who serves what cannot have changed much while the database is away. None if it never was certain.
        """
        ...
