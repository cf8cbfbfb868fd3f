"""Two repositories over one database and bytes in memory, with a clock that tests move."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage import Database, MemoryStore
from tests.gateway.repositories.mirror import Mirror, mirror
from tests.gateway.repositories.shelf import Shelf
from tests.storage.conftest import any_database, database_place, databases, memory_scene, rows_database, rows_url
from tests.storage.scene import Clock, Scene
from tests.upstream.scripted import ScriptedUpstream

__all__ = ["any_database", "database_place", "databases", "memory_scene", "rows_database", "rows_url"]


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


@pytest.fixture
async def anywhere(any_database: Database, upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Mirror]:
    """The same, over a database of either kind."""
    clock = Clock()
    scene = await Scene(any_database, MemoryStore(clock=clock), clock).prepare()
    async with mirror(scene, upstream, tmp_path / "arrivals") as opened:
        yield opened
