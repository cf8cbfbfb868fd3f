"""`sluice gc`: says what would go and why, and takes what is due."""

import secrets

import pytest

from storage.metadata import leases
from tests.gateway.api.installation import Installation
from tests.gateway.cli.command import Sluice
from tests.gateway.cli.images import ask, push, sha256, within

pytestmark = pytest.mark.slow  # images are pushed, and each command opens the installation anew

AT_ONCE = {"SLUICE_GARBAGE__GRACE_S": "0", "SLUICE_GARBAGE__UNDELETE_S": "0"}
LAYER = b"a layer that nobody will need" * 100


def test_nothing_is_garbage_while_it_is_needed(sluice: Sluice) -> None:
    """A tagged image keeps its blobs, however short the grace period is."""
    push(sluice.data, "team/images/app", "1.0", LAYER)

    dry = sluice.good("gc", "--dry-run", environ=AT_ONCE)
    run = sluice.good("gc", environ=AT_ONCE)

    assert dry.out == "0 blobs (0 B) would go, 0 of them (0 B) now\n"
    assert run.lines[0] == "removed 0 blobs (0 B)"
    assert ask(sluice.data, "GET", f"/v2/team/images/app/blobs/{sha256(LAYER)}") == (200, LAYER)


def test_every_blob_that_would_go_is_listed_with_bytes_and_reason(sluice: Sluice) -> None:
    """The totals are those of the list, and a dry run changes nothing."""
    digest = push(sluice.data, "team/images/app", "1.0", LAYER)
    ask(sluice.data, "DELETE", f"/v2/team/images/app/manifests/{digest}")

    before = sluice.good("gc", "--dry-run", "--json").value
    table = sluice.good("gc", "--dry-run")

    assert {row["digest"]: row["stored_bytes"] for row in before} == {sha256(b"{}"): 2, sha256(LAYER): len(LAYER)}
    assert all(row["reason"] and row["goes_at"] and row["storage"] == "default" for row in before)
    assert len(table.lines) == 4
    assert table.lines[-1] == "2 blobs (2.8 KiB) would go, 0 of them (0 B) now"
    assert sluice.good("gc", "--dry-run", "--json").value == before


def test_what_is_due_goes(sluice: Sluice) -> None:
    """First the manifest, then its blobs; the space is given back."""
    digest = push(sluice.data, "team/images/app", "1.0", LAYER)
    ask(sluice.data, "DELETE", f"/v2/team/images/app/manifests/{digest}")

    outs = [sluice.good("gc", environ=AT_ONCE).out for _ in range(4)]

    assert any("purged 1 deleted manifests" in out for out in outs)
    assert any("removed 2 blobs (2.8 KiB)" in out for out in outs)
    assert sluice.good("gc", "--dry-run", "--json", environ=AT_ONCE).value == []
    assert not [path for path in (sluice.data / "storages").rglob("*") if path.is_file() and path.stat().st_size > 100]


def test_two_collections_do_not_run_at_once(sluice: Sluice) -> None:
    """While a server holds the lease the command says so and does nothing; afterwards it runs."""

    async def take(installation: Installation) -> bool:
        services = installation.services
        holder = secrets.token_hex(8)
        return await services.database.transaction(
            leases.take, "garbage", holder=holder, now=int(services.clock()), lifetime_s=30
        )

    assert within(sluice.data, take)

    outcome = sluice("gc")

    assert outcome.code == 1
    assert outcome.err == "Error: a server is collecting garbage just now: try again in some minutes\n"


def test_the_lease_is_let_go(sluice: Sluice) -> None:
    """A second call right after the first runs too."""
    assert sluice.good("gc").out == sluice.good("gc").out


def test_json_is_for_looking(sluice: Sluice) -> None:
    """A run has no list to print."""
    assert sluice("gc", "--json").code == 2
