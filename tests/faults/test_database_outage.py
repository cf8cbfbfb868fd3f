"""PostgreSQL goes away under load and comes back: cached digests go on, the rest is asked to wait, none is misled."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.traffic import Traffic
from tests.served import Served
from tests.servers.installation import Installation
from tests.servers.postgres import PostgresServer

pytestmark = [pytest.mark.faults, pytest.mark.slow]

BEFORE_S, AFTER_S = 1.0, 6.0
HEALED_S = 5.0
NOTICED_S = 1.0
"""How long a request may have been under way when the trouble began."""
LONGEST_S = 20.0
"""No client waits longer for any answer."""


@dataclass(frozen=True, slots=True)
class Outage:
    """How it is done, how it is undone, and how long it lasts."""

    begin: Callable[[PostgresServer, str], object]
    end: Callable[[PostgresServer, str], object]
    seconds: float


def run_out(server: PostgresServer, database: str) -> None:
    """The open connections end, and no new ones are to be had."""
    server.limit_connections(database, 0)
    server.cut_connections(database)


OUTAGES = {
    "killed": Outage(lambda server, _: server.kill(), lambda server, _: server.start(), 10.0),
    "paused": Outage(lambda server, _: server.pause(), lambda server, _: server.resume(), 8.0),
    "read-only": Outage(lambda server, _: server.read_only(on=True), lambda server, _: server.read_only(on=False), 3.0),
    "out of connections": Outage(run_out, lambda server, name: server.limit_connections(name, -1), 3.0),
    "restarted": Outage(lambda server, _: server.stop(), lambda server, _: server.start(), 0.0),
}


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_of_the_database(name: str, installation: Installation, tmp_path: Path) -> None:
    """Cached digests are served, all else is 503 with Retry-After and never 404 or 401, and within 5 s all is well."""
    outage = OUTAGES[name]
    server, database = installation.postgres, installation.database
    with Served(tmp_path / "gateway", environment=installation.environment()) as gateway:
        traffic = Traffic(gateway)
        traffic.prepare()
        with traffic.running():
            traffic.wait(BEFORE_S)
            begun = time.monotonic()
            outage.begin(server, database)
            traffic.wait(outage.seconds)
            ended = time.monotonic()
            outage.end(server, database)
            healed = time.monotonic()
            traffic.wait(AFTER_S)
        log = gateway.log()
        lost = traffic.lost()

    statuses = Counter((each.what, each.status) for each in traffic.told)
    during = Counter((each.what, each.status) for each in traffic.between(begun, ended))
    late = [each for each in traffic.between(healed + HEALED_S, healed + 60) if not each.is_good]
    print(f"\n{name}: {dict(during)}; in all {dict(statuses)}; longest {longest(traffic):.1f} s")
    told = "\n".join(map(str, traffic.told[-40:]))
    assert traffic.wrong == [], told
    assert {status for _, status in statuses} <= {200, 201, 202, 503}, f"{statuses}\n{log[-4000:]}"
    assert [each for each in traffic.told if each.status == 503 and not each.retry_after] == []
    cached = traffic.between(begun, ended, "cached")
    assert sum(each.is_good for each in cached) >= 0.99 * len(cached)
    assert len(cached) >= 20 * outage.seconds
    assert late == []
    assert {each.what for each in traffic.between(healed + HEALED_S, healed + 60)} >= {"cached", "tag", "push", "list"}
    assert longest(traffic) < LONGEST_S
    assert lost == []


def longest(traffic: Traffic) -> float:
    """The longest that any client waited, in seconds."""
    return max(each.ended_s - each.began_s for each in traffic.told)
