"""The file itself: who may read it, what its connections promise, and that its log cannot grow without bound."""

import sqlite3
import stat
import threading
from pathlib import Path

import pytest
import trio

from storage import Database, SqliteDatabase, Transaction, Unavailable
from storage.database_sqlite import Limits
from tests.storage.lease_rows import count, insert


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


async def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    """Database, log and index are 0600 whatever the umask, and a file that was too open is closed."""
    path = tmp_path / "sluice.db"
    path.touch(0o644)
    path.chmod(0o644)
    async with SqliteDatabase(path) as database:
        await database.migrate()
        await database.read(count)
        files = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", ".lock")]
        assert {file.name: mode(file) for file in files} == {file.name: 0o600 for file in files}


async def test_what_every_connection_promises(database: Database) -> None:
    """Commits are synced, references are checked, sorting needs no disk, nothing is mapped; readers cannot write."""

    def pragmas(transaction: Transaction) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "temp_store", "mmap_size", "query_only")
        return {name: transaction.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}

    always = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "temp_store": 2, "mmap_size": 0}
    assert await database.transaction(pragmas) == {**always, "query_only": 0}
    assert await database.read(pragmas) == {**always, "query_only": 1}
    assert await database.survey(pragmas) == {**always, "query_only": 1}


async def test_a_read_that_meets_a_lock_waits_in_a_thread(database_file: Path) -> None:
    """A lock that also keeps readers out does not stop the loop: the read goes to a thread and ends after the lock."""
    outsider = sqlite3.connect(database_file, isolation_level=None)
    async with SqliteDatabase(database_file) as database:
        # Nothing of ours is connected yet, so that an outsider can have the file for itself.
        outsider.execute("PRAGMA locking_mode=EXCLUSIVE")
        outsider.execute("BEGIN IMMEDIATE")
        outsider.execute("INSERT INTO leases (name, holder, expires_at) VALUES ('a', 'b', 0)")
        outsider.execute("COMMIT")
        counts: list[int] = []

        async def read() -> None:
            counts.append(await database.read(count))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert database.statistics().detours == 1
            outsider.close()
        assert counts == [1]


async def test_the_log_is_copied_and_reused(database_file: Path) -> None:
    """Under steady writing the log stays near the size at which it is copied into the file."""
    limits = Limits(checkpoint_bytes=256 * 1024)
    async with SqliteDatabase(database_file, limits=limits) as database:
        for number in range(200):  # 200 rows of 4 KB: about 2 MB of log
            await database.transaction(insert, f"n{number}", 4000)
        assert database.statistics().log_bytes < 2 * limits.checkpoint_bytes
        assert database.statistics().writer.failed_checkpoints == 0


async def test_a_long_survey_cannot_make_the_log_grow_without_bound(database_file: Path) -> None:
    """Once the log is past its limit, a survey that holds an old snapshot is stopped and the log shrinks again."""
    limits = Limits(checkpoint_bytes=64 * 1024, busy_bytes=512 * 1024, survey_grace_s=0.02, pause_s=1)
    begun = trio.Event()
    outcomes: list[str] = []

    def endless(transaction: Transaction) -> None:
        trio.from_thread.run_sync(begun.set)
        while True:
            transaction.exec_driver_sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 99999) "
                "SELECT count(*) FROM n, leases"
            ).scalar()

    async def survey(database: Database) -> None:
        with pytest.raises(Unavailable, match="long survey") as caught:
            await database.survey(endless)
        outcomes.append(str(caught.value))

    async with SqliteDatabase(database_file, limits=limits) as database:
        await database.transaction(insert, "first", 4000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(survey, database)
            await begun.wait()
            number = 0
            while not outcomes:
                await database.transaction(insert, f"n{number}", 4000)
                number += 1
                assert database.statistics().log_bytes < 2 * limits.busy_bytes
        await database.transaction(insert, "last")
        assert database.statistics().log_bytes <= limits.busy_bytes
        assert await database.survey(count) == number + 2


async def test_an_outsider_with_an_old_snapshot_slows_writing_once_only(database_file: Path) -> None:
    """A snapshot that we cannot end costs one pause, not one per commit, and nothing is lost."""
    limits = Limits(checkpoint_bytes=16 * 1024, busy_bytes=64 * 1024, pause_s=0.02, pause_again_s=3600)
    outsider = sqlite3.connect(database_file, isolation_level=None)
    async with SqliteDatabase(database_file, limits=limits) as database:
        await database.transaction(insert, "first", 4000)
        outsider.execute("BEGIN")
        outsider.execute("SELECT count(*) FROM leases").fetchall()
        for number in range(40):
            await database.transaction(insert, f"n{number}", 4000)
        assert database.statistics().log_bytes > limits.busy_bytes
        assert database.statistics().writer.pauses == 1
        assert await database.read(count) == 41
    outsider.close()


async def test_a_write_lock_of_another_is_waited_for(database_file: Path) -> None:
    """A writer that finds the lock taken gets it as soon as it is free."""
    outsider = sqlite3.connect(database_file, isolation_level=None, check_same_thread=False)
    async with SqliteDatabase(database_file) as database:
        outsider.execute("BEGIN IMMEDIATE")
        outsider.execute("INSERT INTO leases (name, holder, expires_at) VALUES ('a', 'b', 0)")
        release = threading.Timer(0.05, outsider.execute, ["COMMIT"])
        release.start()
        assert await database.transaction(count) == 1
        release.join()
    outsider.close()


async def test_a_file_that_cannot_have_a_log_is_refused(tmp_path: Path) -> None:
    """A file held in another journal mode by a stranger is reported when opening, not at the first write."""
    path = tmp_path / "sluice.db"
    outsider = sqlite3.connect(path, isolation_level=None)
    outsider.execute("PRAGMA journal_mode=DELETE")
    outsider.execute("CREATE TABLE t (i)")
    outsider.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable):
        await SqliteDatabase(path, limits=Limits(write_lock_s=0.05)).open()
    outsider.close()
