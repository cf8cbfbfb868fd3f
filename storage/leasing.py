"""A lease of the database for as long as something takes: one machine does it, others wait for what comes of it.

It saves work and protects nothing: whoever holds it may be cut off and not know. What it is held for must be right,
only dearer, when two do it. Measured by the database's clock; a holder that dies loses it by time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from storage.database import Database, Transaction
from storage.errors import StorageError
from storage.metadata import clock as clocks
from storage.metadata import leases

LIFETIME_S: Final = 20
"""A holder that dies keeps others waiting for so long."""
_RENEW_S: Final = 6.0  # twice may fail
_TRY_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Lease:
    """`holder`: whoever shares it shares the lease; one per machine, where files have locks of their own."""

    name: str
    holder: str
    database: Database
    clock: Callable[[], float]

    def is_free(self, tx: Transaction) -> bool:
        """A look that keeps no writer waiting; `take` decides."""
        now = clocks.now(tx, self.clock)
        return leases.is_free(tx, self.name, holder=self.holder, now=now, lifetime_s=LIFETIME_S)

    def take(self, tx: Transaction) -> bool:
        """Hold it from now on, for `LIFETIME_S`; False if another machine does. For the caller's transaction."""
        now = clocks.now(tx, self.clock)
        return leases.take(tx, self.name, holder=self.holder, now=now, lifetime_s=LIFETIME_S)

    async def keep(self) -> None:
        """Renew it until cancelled; returns when it was lost. While the database does not answer, it is tried again."""
        pause_s = _RENEW_S
        while True:
            await trio.sleep(pause_s)
            try:
                if not await self.database.transaction(self._renew):
                    return
                pause_s = _RENEW_S
            except StorageError:
                pause_s = _TRY_AGAIN_S

    def _renew(self, tx: Transaction) -> bool:
        now = clocks.now(tx, self.clock)
        return leases.renew(tx, self.name, holder=self.holder, now=now, lifetime_s=LIFETIME_S)

    async def drop(self) -> None:
        """Let go of it, and of its row. Raises what the database does; time puts that right."""
        await self.database.transaction(leases.drop, self.name, self.holder)
