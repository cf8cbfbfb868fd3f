"""A fresh database for each test: migrated once per run, then copied."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio

from storage import Database, FilesystemStore, MemoryStore, Pool, SqliteDatabase, arrival, intake_source
from storage.metadata import storages
from storage.metadata.tables import metadata
from tests.servers.postgres import PostgresServer
from tests.storage.arrivals_place import Dock, dock
from tests.storage.database_process import database_at
from tests.storage.directory import open_below
from tests.storage.pair import Pair
from tests.storage.place import areas_of
from tests.storage.scene import Clock, Scene

_EMPTY = f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed SQLite file with all tables and no rows, to be copied; it has no log beside it."""
    path = tmp_path_factory.mktemp("database") / "template.db"

    async def migrate() -> None:
        async with SqliteDatabase(path) as database:
            await database.migrate()

    trio.run(migrate)
    return path


@pytest.fixture
def database_file(migrated_file: Path, tmp_path: Path) -> Path:
    """The path of this test's own SQLite file."""
    return Path(shutil.copy(migrated_file, tmp_path / "sluice.db"))


@pytest.fixture
async def database(database_file: Path) -> AsyncIterator[Database]:
    """An open, migrated, empty database that no other test sees."""
    async with SqliteDatabase(database_file) as opened:
        yield opened


@pytest.fixture(scope="session")
def rows_database(postgres: PostgresServer) -> Iterator[str]:
    """The name of a migrated database that tests empty before they use it: quicker than one for each."""
    name = postgres.new_database()
    yield name
    postgres.drop(name)


@pytest.fixture
def rows_url(postgres: PostgresServer, rows_database: str) -> str:
    """The URL of a migrated database without rows, whose ids begin with 1."""
    postgres.execute(_EMPTY, rows_database)
    return postgres.url_of(rows_database, "socket")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])])
def database_place(request: pytest.FixtureRequest) -> str:
    """Where a migrated, empty database of either kind is: a path or a URL, for `database_process.database_at`."""
    return str(request.getfixturevalue("database_file" if request.param == "sqlite" else "rows_url"))


@pytest.fixture
def databases(database_place: str) -> Callable[[], Database]:
    """Makes any number of databases over the same rows, none at first; on either kind. Not yet opened."""
    return lambda: database_at(database_place)


@pytest.fixture
async def any_database(databases: Callable[[], Database]) -> AsyncIterator[Database]:
    """An open, migrated, empty database of either kind."""
    async with databases() as opened:
        yield opened


@pytest.fixture
async def memory_scene(database: Database) -> Scene:
    """An installation whose bytes lie in memory."""
    clock = Clock()
    return await Scene(database, MemoryStore(clock=clock), clock).prepare()


@pytest.fixture
async def directory_scene(database: Database, tmp_path: Path) -> Scene:
    """An installation whose bytes lie in `tmp_path / "blobs"`."""
    store = FilesystemStore(tmp_path / "blobs", pool=Pool("disk", 4))
    await store.prepare()
    return await Scene(database, store, Clock()).prepare()


@pytest.fixture(params=["memory", "directory"])
def scene(request: pytest.FixtureRequest) -> Scene:
    """An installation, once over each store."""
    made: Scene = request.getfixturevalue(f"{request.param}_scene")
    return made


@pytest.fixture
async def docked(directory_scene: Scene, tmp_path: Path) -> AsyncIterator[Dock]:
    """Arrivals over a directory; every test ends with nothing open and nothing staged."""
    async with dock(directory_scene, tmp_path / "arrivals") as made:
        yield made
        await made.idle()
        assert await areas_of(directory_scene.store) == {}
        assert open_below(tmp_path / "arrivals") == open_below(tmp_path / "blobs") == []


@pytest.fixture
def quick_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are short: a clock that jumps would end clean-up that waits for threads."""
    monkeypatch.setattr(intake_source, "_PAUSE_S", 0.001)
    monkeypatch.setattr(arrival, "_PAUSES_S", (0.001, 0.001, 0.001))
    monkeypatch.setattr(arrival, "_LOOK_S", 0.01)
    monkeypatch.setattr(arrival, "_LONGEST_LOOK_S", 0.01)


@pytest.fixture
async def target_database(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated, empty database, open."""
    async with SqliteDatabase(Path(shutil.copy(migrated_file, tmp_path / "new.db"))) as opened:
        yield opened


@pytest.fixture
async def pair(memory_scene: Scene, target_database: Database) -> Pair:
    """Two installations in memory; their databases number storages differently."""
    await target_database.transaction(storages.ensure, "another")
    made = Pair(memory_scene, target_database, MemoryStore(clock=memory_scene.clock))
    await made.furnish()
    return made
