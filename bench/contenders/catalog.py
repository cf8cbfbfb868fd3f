"""The list of all contenders that the suite can start here."""

from bench.contenders.contender import Contender
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.nginx import Nginx
from bench.contenders.on_bucket import docker_registry_on, sluice_on
from bench.contenders.sluice import Sluice
from bench.contenders.through import docker_registry_through, sluice_through
from bench.peers.radosgw import Radosgw


def all_contenders() -> tuple[Contender, ...]:
    """Ours first, then the peers; those on buckets share one service and only take part in cases about that.

    Those with two workers only take part in cases that name them.
    """
    service = Radosgw()
    return (
        Sluice(),
        Sluice("sluice-2-workers", workers=2),
        sluice_on(service),
        sluice_through(),
        sluice_through("sluice-proxy-2-workers", workers=2),
        DockerRegistry(),
        DockerRegistry("docker-registry-open", tokens=False),
        docker_registry_on(service),
        docker_registry_through(),
        Nginx(),
    )
