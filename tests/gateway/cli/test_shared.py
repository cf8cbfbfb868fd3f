"""Commands on an installation in PostgreSQL and a bucket, beside the replicas that serve it."""

from pathlib import Path

import pytest
import trio

from gateway.cli.first_start import prepare
from gateway.config import load
from tests.gateway.cli.command import Outcome, Sluice
from tests.served import ADMIN, Served
from tests.servers.installation import Installation

pytestmark = pytest.mark.slow

LAYER = b"a layer of an image" * 1000


@pytest.fixture
def environment(installation: Installation) -> dict[str, str]:
    """What every replica and every command of the installation is told."""
    return installation.environment()


@pytest.fixture
def sluice(tmp_path: Path, environment: dict[str, str]) -> Sluice:
    """The command, on a machine that has served the installation before."""
    data = tmp_path / "data"
    settings = load(environ=environment, overrides={"storage.data": ("--data", str(data))})

    async def start() -> None:
        await prepare(settings, password=ADMIN[1])

    trio.run(start)
    return Sluice(data)


def test_people_and_repositories_are_managed(sluice: Sluice, environment: dict[str, str]) -> None:
    """No file of a database is needed, and what was made is there; redirects are for this kind of storage."""

    def good(*words: str) -> Outcome:
        return sluice.good(*words, environ=environment)

    good("project", "add", "team")
    good("repo", "add", "team/images", "--redirect-pulls")
    good("user", "add", "ada", "--no-password")
    good("user", "grant", "ada", "reader", "team/images")
    (shown,) = good("repo", "show", "team/images", "--json").value
    good("repo", "set", "team/images", "--no-redirect-pulls")
    (changed,) = good("repo", "show", "team/images", "--json").value

    assert [user["name"] for user in good("user", "list", "--json").value] == ["ada", "admin"]
    assert (shown["redirect_pulls"], changed["redirect_pulls"]) == (True, False)
    assert "it had already" in good("migrate").out
    assert not (sluice.data / "sluice.db").exists()


def test_garbage_and_bytes_are_looked_after_beside_a_replica(
    tmp_path: Path, sluice: Sluice, environment: dict[str, str], installation: Installation
) -> None:
    """What a replica took is checked and collected by a command on another machine, which keeps no copies of blobs."""
    at_once = {"SLUICE_GARBAGE__GRACE_S": "0", "SLUICE_GARBAGE__UNDELETE_S": "0"}
    with Served(tmp_path / "replica", environment=environment) as replica:
        digest = replica.push_blob("team/app", LAYER)
        checked = sluice.good("fsck", environ=environment)
        would = sluice.good("gc", "--dry-run", "--json", environ=environment | at_once).value
        for _ in range(2):
            sluice.good("gc", environ=environment | at_once)
        gone = replica.admin("HEAD", f"/v2/team/app/blobs/{digest}")

    assert "checked 1 blobs" in checked.err + checked.out
    assert [row["digest"] for row in would] == [digest]
    assert gone.status == 404
    assert installation.blobs() == {}
    assert installation.markers() == []
    assert not (sluice.data / "hot").exists()


def test_another_secret_key_is_refused_by_commands_that_open_all(sluice: Sluice, environment: dict[str, str]) -> None:
    """The message says what a replica needs; nothing is changed."""
    other = environment | {"SLUICE_ACCESS__SECRET_KEY": "f" * 64}

    outcome = sluice("gc", "--dry-run", environ=other)

    assert outcome.code == 1
    assert "give every replica the same, in access.secret_key" in outcome.err


def test_a_replica_that_cannot_open_all_says_what_it_is(tmp_path: Path, environment: dict[str, str]) -> None:
    """Not the data directory is at fault when a service does not answer."""
    nowhere = environment | {"SLUICE_STORAGE__STORAGES__DEFAULT__ENDPOINT_URL": "http://127.0.0.1:1"}
    replica = Served(tmp_path / "replica", environment=nowhere)

    with pytest.raises(AssertionError, match=r"Error: cannot open the installation: bucket .*no connection to"):
        replica.start()


def test_a_server_that_is_away_is_one_clear_line(sluice: Sluice, environment: dict[str, str]) -> None:
    """Without the password, and without a stack."""
    nowhere = environment | {"SLUICE_STORAGE__DATABASE_URL": "postgresql://sluice:hush@127.0.0.1:1/rows"}

    outcome = sluice("user", "list", environ=nowhere)

    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "127.0.0.1" in outcome.err
    assert "hush" not in outcome.err
