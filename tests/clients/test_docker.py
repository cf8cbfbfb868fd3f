"""docker, with a real daemon: login with a refresh token, push, pull, lists of platforms, and the short name."""

import pytest

from tests.clients.client_contract import ClientContract
from tests.clients.docker_client import Docker

pytestmark = pytest.mark.clients


class TestDocker(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, docker: Docker) -> Docker:
        """docker, logged in."""
        return docker
