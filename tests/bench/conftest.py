"""Registries over a bucket, started once: the service takes ten seconds, and every test of it has names of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bench.cases.case import Outcome
from bench.contenders.contender import Contender, Server, Start
from bench.contenders.on_bucket import docker_registry_on, sluice_on
from bench.jobs import Job
from bench.loads import drive
from bench.peers.radosgw import Radosgw
from bench.processes import Cores

FREE = Cores(frozenset(), frozenset())


@dataclass
class Stand:
    """A running server, as `bench.run` gives it to cases."""

    server: Server
    contender: Contender
    cores: Cores = FREE
    round: int = 1

    def drive(self, *jobs: Job) -> Outcome:
        """Really."""
        return drive(jobs, tree=self.server.processes, cores=self.cores)


@pytest.fixture(scope="session")
def bucket_stands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stand]]:
    """Ours and docker-registry over one service, by their names; the peer only where it is installed."""
    service = Radosgw("memstore")
    if why := service.missing():
        pytest.skip(why)
    stands: dict[str, Stand] = {}
    try:
        for contender in (sluice_on(service), docker_registry_on(service)):
            if contender.missing() is None:
                place = tmp_path_factory.mktemp(contender.name)
                stands[contender.name] = Stand(contender.start(Start(place, FREE)), contender)
        yield stands
    finally:
        for stand in stands.values():
            stand.server.stop()


@pytest.fixture(params=["sluice-s3", "docker-registry-s3"])
def bucket_stand(bucket_stands: dict[str, Stand], request: pytest.FixtureRequest) -> Stand:
    """Each of them."""
    if request.param not in bucket_stands:
        pytest.skip(f"{request.param} is not there")
    return bucket_stands[request.param]
