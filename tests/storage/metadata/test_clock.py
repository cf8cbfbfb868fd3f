"""The time that leases are measured by is the database's."""

import time

from storage import Database
from storage.metadata import clock


async def test_it_is_the_servers_time_where_there_is_a_server(database: Database) -> None:
    """A replica whose clock is wrong sees the server's time; processes of one machine have one clock anyway."""
    seen = await database.read(clock.now, lambda: 5.9)

    is_embedded = await database.read(lambda tx: tx.dialect.name == "sqlite")
    assert seen == 5 if is_embedded else abs(seen - time.time()) < 60


async def test_it_passes_within_a_transaction(database: Database) -> None:
    """An act that waited for its turn does not go by the time at which it was begun."""

    def twice(tx: object) -> tuple[int, int]:
        first = clock.now(tx, time.time)  # type: ignore[arg-type]
        while time.time() < first + 1:
            time.sleep(0.01)
        return first, clock.now(tx, time.time)  # type: ignore[arg-type]

    first, second = await database.transaction(twice)
    assert second > first
