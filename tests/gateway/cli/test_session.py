"""Commands work on an installation that is there, is ours and has this version's schema; else they say what to do."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.gateway.cli.command import Sluice, run


@pytest.mark.parametrize("words", [["user", "list"], ["gc", "--dry-run"], ["fsck"], ["migrate"], ["repo", "list"]])
def test_a_place_without_an_installation_stays_empty(words: list[str], tmp_path: Path) -> None:
    """A mistyped directory is named, and nothing is made in it."""
    outcome = run(*words, "--data", str(tmp_path / "nothing"))

    assert outcome.code == 1
    assert f"no installation in {tmp_path / 'nothing'}" in outcome.err
    assert "name it with --data, or make one with `sluice serve`" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_an_old_schema_is_not_touched(sluice: Sluice) -> None:
    """Commands but `migrate` leave it to the operator, who may have servers of the old version."""
    with sqlite3.connect(sluice.data / "sluice.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0000'")
    database.close()

    for words in (["user", "list"], ["gc"]):
        outcome = sluice(*words)
        assert outcome.code == 1
        assert "the database has schema 0000" in outcome.err
        assert "run `sluice migrate`" in outcome.err


def test_an_empty_file_is_filled_by_migrate(tmp_path: Path) -> None:
    """It says what it did; a second time there is nothing to do."""
    sluice = Sluice(tmp_path)
    (tmp_path / "sluice.db").touch(mode=0o600)

    empty = sluice("user", "list")
    first = sluice.good("migrate")
    second = sluice.good("migrate")

    assert "the database is empty" in empty.err
    assert first.out.endswith("; before it had none\n")
    assert second.out.endswith("; it had already\n")
    assert sluice.good("user", "list").out == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_anothers_installation_is_refused(sluice: Sluice) -> None:
    """Files that root leaves behind could not be opened by the server."""
    shutil.chown(sluice.data / "sluice.db", 1)

    outcome = sluice("user", "list")

    assert outcome.code == 1
    assert "run this command as that user" in outcome.err


def test_a_damaged_database_is_one_line(sluice: Sluice) -> None:
    """Not a stack of Python."""
    (sluice.data / "sluice.db").write_bytes(b"this is no database, whatever its name says" * 100)

    outcome = sluice("user", "list")

    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("Error: ")


def test_a_secret_key_that_everybody_can_read_is_one_line(sluice: Sluice) -> None:
    """The message says how to mend it."""
    (sluice.data / "secret.key").chmod(0o644)

    outcome = sluice("gc")

    assert outcome.code == 1
    assert "chmod 600" in outcome.err
