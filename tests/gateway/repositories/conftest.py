"""Two repositories over one database and bytes in memory, with a clock that tests move."""

import pytest

from tests.gateway.repositories.shelf import Shelf
from tests.storage.conftest import memory_scene
from tests.storage.scene import Scene

__all__ = ["memory_scene"]


@pytest.fixture
def shelf(memory_scene: Scene) -> Shelf:
    """The repository `common/hosted`."""
    return Shelf(memory_scene, memory_scene.repository)


@pytest.fixture
def other(memory_scene: Scene) -> Shelf:
    """The repository `common/other`, over the same bytes."""
    return Shelf(memory_scene, memory_scene.other)
