"""A gateway of two workers for the security rows, so that what one worker remembers is seen to matter."""

from collections.abc import Iterator

import pytest

from tests.people import Login, Place, grant, make_place, make_user
from tests.security.tenants import SECRET_LAYER
from tests.served import Served


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served gateway of two workers."""
    with Served(tmp_path_factory.mktemp("gateway"), arguments=("--workers", "2")) as served:
        yield served


@pytest.fixture(scope="session")
def private(gateway: Served) -> Place:
    """A private repository in a project of its own."""
    return make_place(gateway)


@pytest.fixture(scope="session")
def stranger(gateway: Served) -> Login:
    """A user without any role."""
    return make_user(gateway)


@pytest.fixture(scope="session")
def victim(gateway: Served, private: Place) -> str:
    """B's private image, tagged v1."""
    name = f"{private.name}/victim"
    gateway.push_image(name, "v1", SECRET_LAYER)
    return name


@pytest.fixture
def own(gateway: Served, stranger: Login) -> str:
    """An image name in a repository where A, the stranger, may do everything."""
    place = make_place(gateway)
    grant(gateway, stranger, "maintainer", place)
    return f"{place.name}/own"
