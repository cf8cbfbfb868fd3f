"""buildah builds, pushes and pulls."""

import pytest

from tests.clients.client_contract import ClientContract
from tests.clients.podman_client import Podman

pytestmark = pytest.mark.clients


class TestBuildah(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, buildah: Podman) -> Podman:
        """buildah, logged in."""
        return buildah
