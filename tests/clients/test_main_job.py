"""The main job: an image for several platforms, pushed by one client, survives kill -9 and is pulled by the others.

Real input: the layers are random bytes, text, and whole folders of this machine with their modes, links and times.
"""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import Finder, apart
from tests.clients.containerd_client import containerd_daemon
from tests.clients.docker_client import docker_daemon
from tests.clients.images import Image, Index, arrival, make_image, make_tar, sha256
from tests.clients.machines import Machine
from tests.clients.podman_client import new_podman
from tests.clients.registry import Registry
from tests.clients.skopeo_client import Skopeo
from tests.clients.wiretap import Exchange, Wiretap
from tests.served import ADMIN, Served

pytestmark = pytest.mark.clients

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")
NAME = "common/docker-hosted/main-job"


@pytest.fixture
def doomed(work: Path) -> Iterator[Registry]:
    """A gateway of its own, because it will be killed."""
    with Served(work / "doomed") as gateway, Wiretap(gateway.port) as tap:
        yield Registry(gateway, tap, NAME, NAME, NAME, NAME)


def real_index() -> Index:
    """Images for three platforms that share their lowest layer, which is made of real files."""
    standard = Path(sysconfig.get_path("stdlib"))
    shared = make_tar({"etc/issue": b"Sluice\n"}, trees=[standard / "json", standard / "email", standard / "asyncio"])
    images = []
    for platform in PLATFORMS:
        own = make_image(platform, layers=3, layer_bytes=2_000_000)
        images.append(Image(platform, (shared, *own.tars)))
    return Index(tuple(images))


def test_an_image_survives_kill_9(doomed: Registry, machine: Machine, program: Finder) -> None:
    """Killed with kill -9 before the pusher even sees the last 201, the gateway comes back with every byte."""
    for name in ("skopeo", "podman", "dockerd", "docker", "containerd", "ctr"):
        apart("main job", program, name)
    index = real_index()
    reference = doomed.reference(NAME, "1.0")
    skopeo = Skopeo(machine, machine.work / "main-job-auth.json", doomed.address)
    assert skopeo.keep_login(*ADMIN).succeeded
    layout = skopeo.write(index)
    doomed.tap.before_answer(last_of_the_push, doomed.gateway.kill)

    skopeo.run("copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:made", f"docker://{reference}")
    assert doomed.gateway.process is not None
    assert doomed.gateway.process.returncode == -9
    doomed.gateway.start()

    stored = doomed.stored(NAME, "1.0")
    assert stored.digest == sha256(index.manifest)
    assert stored.images == [arrival(image) for image in index.images]
    _pulled_by_podman(doomed, machine, index.of("linux/arm64"), reference)
    _pulled_by_docker(doomed, machine, index.of("linux/amd64"), reference)
    _pulled_by_containerd(doomed, machine, index.of("linux/s390x"), reference)
    assert skopeo.raw(reference) == index.manifest
    assert [str(each) for each in doomed.tap.exchanges if each.status >= 500] == []


def last_of_the_push(exchange: Exchange) -> bool:
    """Whether this answer acknowledges the index."""
    return exchange.method == "PUT" and exchange.path.endswith("/manifests/1.0") and exchange.status == 201


def _pulled_by_podman(registry: Registry, machine: Machine, image: Image, reference: str) -> None:
    podman = new_podman(machine, registry.address)
    assert podman.keep_login(*ADMIN).succeeded
    assert podman.pull(reference, image.platform) == arrival(image)


def _pulled_by_docker(registry: Registry, machine: Machine, image: Image, reference: str) -> None:
    with docker_daemon(machine, registry.address) as docker:
        assert docker.keep_login(*ADMIN).succeeded
        assert docker.pull(reference, image.platform) == arrival(image)


def _pulled_by_containerd(registry: Registry, machine: Machine, image: Image, reference: str) -> None:
    with containerd_daemon(machine, registry.address, ADMIN) as ctr:
        assert ctr.pull(reference, image.platform) == arrival(image)
