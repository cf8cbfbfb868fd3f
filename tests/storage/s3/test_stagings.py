"""Holds on staging areas of a bucket, as far as the database decides them."""

import time
from collections.abc import Callable

import pytest

from storage import Busy, Database
from storage.s3.stagings import LIFETIME_S, Stagings
from tests.storage.database_process import database_at


async def stagings_at(database: Database, clock: Callable[[], float]) -> Stagings:
    """The areas as a replica with this clock sees them."""
    made = Stagings(database, "main", clock=clock)
    await made.prepare()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("skew_s", [3600, -3600])
async def test_clocks_of_replicas_do_not_matter(rows_url: str, skew_s: int) -> None:
    """A replica whose clock is wrong takes no area from another that holds it, and is not robbed of its own."""
    async with database_at(rows_url) as database:
        right = await stagings_at(database, time.time)
        wrong = await stagings_at(database, lambda: time.time() + skew_s)
        held, state = await right.take("area", create=True)
        with pytest.raises(Busy):
            await wrong.take("area", create=False)
        await right.save(held, state, let_go=True)
        held, state = await wrong.take("area", create=False)
        await wrong.renew(held)
        with pytest.raises(Busy):
            await right.take("area", create=False)
        await wrong.save(held, state)
        with pytest.raises(Busy):
            await right.take("area", create=False)


async def test_hold_lapses(database: Database) -> None:
    """A hold that is not renewed ends after its lifetime, and its holder is told."""
    now = time.time()
    stagings = await stagings_at(database, lambda: now)
    first, state = await stagings.take("area", create=True)
    now += LIFETIME_S - 1
    with pytest.raises(Busy):
        await stagings.take("area", create=False)
    await stagings.renew(first)
    now += LIFETIME_S
    second, _ = await stagings.take("area", create=False)
    assert second.token != first.token
    with pytest.raises(Busy):
        await stagings.renew(first)
    with pytest.raises(Busy):
        await stagings.save(first, state)
    assert await stagings.holders() == {second.token}
