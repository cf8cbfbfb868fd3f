"""`sluice fsck`: finds what is not as it was pushed."""

import sqlite3
from pathlib import Path

import pytest

from tests.gateway.cli.command import Sluice
from tests.gateway.cli.images import ask, push, sha256

pytestmark = pytest.mark.slow  # images are pushed, and each command opens the installation anew

LAYER = b"the bytes of a layer"


@pytest.fixture
def stored(sluice: Sluice) -> Path:
    """The file in which the layer of a pushed image lies."""
    push(sluice.data, "team/images/app", "1.0", LAYER)
    (found,) = [
        path
        for path in (sluice.data / "storages" / "default").rglob("*")
        if path.is_file() and path.read_bytes() == LAYER
    ]
    return found


def test_a_whole_installation_has_no_findings(sluice: Sluice, stored: Path) -> None:
    """Exit code 0, and how much was read."""
    assert sluice.good("fsck").out == "checked 2 blobs (22 B), found 0 problems\n"


def test_a_flipped_bit_is_found_and_repaired_by_the_next_push(sluice: Sluice, stored: Path) -> None:
    """Named with the images that suffer; put aside by --repair; whole again after a push."""
    stored.chmod(0o600)
    stored.write_bytes(LAYER[:-1] + b"X")

    found = sluice("fsck", "--json")
    repaired = sluice("fsck", "--repair")
    (lost, _) = ask(sluice.data, "GET", f"/v2/team/images/app/blobs/{sha256(LAYER)}")
    push(sluice.data, "team/images/app", "1.0", LAYER)
    again = sluice("fsck")

    (finding,) = found.value
    assert (finding["kind"], finding["digest"], finding["images"]) == ("damaged", sha256(LAYER), ["team/images/app"])
    assert (found.code, repaired.code, again.code) == (1, 1, 0)
    assert "found 1 problems" in found.err
    assert lost in {404, 503}
    assert ask(sluice.data, "GET", f"/v2/team/images/app/blobs/{sha256(LAYER)}") == (200, LAYER)


def test_a_missing_file_is_found(sluice: Sluice, stored: Path) -> None:
    """The line says what kind of finding it is."""
    stored.unlink()

    outcome = sluice("fsck")

    assert outcome.code == 1
    assert outcome.lines[1].startswith("missing")
    assert outcome.err == "Error: 1 problems; `sluice fsck --repair` puts damaged ones aside\n"


def test_rows_are_made_of_what_is_stored(sluice: Sluice, stored: Path) -> None:
    """Two objects are known; forgotten by the database, both come back, and a wrong one does not with --verify."""
    known = sluice.good("fsck", "--rebuild")
    forget(sluice.data)
    stored.chmod(0o600)
    stored.write_bytes(LAYER[:-1] + b"X")

    careful = sluice("fsck", "--rebuild", "--verify")
    trusting = sluice.good("fsck", "--rebuild")

    assert known.out == "looked at 2 objects: 0 rows made, 0 healed, 2 needed none\n"
    assert careful.lines[0] == "looked at 2 objects: 1 rows made, 0 healed, 0 needed none"
    assert careful.lines[1].startswith("unusable ")
    assert (careful.code, "1 objects cannot be used" in careful.err) == (1, True)
    assert trusting.out == "looked at 2 objects: 1 rows made, 0 healed, 1 needed none\n"


def forget(data: Path) -> None:
    """As if the database had been restored from a backup of before the push."""
    with sqlite3.connect(data / "sluice.db") as database:
        for table in ("tags", "manifest_references", "manifests", "links", "blobs"):
            database.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names
    database.close()


@pytest.mark.parametrize("words", [("--rebuild", "--repair"), ("--rebuild", "--json"), ("--verify",)])
def test_options_that_do_not_go_together_are_refused(sluice: Sluice, words: tuple[str, ...]) -> None:
    """They would promise something that does not happen."""
    assert sluice("fsck", *words).code == 2
