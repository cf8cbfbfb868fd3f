"""A registry over S3 whose gateways reach the bucket through proxies, for tests that do harm there."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.faults.blobs import pull, push
from tests.faults.proxy import FaultProxy
from tests.served import Served
from tests.servers.bucket_server import S3Server
from tests.servers.installation import Installation, new_installation
from tests.servers.postgres import PostgresServer
from tests.servers.processes import wait_until

HEALED_S = 60.0
FIRST_JOBS_S = 60.0
_FIRST_JOBS = {"garbage", "strays/default", "scrub"}
"""What talks to the bucket by itself, some seconds after the start and then hourly: no test counts its requests."""


@dataclass(frozen=True, slots=True)
class Harmed:
    """Three replicas, each behind a proxy of its own: one takes pushes, two are for pulls, with and without a hot set.

    `sound` is not behind any: what it says is so.
    """

    installation: Installation
    pusher: Served
    hot: Served
    cold: Served
    sound: Served
    proxies: dict[str, FaultProxy]
    known_uploads: set[tuple[str, str]] = field(default_factory=set)
    """The unfinished uploads in the bucket before the test."""

    def new_uploads(self) -> set[tuple[str, str]]:
        """The unfinished uploads that the test has left."""
        return set(self.installation.s3.uploads(self.installation.bucket)) - self.known_uploads

    def heal(self) -> None:
        """Every way to the bucket is whole again, and nothing was seen on it."""
        for proxy in self.proxies.values():
            proxy.heal()
            proxy.reset_all()
            proxy.forget()


@pytest.fixture(scope="session")
def session_harmed(
    radosgw: S3Server, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harmed]:
    """The gateways, for all tests of this folder."""
    folder = tmp_path_factory.mktemp("harmed")
    with ExitStack() as stack:
        installation = stack.enter_context(new_installation(postgres, radosgw))
        proxies = {name: stack.enter_context(FaultProxy(installation.s3_port)) for name in ("pusher", "hot", "cold")}

        def started(name: str) -> Served:
            environment = installation.environment(s3_endpoint=proxies[name].endpoint if name in proxies else None)
            if name in {"cold", "sound"}:
                environment["SLUICE_STORAGE__STORAGES__DEFAULT__HOT_BYTES"] = "0"
            return stack.enter_context(Served(folder / name, environment=environment))

        harmed = Harmed(
            installation, started("pusher"), started("hot"), started("cold"), started("sound"), proxies=proxies
        )
        assert wait_until(lambda: _jobs_done(installation) >= _FIRST_JOBS, FIRST_JOBS_S)
        yield harmed


@pytest.fixture
def harmed(session_harmed: Harmed) -> Iterator[Harmed]:
    """The same, whole before and after each test."""
    session_harmed.heal()
    session_harmed.known_uploads.update(session_harmed.new_uploads())
    yield session_harmed
    session_harmed.heal()


def _jobs_done(installation: Installation) -> set[object]:
    return {name for (name,) in installation.rows("SELECT name FROM leases WHERE last_run_at IS NOT NULL")}


def heals(harmed: Harmed, pusher: Served, name: str, content: bytes) -> bool:
    """Whether after a push of it everybody has the blob again.

    What a pull found damaged is read once more before it is put aside, which the client does not wait for; a push until
    then is a second copy of it, so it is repeated.
    """

    def is_whole() -> bool:
        pushed = push(pusher, name, content)
        pulls = [pull(gateway, name, pushed.digest) for gateway in (harmed.hot, harmed.cold, harmed.sound)]
        return pushed.acknowledged and all(each.is_complete and each.body == content for each in pulls)

    return wait_until(is_whole, HEALED_S)
