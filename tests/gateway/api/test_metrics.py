"""What monitoring reads."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from storage import BudgetRecord
from storage.metadata import upstreams
from tests.gateway.api.installation import AUDITOR, Installation
from tests.gateway.api.proxied import make_proxy, pull
from tests.upstream.registry import Budget
from tests.upstream.scripted import ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream without content."""
    with ScriptedUpstream() as scripted:
        yield scripted


async def _samples(installation: Installation) -> dict[tuple[str, str, str], float]:
    """Values by metric, upstream and account or repository."""
    reply = await installation.call("GET", "/metrics", auth=AUDITOR)
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    return {
        (each.name, each.labels["upstream"], each.labels.get("account", each.labels.get("repository", ""))): each.value
        for family in text_string_to_metric_families(reply.body.decode())
        for each in family.samples
    }


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


async def test_an_upstream_that_is_asked_is_not_open(installation: Installation, upstream: ScriptedUpstream) -> None:
    """Each address that this worker knows has its gauge."""
    upstream.shelf.image("team/app", "latest", b"layer")
    upstream.registry.budget = Budget(limit=100, remaining=42)
    await make_proxy(installation, upstream)
    await pull(installation, "team/app", "latest")

    assert (await _samples(installation))["sluice_upstream_is_open", upstream.url, "team/hub"] == 0


async def test_the_numbers_are_bounded(installation: Installation) -> None:
    """C17: ten thousand users at a registry do not make an endless answer."""

    def fill(tx: object) -> None:
        for number in range(1200):
            record = BudgetRecord(f"https://quay.io/user-{number}", 1, 1, 1, 1, None)
            upstreams.put_budget(tx, record)  # type: ignore[arg-type]

    await installation.services.database.transaction(fill)
    reply = await installation.call("GET", "/metrics")

    assert len(reply.body) < 1 << 20
    assert reply.body.count(b"sluice_upstream_budget_remaining{") == 1000
