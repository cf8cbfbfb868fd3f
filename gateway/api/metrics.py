"""What monitoring reads, in the text format of Prometheus: a snapshot made for each question.

Numbers that all workers share come from the database, so that it does not matter which worker is asked; what only a
worker knows of itself carries its process id.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from gateway.api.services import Ask, Reply
from gateway.upstream.answers import BreakerState, UpstreamStatus
from storage import ArrivalsStatistics, BudgetRecord, Transaction
from storage.metadata import repositories, upstreams

MOST_BUDGETS: Final = 1000
"""Each is a user at a registry: a thousand lines of 150 bytes are within what scrapers take (row C17)."""


async def get(ask: Ask) -> Reply:
    """What is left of upstreams' budgets, which are not asked for the moment, and the blobs that come from them."""
    budgets = await ask.api.database.survey(upstreams.budgets, "")
    known = ask.api.upstreams.statuses() if ask.api.upstreams is not None else {}
    names = await ask.api.database.survey(_names, sorted(known))
    arrivals = ask.api.arrivals
    families = [
        *_budgets(budgets[:MOST_BUDGETS]),
        _open({names[each]: known[each] for each in known if each in names}),
        *(() if arrivals is None else _arrivals(arrivals.statistics())),
    ]
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return Reply(text=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


class _Families(Collector):
    """What was collected already, as the library wants it."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _names(tx: Transaction, repository_ids: Iterable[int]) -> dict[int, str]:
    found = ((each, repositories.get(tx, each)) for each in repository_ids)
    return {each: record.full_name for each, record in found if record is not None}


def _budgets(found: Iterable[BudgetRecord]) -> Iterator[Metric]:
    """What each registry has said last, to whichever worker: `upstream` is its origin, `account` the user or empty."""
    labels = ("upstream", "account")
    remaining = GaugeMetricFamily(
        "sluice_upstream_budget_remaining", "Counted pulls that the upstream still allows in its window.", labels=labels
    )
    allowed = GaugeMetricFamily(
        "sluice_upstream_budget_allowed", "Counted pulls that the upstream allows per window.", labels=labels
    )
    observed = GaugeMetricFamily(
        "sluice_upstream_budget_observed_timestamp_seconds", "When the upstream last said so.", labels=labels
    )
    for named, each in _of_accounts(found).items():
        observed.add_metric(named, each.observed_at)
        if each.remaining is not None:
            remaining.add_metric(named, each.remaining)
        if each.allowed is not None:
            allowed.add_metric(named, each.allowed)
    yield from (remaining, allowed, observed)


def _of_accounts(found: Iterable[BudgetRecord]) -> dict[tuple[str, str], BudgetRecord]:
    """Of each account at each registry what was heard last; one may have several passwords, and a row for each.

    A row that has a number comes before one that has none: whoever enters a wrong password hears no number.
    """
    last: dict[tuple[str, str], BudgetRecord] = {}
    for each in sorted(found, key=lambda record: (record.remaining is not None, record.observed_at)):
        last[_upstream_and_account(each.name)] = each
    return dict(sorted(last.items()))


def _upstream_and_account(name: str) -> tuple[str, str]:
    """From the name of a budget: `https://HOST/`, `https://HOST/ACCOUNT` or `https://HOST/ACCOUNT:FINGERPRINT`."""
    scheme, _, rest = name.partition("://")
    host, _, account = rest.partition("/")
    return f"{scheme}://{host}", account.partition(":")[0]


def _open(known: dict[str, UpstreamStatus]) -> Metric:
    family = GaugeMetricFamily(
        "sluice_upstream_is_open",
        "1 while this worker does not ask the address, as it failed too often.",
        labels=("repository", "upstream", "worker"),
    )
    worker = str(os.getpid())
    for name, status in known.items():
        for address in status.addresses:
            family.add_metric((name, address.url, worker), float(address.state is not BreakerState.CLOSED))
    return family


def _arrivals(known: ArrivalsStatistics) -> Iterator[Metric]:
    """Of this worker, over all storages; the counters since it was started."""
    worker = (str(os.getpid()),)
    arriving = GaugeMetricFamily(
        "sluice_arrivals_arriving", "Blobs that this worker fetches or follows now.", labels=("worker",)
    )
    arriving.add_metric(worker, known.arriving)
    yield arriving
    for name, count, what in (
        ("published", known.published, "Blobs that were fetched and stored."),
        ("published_bytes", known.published_bytes, "Bytes of the blobs that were fetched and stored."),
        ("unpublished", known.unpublished, "Blobs that were fetched and right, and could not be stored then."),
        ("waited", known.waited, "Blobs for which another machine's fetch was waited for."),
        ("spared", known.spared, "Blobs that were not fetched, as they had come meanwhile."),
        ("refused", known.refused, "Blobs that were read through and not kept, for want of room on the local disk."),
    ):
        family = CounterMetricFamily(f"sluice_arrivals_{name}", what, labels=("worker",))
        family.add_metric(worker, count)
        yield family
