"""What a server's troubles mean for its callers: `Unavailable` and nothing else, and an end with the trouble itself.

Each trouble meets a database under load: readers, surveyors and writers that go on all the time and note what they are
told. What a trouble may never do is lie: a row that was acknowledged is there in every read.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import psycopg
import pytest
import trio

from storage import Pool, PostgresDatabase, Unavailable
from storage.database_postgres_line import READER
from tests.faults.fault import DOWN, UP, Cut, Direction, HalfClose, Latency, Reset, Stall
from tests.faults.proxy import FaultProxy
from tests.servers.postgres import PostgresServer
from tests.storage.lease_rows import insert, names

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

HEALED_S = 5.0
"""Within which everything works again once the server does."""


@dataclass
class Load:
    """Callers that go on whatever they are told, and what they were told."""

    database: PostgresDatabase
    told: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)
    worked_at: dict[str, float] = field(default_factory=dict)
    slowest_s: float = 0.0

    async def write(self, name: str) -> None:
        """One row after another."""
        number = 0
        while True:
            number += 1
            row = f"{name}-{number}"
            if await self._call("write", lambda row=row: self.database.transaction(insert, row)):  # type: ignore[misc]
                self.acknowledged.add(row)

    async def look(self, kind: str) -> None:
        """One reading of all rows after another."""
        while True:
            before = set(self.acknowledged)
            seen: set[str] = set()

            async def call(seen: set[str] = seen) -> None:
                seen.update(await getattr(self.database, kind)(names))

            if await self._call(kind, call):
                self.missed |= before - seen

    async def all_work(self, since: float) -> None:
        """Wait until each kind of call has worked after that moment."""
        while not all(self.worked_at.get(kind, 0) > since for kind in ("read", "survey", "write")):  # noqa: ASYNC110 - a thread or a server tells, no event
            await trio.sleep(0.01)

    async def all_fail(self, *kinds: str) -> None:
        """Wait until each of these kinds of call was refused some more."""
        seen = dict(self.told)
        while not all(self.told[kind] > seen.get(kind, 0) + 3 for kind in kinds):  # noqa: ASYNC110 - a thread or a server tells, no event
            await trio.sleep(0.01)

    async def _call(self, kind: str, call: Callable[[], object]) -> bool:
        began = time.monotonic()
        try:
            await call()  # type: ignore[misc]
        except Unavailable:
            self.told[kind] += 1
            await trio.sleep(0.02)
            return False
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.worked_at[kind] = time.monotonic()
        await trio.sleep(0.005)
        return True


@asynccontextmanager
async def under_load(url: str) -> AsyncIterator[Load]:
    """A database in use; afterwards, no acknowledged row is missing and its connections are gone."""
    async with PostgresDatabase(url, connections=8) as database, trio.open_nursery() as nursery:
        load = Load(database)
        for number in range(6):
            nursery.start_soon(load.write, f"w{number}")
            nursery.start_soon(load.look, "read")
        for _ in range(3):
            nursery.start_soon(load.look, "survey")
        await load.all_work(time.monotonic())
        yield load
        assert load.acknowledged <= set(await database.read(names))
        assert load.missed == set()
        assert database.statistics().connections <= 8
        nursery.cancel_scope.cancel()


async def healed(load: Load) -> float:
    """How long it took until every kind of call worked again."""
    began = time.monotonic()
    with trio.fail_after(30):
        await load.all_work(began)
    return time.monotonic() - began


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_server_that_goes_and_comes_back(shaken_postgres: PostgresServer, postgres_url: str, way: str) -> None:
    """While it is down everything is refused quickly; all works again within seconds of its start."""
    async with under_load(postgres_url) as load:
        if way == "stop":
            shaken_postgres.stop("immediate")
        else:
            shaken_postgres.kill()
        await load.all_fail("read", "survey", "write")
        load.slowest_s = 0
        with pytest.raises(Unavailable):
            await load.database.check()
        await load.all_fail("read", "survey", "write")
        assert load.slowest_s < READER.statement_s
        shaken_postgres.start()
        assert await healed(load) < HEALED_S
        await load.database.check()


async def test_connections_that_the_server_ends(shaken_postgres: PostgresServer, postgres_url: str) -> None:
    """All connections at once, idle ones too: reads are run again and nobody is told; writers may be."""
    async with under_load(postgres_url) as load:
        name = psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"]
        for _ in range(3):
            assert shaken_postgres.cut_connections(str(name)) > 0
            assert await healed(load) < HEALED_S
        assert load.database.statistics().detours > 0


async def test_a_server_that_refuses_writes(shaken_postgres: PostgresServer, postgres_url: str) -> None:
    """Reads go on; writes are refused until it takes them again."""
    async with under_load(postgres_url) as load:
        shaken_postgres.read_only(on=True)
        refused = load.told.copy()
        await load.all_fail("write")
        with pytest.raises(Unavailable, match="cannot be written"):
            await load.database.transaction(insert, "refused")
        assert load.told["read"] == refused["read"]
        shaken_postgres.heal()
        assert await healed(load) < HEALED_S


async def test_a_server_without_connections_to_spare(shaken_postgres: PostgresServer, postgres_url: str) -> None:
    """Who has a connection goes on with it; who needs a new one is refused until there are some."""
    name = str(psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"])
    async with under_load(postgres_url) as load:
        shaken_postgres.limit_connections(name, 0)
        shaken_postgres.cut_connections(name)
        await load.all_fail("read", "survey", "write")
        with pytest.raises(Unavailable, match="no connection left"):
            await load.database.check()
        shaken_postgres.limit_connections(name, -1)
        assert await healed(load) < HEALED_S


async def test_a_server_that_stands_still(shaken_postgres: PostgresServer, postgres_url: str) -> None:
    """No answer at all, on connections that stay open: callers are refused in the end, and served when it goes on."""
    async with under_load(postgres_url) as load:
        shaken_postgres.pause()
        with trio.fail_after(30):
            await load.all_fail("read")
        shaken_postgres.resume()
        assert await healed(load) < HEALED_S


async def test_a_lock_that_somebody_else_holds(postgres: PostgresServer, postgres_url: str) -> None:
    """Readers of a locked table are refused after a while, not kept for ever."""
    async with under_load(postgres_url) as load:
        with psycopg.connect(postgres_url) as stranger:
            stranger.execute("LOCK TABLE leases")
            with trio.fail_after(30):
                await load.all_fail("read")
        assert await healed(load) < HEALED_S


@pytest.mark.parametrize("kind", [Reset, Cut, HalfClose, Stall], ids=lambda kind: kind.__name__.lower())
async def test_a_network_that_breaks_connections_anywhere(
    postgres: PostgresServer, postgres_database: str, kind: type[Reset | Cut | HalfClose | Stall]
) -> None:
    """Amid a greeting, a question, an answer or a commit: nobody is misled, nothing acknowledged is lost, all heals."""
    hands = Pool("hands", 1)
    directions: tuple[Direction, ...] = (UP, DOWN)
    troubles = 0
    with FaultProxy(postgres.port, http=False) as proxy:
        async with under_load(postgres.url_of(postgres_database, port=proxy.port)) as load:
            for position, direction in product((0, 300, 3_000, 20_000), directions):
                proxy.harm(kind(position, direction))
                await hands.run(proxy.reset_all)
                refused = load.told.total()
                with trio.move_on_after(1):
                    while load.told.total() < refused + 10:  # noqa: ASYNC110 - a thread or a server tells, no event
                        await trio.sleep(0.01)
                troubles += load.told.total() - refused
                await hands.run(proxy.heal)
                assert await healed(load) < HEALED_S
    assert troubles > 0


async def test_a_slow_network_is_only_slow(postgres: PostgresServer, postgres_database: str) -> None:
    """Half a second until the first answer on each connection is no trouble for anybody."""
    with FaultProxy(postgres.port, http=False) as proxy:
        proxy.harm(Latency(0.5))
        async with under_load(postgres.url_of(postgres_database, port=proxy.port)) as load:
            assert load.told.total() == 0


WITHOUT = """
import sys
sys.modules["psycopg"] = None
from storage import PostgresDatabase, Unavailable
try:
    PostgresDatabase("postgresql://somewhere/x")
except Unavailable as error:
    print(error)
"""


def test_without_the_driver_it_says_what_to_install() -> None:
    """Psycopg belongs to an extra: everything else works without it, and this names the extra."""
    command = [sys.executable, "-c", WITHOUT]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "sluice-gateway[postgres]" in told.stdout
