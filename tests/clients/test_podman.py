"""podman pushes and pulls."""

import pytest

from tests.clients.client_contract import ClientContract
from tests.clients.podman_client import Podman

pytestmark = pytest.mark.clients


class TestPodman(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, podman: Podman) -> Podman:
        """podman, logged in."""
        return podman
