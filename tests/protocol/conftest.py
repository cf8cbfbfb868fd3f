"""One served gateway for all protocol rows; each test works in image names of its own."""

import uuid
from collections.abc import Iterator

import pytest

from tests.served import Served


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served gateway with its first administrator, project `common` and the catch-all `docker-hosted`."""
    with Served(tmp_path_factory.mktemp("gateway")) as served:
        yield served


@pytest.fixture
def name() -> str:
    """An image name that nobody else uses."""
    return f"common/docker-hosted/rows/{uuid.uuid4().hex[:12]}"
