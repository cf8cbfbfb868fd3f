"""What the client tests share: one served gateway behind a wiretap, and each client's daemon, for the whole run.

Sharing is safe because every test makes its own images and names. Each client is logged in once, as the administrator,
in a folder of its own; nothing of the machine's own clients is read or changed.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.containerd_client import Ctr, containerd_daemon
from tests.clients.docker_client import Docker, docker_daemon
from tests.clients.machines import Machine
from tests.clients.namespaces import here, obstacle
from tests.clients.podman_client import Podman, new_podman
from tests.clients.registry import Registry
from tests.clients.skopeo_client import Skopeo
from tests.clients.wiretap import Wiretap
from tests.served import ADMIN, Served

pytest.register_assert_rewrite("tests.clients.client_contract")

Finder = Callable[[str], Path]


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A folder for the run. Its path is short because the sockets of daemons lie in it, which may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="sluice-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # helm runs as nobody in a folder of it
        yield Path(folder)


@pytest.fixture(scope="session")
def machine(work: Path) -> Iterator[Machine]:
    """The machine that the tests run on; nothing that its own clients keep is seen or changed where that can be had."""
    (work / "host").mkdir()
    if obstacle() is not None:
        yield Machine(work / "host")
        return
    with here(work / "host") as apart:
        yield apart


@pytest.fixture(scope="session")
def registry(work: Path) -> Iterator[Registry]:
    """A gateway with repositories, and the tap in front of it."""
    pages = {"SLUICE_LIMITS__TAGS_PAGE": "3"}  # so small that whoever lists anything has to follow links
    with Served(work / "gateway", environment=pages) as gateway, Wiretap(gateway.port) as tap:
        made = gateway.api("POST", "/api/v1/projects", {"name": "clients"})
        assert made.status == 201, made
        for name in ("first", "second", "public", "immutable"):
            wanted = {
                "project": "clients",
                "name": name,
                "format": "docker",
                "repository_type": "hosted",
                "anonymous_read": name == "public",
                "immutable_tags": ["*"] if name == "immutable" else [],
            }
            made = gateway.api("POST", "/api/v1/repos", wanted)
            assert made.status == 201, made
        registry = Registry(gateway, tap, "clients/first", "clients/second", "clients/public", "clients/immutable")
        name, password = registry.colleague
        registry.must("POST", "/api/v1/users", {"name": name, "password": password})
        registry.must("PUT", f"/api/v1/projects/clients/grants/{name}", {"role": "writer"})
        yield registry


@pytest.fixture(autouse=True)
def no_fault(registry: Registry) -> Iterator[None]:
    """Whatever a client does in a test, the gateway answers nothing with 5xx."""
    with registry.watch() as seen:
        yield
    assert [str(each) for each in seen if each.status >= 500] == []


@pytest.fixture(scope="session")
def docker(program: Finder, machine: Machine, registry: Registry) -> Iterator[Docker]:
    """Docker with a daemon of its own."""
    apart("docker", program, "dockerd", "docker")
    with docker_daemon(machine, registry.address) as started:
        assert started.keep_login(*ADMIN).succeeded
        yield started


@pytest.fixture(scope="session")
def skopeo(program: Finder, machine: Machine, registry: Registry) -> Skopeo:
    """Skopeo."""
    program("skopeo")
    new = Skopeo(machine, machine.work / "skopeo-auth.json", registry.address)
    assert new.keep_login(*ADMIN).succeeded
    return new


@pytest.fixture(scope="session")
def podman(program: Finder, machine: Machine, registry: Registry) -> Podman:
    """Podman over an image store of its own."""
    apart("podman", program, "podman")
    new = new_podman(machine, registry.address)
    assert new.keep_login(*ADMIN).succeeded
    return new


@pytest.fixture(scope="session")
def buildah(program: Finder, machine: Machine, registry: Registry) -> Podman:
    """Buildah over an image store of its own."""
    apart("buildah", program, "buildah")
    new = new_podman(machine, registry.address, program="buildah")
    assert new.keep_login(*ADMIN).succeeded
    return new


@pytest.fixture(scope="session")
def ctr(program: Finder, machine: Machine, registry: Registry) -> Iterator[Ctr]:
    """Containerd and ctr."""
    apart("containerd", program, "containerd", "ctr")
    with containerd_daemon(machine, registry.address, ADMIN) as started:
        yield started


def apart(what: str, program: Finder, *names: str) -> None:
    """Skip where a program is missing, or where this one cannot run without touching the machine's own."""
    for name in names:
        program(name)
    if reason := obstacle():
        pytest.skip(f"{what}: {reason}")
