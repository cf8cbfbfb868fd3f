"""containerd, by `ctr`, pushes and pulls."""

import pytest

from tests.clients.client_contract import ClientContract
from tests.clients.containerd_client import Ctr

pytestmark = pytest.mark.clients


class TestContainerd(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, ctr: Ctr) -> Ctr:
        """Ctr with credentials."""
        return ctr
