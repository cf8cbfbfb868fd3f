"""The list of all contenders that the suite can start here."""

from bench.contenders.contender import Contender
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.nginx import Nginx
from bench.contenders.sluice import Sluice


def all_contenders() -> tuple[Contender, ...]:
    """Ours first, then the peers; `sluice-2-workers` only takes part in cases that name it."""
    return (
        Sluice(),
        Sluice("sluice-2-workers", workers=2),
        DockerRegistry(),
        DockerRegistry("docker-registry-open", tokens=False),
        Nginx(),
    )
