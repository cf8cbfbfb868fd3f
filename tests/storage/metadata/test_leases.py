"""Leases: one holder at a time, by time; a dead holder loses it."""

import trio

from storage import Database
from storage.metadata import leases
from tests.storage.metadata.samples import NOW


async def test_one_of_many_gets_it(database: Database) -> None:
    """Of ten that ask at once exactly one holds the lease."""
    taken: list[str] = []

    async def ask(holder: str) -> None:
        if await database.transaction(leases.take, "gc", holder=holder, now=NOW, lifetime_s=60):
            taken.append(holder)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, f"h{number}")
    assert len(taken) == 1


async def test_a_lease_ends_by_time_and_then_another_may_have_it(database: Database) -> None:
    """Before its end only the holder gets it again; from its end on anybody does, and the old holder is told."""
    assert await database.transaction(leases.take, "gc", holder="a", now=NOW, lifetime_s=60)
    assert await database.transaction(leases.take, "gc", holder="a", now=NOW + 10, lifetime_s=60)
    assert not await database.transaction(leases.take, "gc", holder="b", now=NOW + 69, lifetime_s=60)
    assert await database.transaction(leases.take, "gc", holder="b", now=NOW + 70, lifetime_s=60)
    assert not await database.transaction(leases.renew, "gc", holder="a", now=NOW + 71, lifetime_s=60)
    assert not await database.transaction(leases.take, "gc", holder="a", now=NOW + 71, lifetime_s=60)


async def test_a_dropped_lease_leaves_nothing(database: Database) -> None:
    """Its holder lets go of it for good, whoever comes next may have it; nobody drops what another holds."""
    assert await database.transaction(leases.take, "one", holder="a", now=NOW, lifetime_s=60)
    await database.transaction(leases.drop, "one", "b")
    assert not await database.transaction(leases.take, "one", holder="b", now=NOW, lifetime_s=60)

    await database.transaction(leases.drop, "one", "a")

    assert await database.read(leases.is_free, "one", holder="b", now=NOW, lifetime_s=60)
    assert not await database.transaction(leases.renew, "one", holder="a", now=NOW, lifetime_s=60)


async def test_lease_of_a_wrong_clock(database: Database) -> None:
    """A lease that ends later than any could is taken at once, one that ends as late as it may is not."""
    for ahead_s, is_free in ((0, False), (60, False), (61, True), (10**9, True)):
        name = f"gc-{ahead_s}"
        await database.transaction(leases.take, name, holder="a", now=NOW + ahead_s, lifetime_s=60)
        assert await database.transaction(leases.take, name, holder="b", now=NOW, lifetime_s=60) == is_free


async def test_renewing_moves_the_end(database: Database) -> None:
    """A renewed lease is not free when it would have been; a lease that never was cannot be renewed."""
    assert not await database.transaction(leases.renew, "gc", holder="a", now=NOW, lifetime_s=60)
    await database.transaction(leases.take, "gc", holder="a", now=NOW, lifetime_s=60)
    assert await database.transaction(leases.renew, "gc", holder="a", now=NOW + 50, lifetime_s=60)
    assert not await database.transaction(leases.take, "gc", holder="b", now=NOW + 70, lifetime_s=60)


async def test_letting_go_frees_it_and_notes_a_good_end(database: Database) -> None:
    """After a release anybody may take it; only a job that ended well moves the time of the last run."""
    assert await database.read(leases.last_run_at, "gc") is None
    await database.transaction(leases.take, "gc", holder="a", now=NOW, lifetime_s=60)
    await database.transaction(leases.release, "gc", "a", ended_well_at=NOW + 5)
    assert await database.read(leases.last_run_at, "gc") == NOW + 5
    assert await database.transaction(leases.take, "gc", holder="b", now=NOW + 6, lifetime_s=60)
    await database.transaction(leases.release, "gc", "b", ended_well_at=None)
    assert await database.read(leases.last_run_at, "gc") == NOW + 5
    assert await database.transaction(leases.take, "gc", holder="c", now=NOW + 7, lifetime_s=60)


async def test_a_holder_that_lost_it_cannot_release_it(database: Database) -> None:
    """The old holder's release neither frees the lease nor claims a good end."""
    await database.transaction(leases.take, "gc", holder="a", now=NOW, lifetime_s=60)
    await database.transaction(leases.take, "gc", holder="b", now=NOW + 60, lifetime_s=60)
    await database.transaction(leases.release, "gc", "a", ended_well_at=NOW + 61)
    assert await database.read(leases.last_run_at, "gc") is None
    assert not await database.transaction(leases.take, "gc", holder="c", now=NOW + 62, lifetime_s=60)


async def test_leases_of_different_names_do_not_meet(database: Database) -> None:
    """Each job has its own."""
    assert await database.transaction(leases.take, "gc", holder="a", now=NOW, lifetime_s=60)
    assert await database.transaction(leases.take, "fsck", holder="b", now=NOW, lifetime_s=60)
