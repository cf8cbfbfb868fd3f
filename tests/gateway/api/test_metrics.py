"""What monitoring reads."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.app import build
from storage import BudgetRecord, Transaction
from storage.metadata import upstreams
from tests.gateway.api.installation import AUDITOR, Installation
from tests.gateway.api.proxied import make_proxy, pull
from tests.served import sha256
from tests.upstream.registry import Budget
from tests.upstream.scripted import ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream without content."""
    with ScriptedUpstream() as scripted:
        yield scripted


async def _all(installation: Installation) -> list[Sample]:
    reply = await installation.call("GET", "/metrics", auth=AUDITOR)
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    return [each for family in text_string_to_metric_families(reply.body.decode()) for each in family.samples]


async def _samples(installation: Installation) -> dict[tuple[str, str, str], float]:
    """Values of upstreams by metric, upstream and account or repository."""
    return {
        (each.name, each.labels["upstream"], each.labels.get("account", each.labels.get("repository", ""))): each.value
        for each in await _all(installation)
        if "upstream" in each.labels
    }


async def _arrivals(installation: Installation) -> dict[str, float]:
    """What this worker tells of its arrivals, by what follows `sluice_arrivals_`."""
    told = [each for each in await _all(installation) if each.name.startswith("sluice_arrivals_")]
    assert all(each.labels == {"worker": str(os.getpid())} for each in told)
    return {each.name.removeprefix("sluice_arrivals_"): each.value for each in told}


async def test_budgets_come_from_the_database(installation: Installation) -> None:
    """So it does not matter which worker is asked; what an upstream never said is left out."""
    for record in (
        BudgetRecord("https://registry-1.docker.io/ci", 200, 17, 21600, 1_700_000_000, None),
        BudgetRecord("https://quay.io/", None, None, None, 1_700_000_001, 1_700_000_060),
    ):
        await installation.services.database.transaction(upstreams.put_budget, record)

    found = await _samples(installation)

    hub, quay = ("https://registry-1.docker.io", "ci"), ("https://quay.io", "")
    assert found["sluice_upstream_budget_remaining", *hub] == 17
    assert found["sluice_upstream_budget_allowed", *hub] == 200
    assert found["sluice_upstream_budget_observed_timestamp_seconds", *quay] == 1_700_000_001
    assert ("sluice_upstream_budget_remaining", *quay) not in found


async def test_an_account_is_one_series_whatever_passwords_it_has(installation: Installation) -> None:
    """What was heard last counts; a password that never got an answer, and rows of an older version, hide none."""
    for name, remaining, observed_at in (
        ("ci:aa", 70, 5),
        ("ci:bb", 50, 7),
        ("ci:cc", None, 9),
        ("ci", 90, 3),
        ("other:aa", 10, 1),
    ):
        record = BudgetRecord(f"https://quay.io/{name}", 100, remaining, 60, observed_at, None)
        await installation.services.database.transaction(upstreams.put_budget, record)

    reply = await installation.call("GET", "/metrics", auth=AUDITOR)
    found = await _samples(installation)

    assert reply.body.count(b"sluice_upstream_budget_remaining{") == 2
    assert found["sluice_upstream_budget_remaining", "https://quay.io", "ci"] == 50
    assert found["sluice_upstream_budget_observed_timestamp_seconds", "https://quay.io", "ci"] == 7
    assert found["sluice_upstream_budget_remaining", "https://quay.io", "other"] == 10


async def test_an_upstream_that_is_asked_is_not_open(installation: Installation, upstream: ScriptedUpstream) -> None:
    """Each address that this worker knows has its gauge."""
    upstream.shelf.image("team/app", "latest", b"layer")
    upstream.registry.budget = Budget(limit=100, remaining=42)
    await make_proxy(installation, upstream)
    await pull(installation, "team/app", "latest")

    assert (await _samples(installation))["sluice_upstream_is_open", upstream.url, "team/hub"] == 0


async def test_blobs_that_arrive_are_counted(installation: Installation, upstream: ScriptedUpstream) -> None:
    """How many are on their way, and what became of the others, as this worker knows it."""
    nothing = {
        "arriving": 0,
        "published_total": 0,
        "published_bytes_total": 0,
        "unpublished_total": 0,
        "waited_total": 0,
        "spared_total": 0,
        "refused_total": 0,
    }
    assert await _arrivals(installation) == nothing
    upstream.shelf.image("team/app", "latest", b"a layer")
    await make_proxy(installation, upstream)

    await pull(installation, "team/app", "latest", sha256(b"a layer"))

    with trio.fail_after(30):  # it is published after its client has it
        published = {**nothing, "published_total": 1, "published_bytes_total": 7}
        while await _arrivals(installation) != published:  # noqa: ASYNC110 - asked as monitoring does: it has no events
            await trio.sleep(0.02)


async def test_who_fetches_nothing_counts_no_arrivals(installation: Installation) -> None:
    """A process without upstreams has nothing to tell, and no zeros that look as if it had."""
    without = replace(installation.services, fetching=None)
    alone = Installation(without, build(without).test_client())

    assert await _arrivals(alone) == {}


async def test_the_numbers_are_bounded(installation: Installation) -> None:
    """C17: ten thousand users at a registry do not make an endless answer."""

    def fill(tx: Transaction) -> None:
        for number in range(1200):
            upstreams.put_budget(tx, BudgetRecord(f"https://quay.io/user-{number}", 1, 1, 1, 1, None))

    await installation.services.database.transaction(fill)
    reply = await installation.call("GET", "/metrics")

    assert len(reply.body) < 1 << 20
    assert reply.body.count(b"sluice_upstream_budget_remaining{") == 1000
