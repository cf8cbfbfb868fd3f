"""Two repositories over one database and bytes in memory, with a clock that tests move."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.gateway.repositories.mirror import Mirror, mirror
from tests.gateway.repositories.shelf import Shelf
from tests.storage.conftest import memory_scene
from tests.storage.scene import Scene
from tests.upstream.scripted import ScriptedUpstream

__all__ = ["memory_scene"]


@pytest.fixture
def shelf(memory_scene: Scene) -> Shelf:
    """The repository `common/hosted`."""
    return Shelf(memory_scene, memory_scene.repository)


@pytest.fixture
def other(memory_scene: Scene) -> Shelf:
    """The repository `common/other`, over the same bytes."""
    return Shelf(memory_scene, memory_scene.other)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream without content."""
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
async def through(memory_scene: Scene, upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A process that pulls through from `upstream`."""
    async with mirror(memory_scene, upstream, tmp_path / "arrivals") as opened:
        yield opened
