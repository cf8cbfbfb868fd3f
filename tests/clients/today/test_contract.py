"""What every client does, by today's docker, podman, skopeo, containerd, oras and crane."""

import pytest

from tests.clients.client_contract import ClientContract
from tests.clients.containerd_client import Ctr
from tests.clients.docker_client import Docker
from tests.clients.podman_client import Podman
from tests.clients.skopeo_client import Skopeo
from tests.clients.today.crane_client import Crane
from tests.clients.today.oras_client import OrasCommand
from tests.clients.today.suites import with_package

pytestmark = pytest.mark.clients


class TestDocker(ClientContract):
    """docker with either image store."""

    @pytest.fixture
    def client(self, docker: Docker) -> Docker:
        """docker, logged in."""
        return docker


class TestPodman(ClientContract):
    """podman."""

    @pytest.fixture
    def client(self, podman: Podman) -> Podman:
        """podman, logged in."""
        return podman


class TestSkopeo(ClientContract):
    """skopeo."""

    @pytest.fixture
    def client(self, skopeo: Skopeo) -> Skopeo:
        """skopeo, logged in."""
        return skopeo


class TestContainerd(ClientContract):
    """containerd."""

    @pytest.fixture
    def client(self, ctr: Ctr) -> Ctr:
        """The command line with credentials."""
        return ctr


class TestOras(ClientContract):
    """oras."""

    @pytest.fixture
    def client(self, oras: OrasCommand) -> OrasCommand:
        """oras, logged in."""
        return oras


@pytest.mark.parametrize("suite", with_package("crane"), indirect=True, ids=str)
class TestCrane(ClientContract):
    """crane."""

    @pytest.fixture
    def client(self, crane: Crane) -> Crane:
        """crane, logged in."""
        return crane
