"""Two replicas for all tests that do them no harm; each of those uses names of its own."""

from collections.abc import Iterator

import pytest

from tests.replicas.pair import Replicas, serve
from tests.servers.bucket_server import S3Server
from tests.servers.installation import new_installation
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def replicas(
    radosgw: S3Server, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """Two gateways with default settings behind a front."""
    folder = tmp_path_factory.mktemp("replicas")
    with new_installation(postgres, radosgw) as installation, serve(installation, folder) as running:
        yield running
