"""A process of its own that works on a database, for tests of several processes: how it is started, and what it does.

It talks by lines on its pipes:

    database_process.py add PLACE TIMES     raise the counter TIMES times after a line on stdin
    database_process.py insert PLACE NAME   insert NAME-0, NAME-1, ... for ever; print each once it is acknowledged
    database_process.py migrate PLACE       migrate after a line on stdin, print the revision

PLACE is a path or a URL.
"""

import functools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
import trio

from storage import Database, PostgresDatabase, SqliteDatabase, Transaction
from storage.metadata.tables import leases
from tests.storage.lease_rows import insert


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone when the test ends, however it ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, __file__, *arguments], stdin=pipe, stdout=pipe, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def database_at(place: str) -> Database:
    """The database of either kind at a path or a URL."""
    return PostgresDatabase(place) if "://" in place else SqliteDatabase(Path(place))


def start_together(*running: subprocess.Popen[str]) -> None:
    """Wait until each has said that it is ready, then let all go at once."""
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()


def raise_counter(transaction: Transaction) -> None:
    """Read, then write what was read plus one: loses counts unless transactions take turns."""
    value = transaction.execute(sa.select(leases.c.expires_at).where(leases.c.name == "counter")).scalar_one()
    transaction.execute(sa.update(leases).where(leases.c.name == "counter").values(expires_at=value + 1))


def counter(transaction: Transaction) -> int:
    """How often it was raised."""
    return transaction.execute(sa.select(leases.c.expires_at).where(leases.c.name == "counter")).scalar_one()


async def _add(database: Database, times: int) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(times):
        await database.transaction(raise_counter)


async def _insert(database: Database, name: str) -> None:
    number = 0
    while True:
        await database.transaction(insert, f"{name}-{number}", 200)
        sys.stdout.write(f"{name}-{number}\n")
        sys.stdout.flush()
        number += 1


async def _migrate(database: Database) -> None:
    await database.migrate()
    print(await database.revision(), flush=True)


async def _main(act: str, place: str, argument: str) -> None:
    if act == "migrate":
        print("ready", flush=True)
        sys.stdin.readline()
    async with database_at(place) as database:
        if act == "add":
            await _add(database, int(argument))
        elif act == "insert":
            async with trio.open_nursery() as nursery:
                for writer in range(4):
                    nursery.start_soon(_insert, database, f"{argument}-{writer}")
        else:
            await _migrate(database)


if __name__ == "__main__":
    trio.run(functools.partial(_main, sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""))
