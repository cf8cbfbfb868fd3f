"""What is particular to the database in a file: when it touches the file, and what it leaves behind."""

from pathlib import Path

import pytest
import trio

from storage import SqliteDatabase, Unavailable
from tests.storage.lease_rows import insert


async def test_check_tells_an_old_schema(tmp_path: Path) -> None:
    """Readiness is refused before the first migration."""
    async with SqliteDatabase(tmp_path / "empty.db") as empty:
        with pytest.raises(Unavailable, match="sluice migrate"):
            await empty.check()


async def test_no_io_before_it_is_opened(tmp_path: Path) -> None:
    """Making the object touches no file; opening in a missing directory says which."""
    path = tmp_path / "missing" / "sluice.db"
    database = SqliteDatabase(path)
    assert not path.parent.exists()
    with pytest.raises(Unavailable, match="missing"):
        await database.open()


async def test_closing_leaves_one_file(database_file: Path) -> None:
    """The log is copied and gone once the database is closed, also by who is cancelled."""
    with trio.CancelScope() as scope:
        async with SqliteDatabase(database_file) as database:
            await database.transaction(insert, "one")
            scope.cancel()
    assert not database_file.with_name(database_file.name + "-wal").exists()
