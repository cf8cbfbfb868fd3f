"""Changes as a process hears of them that is told over a network: late, or not at all while the database is away.

Around those of an embedded database, so that when word comes, and when it stops, is up to the test.
"""

from storage import Changes


class ToldLate:
    """Keeps the contract of `Changes` for one that is not exact, as long as `hear` follows each own commit."""

    exact = False

    def __init__(self, told: Changes) -> None:
        self._told = told
        self._heard = told.look()
        self.silent_s: float | None = None
        """For how long no word has come; None while it comes."""

    def hear(self) -> None:
        """Word of every commit comes."""
        self._heard = self._told.look()

    def look(self) -> int | None:
        """What was heard last; None while no word comes."""
        return self._heard if self.silent_s is None else None

    def changed_at(self, scope: str) -> int:
        """As of what was heard last: the embedded changes stand still between two looks."""
        return self._told.changed_at(scope)

    def last_certain(self) -> tuple[int, float] | None:
        """What was heard last, and how long ago."""
        return None if self._heard is None else (self._heard, self.silent_s or 0.0)
