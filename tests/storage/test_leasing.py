"""A lease for as long as something takes: held, renewed, lost, dropped; on both databases."""

import pytest
import trio

from storage import Database, Unavailable, leasing
from storage.leasing import LIFETIME_S, Lease
from storage.metadata import leases
from tests.storage import lease_rows
from tests.storage.failing import FailingDatabase, Faults
from tests.storage.scene import Clock


@pytest.fixture
def clock() -> Clock:
    """What SQLite's leases are measured by; PostgreSQL has its own."""
    return Clock()


def lease_of(database: Database, clock: Clock, holder: str) -> Lease:
    """The lease, as that machine sees it."""
    return Lease("arrival/1/x", holder, database, clock)


async def test_one_machine_holds_it(any_database: Database, clock: Clock) -> None:
    """Others do not get it while it is held, whoever shares the holder's name does, and nothing stays of it."""
    ours, theirs = (lease_of(any_database, clock, holder) for holder in ("we", "they"))
    assert await any_database.transaction(ours.take)
    assert not await any_database.read(theirs.is_free)
    assert not await any_database.transaction(theirs.take)
    assert await any_database.read(ours.is_free)
    assert await any_database.transaction(ours.take)
    await theirs.drop()
    assert await any_database.read(lease_rows.names) == [ours.name]
    await ours.drop()
    assert await any_database.read(lease_rows.names) == []
    assert await any_database.transaction(theirs.take)


async def test_holder_that_died(database: Database, clock: Clock) -> None:
    """What is not renewed is free after its lifetime, and not before."""
    ours, theirs = (lease_of(database, clock, holder) for holder in ("we", "they"))
    assert await database.transaction(ours.take)
    clock.advance(LIFETIME_S - 1)
    assert not await database.transaction(theirs.take)
    clock.advance(1)
    assert await database.transaction(theirs.take)


async def test_kept_as_long_as_it_takes(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is renewed while it is kept, also after the database was away; keeping ends when another has it."""
    monkeypatch.setattr(leasing, "_RENEW_S", 0.001)
    monkeypatch.setattr(leasing, "_TRY_AGAIN_S", 0.001)
    faults = Faults()
    ours = lease_of(FailingDatabase(database, faults), clock, "we")
    theirs = lease_of(database, clock, "they")
    assert await database.transaction(ours.take)
    faults.arm_at("before transaction", Unavailable("away"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.keep)
        for _ in range(3):
            clock.advance(LIFETIME_S // 2)
            await _renewed(database, ours, clock)
            assert not await database.transaction(theirs.take)
        assert faults.failed_at == "before transaction"
        await database.transaction(leases.release, ours.name, "we", ended_well_at=None)
        while not await database.transaction(theirs.take):
            clock.advance(2 * LIFETIME_S)
    assert not await database.read(ours.is_free)


async def _renewed(database: Database, lease: Lease, clock: Clock) -> None:
    """Wait until the lease runs for its whole lifetime from now."""
    now = clock.now
    while await database.read(  # noqa: ASYNC110 - threads tell nobody
        lambda tx: leases.is_free(tx, lease.name, holder="?", now=now + LIFETIME_S - 1, lifetime_s=LIFETIME_S)
    ):
        await trio.lowlevel.checkpoint()
