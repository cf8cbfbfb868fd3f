"""Today's clients: each of them, of each suite that is prepared, over the gateway that all client tests share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from tests.clients.containerd_client import Ctr, containerd_daemon
from tests.clients.docker_client import Docker, docker_daemon
from tests.clients.machines import Machine
from tests.clients.namespaces import obstacle, there
from tests.clients.podman_client import Podman, new_podman
from tests.clients.registry import Registry
from tests.clients.skopeo_client import Skopeo
from tests.clients.today.crane_client import Crane
from tests.clients.today.oras_client import OrasCommand
from tests.clients.today.suites import SUITES, Suite
from tests.served import ADMIN


@pytest.fixture(scope="session", params=SUITES, ids=str)
def suite(request: pytest.FixtureRequest) -> Suite:
    """Each suite that is complete; the others are skipped with what was in the way."""
    chosen: Suite = request.param
    if reason := obstacle():
        pytest.skip(f"today's clients: {reason}")
    if not chosen.complete():
        pytest.skip(f"today's clients: {chosen.reason()}")
    return chosen


@pytest.fixture(scope="session")
def guests(work: Path) -> Iterator[Callable[[Suite], Machine]]:
    """The machine in a suite's folder, entered once for all tests."""
    with ExitStack() as stack:

        @cache
        def entered(suite: Suite) -> Machine:
            folder = work / suite.name
            folder.mkdir()
            return stack.enter_context(there(suite.folder, folder))

        yield entered


@pytest.fixture(scope="session")
def guest(suite: Suite, guests: Callable[[Suite], Machine]) -> Machine:
    """The machine in the suite's folder."""
    return guests(suite)


@pytest.fixture(scope="session", params=[False, True], ids=["classic", "containerd-store"])
def docker(request: pytest.FixtureRequest, guest: Machine, registry: Registry) -> Iterator[Docker]:
    """A daemon of its own, with either image store."""
    with docker_daemon(guest, registry.address, containerd_store=request.param) as started:
        assert started.keep_login(*ADMIN).succeeded
        yield started


@pytest.fixture(scope="session")
def skopeo(guest: Machine, registry: Registry) -> Skopeo:
    """Somebody who is logged in."""
    new = Skopeo(guest, guest.work / "skopeo-auth.json", registry.address)
    assert new.keep_login(*ADMIN).succeeded
    return new


@pytest.fixture(scope="session")
def podman(guest: Machine, registry: Registry) -> Podman:
    """Somebody logged in, over an image store of its own, of the kind that people use."""
    new = new_podman(guest, registry.address, driver="overlay")
    assert new.keep_login(*ADMIN).succeeded
    return new


@pytest.fixture(scope="session")
def ctr(guest: Machine, registry: Registry) -> Iterator[Ctr]:
    """A daemon of its own, and ctr with credentials."""
    with containerd_daemon(guest, registry.address, ADMIN) as started:
        yield started


@pytest.fixture(scope="session")
def oras(guest: Machine, registry: Registry) -> OrasCommand:
    """The oras command."""
    new = OrasCommand(guest, guest.work / "oras.json", registry.address)
    assert new.keep_login(*ADMIN).succeeded
    return new


@pytest.fixture(scope="session")
def crane(guest: Machine, registry: Registry) -> Crane:
    """Somebody who is logged in."""
    new = Crane(guest, guest.work / "crane", registry.address)
    assert new.keep_login(*ADMIN).succeeded
    return new
