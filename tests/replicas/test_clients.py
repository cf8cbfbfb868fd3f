"""Real clients through two replicas: docker and skopeo do not notice that each of their requests goes elsewhere."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import apart, machine, work
from tests.clients.docker_client import Docker, docker_daemon
from tests.clients.images import arrival, make_image, make_index
from tests.clients.machines import Machine
from tests.clients.skopeo_client import Skopeo
from tests.replicas.pair import Replicas
from tests.served import ADMIN

__all__ = ["machine", "work"]
pytestmark = [pytest.mark.replicas, pytest.mark.slow, pytest.mark.timeout(180)]

Finder = Callable[[str], Path]
NAME = "team/from"


@pytest.fixture
def docker(program: Finder, machine: Machine, replicas: Replicas) -> Iterator[Docker]:
    """Docker with a daemon of its own, logged in at the front."""
    apart("docker", program, "dockerd", "docker")
    with docker_daemon(machine, replicas.front.address) as started:
        assert started.keep_login(*ADMIN).succeeded
        yield started


@pytest.fixture
def skopeo(program: Finder, machine: Machine, replicas: Replicas) -> Skopeo:
    """Skopeo, logged in at the front."""
    program("skopeo")
    new = Skopeo(machine, machine.work / "skopeo-auth.json", replicas.front.address)
    assert new.keep_login(*ADMIN).succeeded
    return new


def dealt(replicas: Replicas, mark: int) -> list[int]:
    """How many requests each replica has got since then; none of them was answered with a fault."""
    turns = replicas.front.turns[mark:]
    assert [str(turn) for turn in turns if turn.status >= 500 or turn.status == 0] == []
    return [sum(turn.replica == number for turn in turns) for number in range(2)]


def test_docker(docker: Docker, replicas: Replicas) -> None:
    """An image is pushed, pushed again and pulled; it arrives as it was, and both replicas had half of the work."""
    image = make_image(layers=4, layer_bytes=3_000_000)
    reference = f"{replicas.front.address}/{NAME}-docker:v1"
    mark = len(replicas.front.turns)

    docker.push(image, reference)
    docker.run("push", reference)

    assert docker.pull(reference) == arrival(image)
    first, second = dealt(replicas, mark)
    assert abs(first - second) <= 1
    assert first > 10


def test_skopeo(skopeo: Skopeo, replicas: Replicas) -> None:
    """An index of two platforms is pushed and copied back with the same bytes."""
    index = make_index("linux/amd64", "linux/arm64", layers=3, layer_bytes=2_000_000)
    reference = f"{replicas.front.address}/{NAME}-skopeo:v1"
    mark = len(replicas.front.turns)

    skopeo.push_index(index, reference)

    assert skopeo.raw(reference) == index.manifest
    assert skopeo.pull(reference, "linux/arm64") == arrival(index.images[1])
    assert all(count > 10 for count in dealt(replicas, mark))
