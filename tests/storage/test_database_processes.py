"""Several processes, kill -9 and a full disk: what was acknowledged is there, and everything heals by itself."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio

from storage import Database, SqliteDatabase, StorageFull
from storage.metadata.tables import leases
from tests.storage.database_process import database_at, process, start_together
from tests.storage.lease_rows import insert, names

_ROUNDS = int(os.environ.get("SLUICE_CRASH_ROUNDS", "5"))


@pytest.mark.slow
async def test_a_commit_of_another_process_is_seen_by_the_next_read(
    any_database: Database, database_place: str
) -> None:
    """What another process acknowledged is in the very next read here."""
    with process("insert", database_place, "other") as other:
        assert other.stdout is not None
        for _ in range(20):
            name = other.stdout.readline().strip()
            assert name in await any_database.read(names)


@pytest.mark.slow
async def test_four_processes_that_read_then_write_lose_nothing(database_place: str) -> None:
    """Four processes raise one counter 200 times each: no transaction fails, and the count is exact."""
    async with database_at(database_place) as database:
        await database.transaction(insert, "counter")
    with ExitStack() as stack:
        running = [stack.enter_context(process("add", database_place, "200")) for _ in range(4)]
        start_together(*running)
        assert [each.wait(60) for each in running] == [0] * 4
    async with database_at(database_place) as database:
        value = await database.read(lambda tx: tx.execute(sa.select(leases.c.expires_at)).scalar_one())
    assert value == 800


@pytest.mark.crash
async def test_what_was_acknowledged_survives_kill_9(database_place: str) -> None:
    """Two writing processes are killed in the middle of commits, again and again: every acknowledged row is there."""
    acknowledged: set[str] = set()
    for number in range(_ROUNDS):
        with ExitStack() as stack:
            running = [
                stack.enter_context(process("insert", database_place, f"{who}{number}")) for who in ("one", "two")
            ]
            for each in running:
                assert each.stdout is not None
                acknowledged.update(each.stdout.readline().strip() for _ in range(20 + 7 * number % 50))
            for each in running:
                each.send_signal(signal.SIGKILL)
            for each in running:
                # The last line may be cut: it was not read by anybody, so nobody was told.
                assert each.stdout is not None
                lines = each.stdout.read().splitlines(keepends=True)
                acknowledged.update(line.strip() for line in lines if line.endswith("\n"))
        async with database_at(database_place) as database:
            stored = await database.survey(names)
            assert acknowledged <= set(stored)
            await database.transaction(insert, f"after-{number}")
        acknowledged.add(f"after-{number}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    """Write a file until there is no space left, to the last page."""
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - it ends the loop, whatever the test is about


async def test_a_full_disk_damages_nothing_and_heals(small_disk: Path, migrated_file: Path) -> None:
    """On a full disk writes fail as `StorageFull`, reads go on, and writes work again once there is room."""
    path = small_disk / "sluice.db"
    path.write_bytes(migrated_file.read_bytes())
    stored: set[str] = set()
    full: list[str] = []

    async def write(name: str) -> None:
        try:
            await database.transaction(insert, name, 20_000)
        except StorageFull:
            full.append(name)
        else:
            stored.add(name)

    async with SqliteDatabase(path) as database:
        await write("first")
        fill(small_disk)
        for number in range(10):
            async with trio.open_nursery() as nursery:
                for writer in range(8):
                    nursery.start_soon(write, f"n{number}-{writer}")
            assert set(await database.read(names)) == stored
        assert len(full) > 10
        (small_disk / "filler").unlink()
        await write("after")
        assert "after" in stored
        assert set(await database.read(names)) == stored
        assert await database.survey(lambda tx: tx.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
    async with SqliteDatabase(path) as database:
        assert set(await database.read(names)) == stored


async def test_a_disk_that_is_full_at_the_start_says_so_and_heals(small_disk: Path, migrated_file: Path) -> None:
    """Without room for even a log, writes are `StorageFull`; the same open database works when there is room."""
    path = small_disk / "sluice.db"
    path.write_bytes(migrated_file.read_bytes())
    async with SqliteDatabase(path) as database:
        fill(small_disk)
        with pytest.raises(StorageFull):
            await database.transaction(insert, "early")
        (small_disk / "filler").unlink()
        await database.transaction(insert, "late")
        assert await database.read(names) == ["late"]
