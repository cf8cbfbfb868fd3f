"""PostgreSQL goes away under load and comes back: cached digests go on, the rest is asked to wait, none is misled."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.faults.fault import Bandwidth, Cut, Fault, Latency, Reset, Stall
from tests.faults.proxy import FaultProxy
from tests.faults.traffic import KINDS, Traffic
from tests.served import Served
from tests.servers.bucket_server import S3Server
from tests.servers.installation import Installation, new_installation
from tests.servers.postgres import PostgresServer

pytestmark = [pytest.mark.faults, pytest.mark.slow]

BEFORE_S = 1.0
HEALED_S = 5.0
"""When the last trouble may begin."""
WATCHED_S = 60.0
SERVED = 0.99
"""Of the pulls of cached digests."""
LONGEST_S = 20.0
"""No client waits longer for any answer."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Two replicas: one asks the server itself, the other through a proxy."""

    installation: Installation
    direct: Served
    proxied: Served
    proxy: FaultProxy


@pytest.fixture(scope="module")
def shared_scene(
    radosgw: S3Server, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """The replicas for all tests of this file."""
    folder = tmp_path_factory.mktemp("outage")
    with ExitStack() as stack:
        made = stack.enter_context(new_installation(postgres, radosgw))
        proxy = stack.enter_context(FaultProxy(postgres.port, http=False))
        direct = stack.enter_context(Served(folder / "direct", environment=made.environment()))
        through = made.environment(database_port=proxy.port)
        yield Scene(made, direct, stack.enter_context(Served(folder / "proxied", environment=through)), proxy)


@pytest.fixture
def scene(shared_scene: Scene) -> Iterator[Scene]:
    """The same; whatever a test has done to server and proxy is undone."""
    yield shared_scene
    shared_scene.installation.postgres.limit_connections(shared_scene.installation.database, -1)
    shared_scene.proxy.heal()


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
def test_an_outage_of_the_server(name: str, scene: Scene) -> None:
    """Cached digests are served, all else is 503 with Retry-After and never 404 or 401, and within 5 s all is well."""
    outage, made = OUTAGES[name], scene.installation
    check(
        scene.direct,
        name,
        lambda: outage.begin(made.postgres, made.database),
        lambda: outage.end(made.postgres, made.database),
        outage.seconds,
    )


WAYS: dict[str, Fault] = {
    "reset after some answers": Reset(3_000),
    "closed in the middle of the greeting": Cut(30),
    "standing still": Stall(5_000),
    "black hole": Stall(),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_broken_way_to_the_server(name: str, scene: Scene) -> None:
    """The same holds where connections to a server that is well break or stand still, old ones and new ones."""

    def begin() -> None:
        scene.proxy.harm(WAYS[name])
        scene.proxy.reset_all()

    check(scene.proxied, name, begin, scene.proxy.heal, 4.0)


def test_a_slow_way_to_the_server(scene: Scene) -> None:
    """With 50 ms more for each connection's start and 100 kB/s for each, everything is served, only later."""
    scene.proxy.harm(Latency(0.05))
    scene.proxy.harm(Bandwidth(100_000))
    scene.proxy.reset_all()
    traffic = Traffic(scene.proxied)
    traffic.prepare()
    mark = time.monotonic()
    with traffic.running(pullers=1):
        traffic.wait(2.0)
    served = traffic.between(mark, mark + 60)
    assert {each.what for each in served} >= KINDS
    assert [each for each in served if not each.is_good] == []
    assert traffic.lost() == []


def check(gateway: Served, name: str, begin: Callable[[], object], end: Callable[[], object], seconds: float) -> None:
    """Let clients work before, during and after the trouble, and hold what they were told to the rules."""
    traffic = Traffic(gateway)
    traffic.prepare()
    with traffic.running():
        traffic.wait(BEFORE_S)
        begun = time.monotonic()
        begin()
        traffic.wait(seconds)
        ended = time.monotonic()
        end()
        healed = traffic.well_since(time.monotonic(), WATCHED_S)
    statuses = Counter((each.what, each.status) for each in traffic.told)
    during = Counter((each.what, each.status) for each in traffic.between(begun, ended))
    longest = max(each.ended_s - each.began_s for each in traffic.told)
    print(f"\n{name}: {dict(during)}; healed after {healed} s; the longest waited {longest:.1f} s")

    assert traffic.wrong == []
    assert {status for _, status in statuses} <= {200, 201, 202, 503}, f"{statuses}\n{gateway.log()[-3000:]}"
    assert [each for each in traffic.told if each.status == 503 and not each.retry_after] == []
    cached = traffic.between(begun, ended, "cached")
    assert sum(each.is_good for each in cached) >= SERVED * len(cached)
    assert len(cached) >= max(1, 20 * seconds)
    assert healed is not None
    assert healed < HEALED_S
    assert longest < LONGEST_S
    assert traffic.lost() == []
