"""A gateway of two workers for the security rows, so that what one worker remembers is seen to matter."""

from collections.abc import Iterator

import pytest

from tests.people import Login, Place, make_place, make_user
from tests.served import Served


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served gateway of two workers, for one module of tests."""
    with Served(tmp_path_factory.mktemp("gateway"), arguments=("--workers", "2")) as served:
        yield served


@pytest.fixture(scope="module")
def private(gateway: Served) -> Place:
    """A private repository in a project of its own."""
    return make_place(gateway)


@pytest.fixture(scope="module")
def stranger(gateway: Served) -> Login:
    """A user without any role."""
    return make_user(gateway)
