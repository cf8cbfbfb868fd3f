"""One served gateway for all protocol rows; each test works in image names of its own."""

import uuid
from collections.abc import Iterator

import pytest

from tests.people import Login, Place, make_place, make_user
from tests.served import Served


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served gateway with its first administrator, project `common` and the catch-all `docker-hosted`."""
    with Served(tmp_path_factory.mktemp("gateway")) as served:
        yield served


@pytest.fixture(scope="session")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that goes by two names, believes forwarded headers from loopback, and allows little at once."""
    environment = {
        "SLUICE_SERVER__TRUSTED_PROXIES": "127.0.0.1",
        "SLUICE_SERVER__SERVER_NAMES": "127.0.0.1,registry.example",
        "SLUICE_LIMITS__UPLOADS_PER_ACCOUNT": "3",
        "SLUICE_ACCESS__PASSWORD_THREADS": "1",
        "SLUICE_ACCESS__PASSWORD_QUEUE": "1",
    }
    with Served(tmp_path_factory.mktemp("behind-proxy"), environment=environment) as served:
        yield served


@pytest.fixture
def name() -> str:
    """An image name that nobody else uses."""
    return f"common/docker-hosted/rows/{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def private(gateway: Served) -> Place:
    """A private repository in a project of its own, for tests of who may do what; people are made by each test."""
    return make_place(gateway)


@pytest.fixture(scope="session")
def outsider(gateway: Served) -> Login:
    """A user without any role."""
    return make_user(gateway)
