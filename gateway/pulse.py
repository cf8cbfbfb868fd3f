"""Whether the database is away, found out when nothing has been heard of its changes for a moment.

Whoever remembers answers must tell two things apart: that no word of changes comes although the database can be asked,
and that there is nobody to ask. Decides nothing about either.
"""

from typing import Final

import trio

from storage import Database, StorageError

EVERY_S: Final = 0.4
"""How often `beat` should be called, which costs nothing while changes are heard of."""
_SILENT_S: Final = 1.3
"""Changes that are told of are confirmed each second. Looks at them give None after 3 s of silence: until then it must
be known whether the database is away, so that nobody meets the time in between."""
_ANSWER_S: Final = 1.0
"""One that needs longer for the smallest question cannot be asked by pulls either."""


class Pulse:
    """See the module docstring. One per process; for databases that tell of changes late (`Changes.exact` false)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes = database.changes()
        self.is_away = False
        """Whether the database did not answer when it was last asked, and nothing has been heard of it since."""

    async def beat(self) -> None:
        """Look whether changes were heard of lately; if not, ask the database. Never raises."""
        certain = self._changes.last_certain()
        if certain is not None and certain[1] < _SILENT_S:
            self.is_away = False
            return
        answered = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lose_patience)
            with trio.move_on_after(_ANSWER_S):
                try:
                    await self._database.check()
                    answered = True
                except StorageError:
                    pass
            nursery.cancel_scope.cancel()
        self.is_away = not answered

    async def _lose_patience(self) -> None:
        """The thread that asks cannot be left: it waits for a connection longer than that."""
        await trio.sleep(_ANSWER_S)
        self.is_away = True
