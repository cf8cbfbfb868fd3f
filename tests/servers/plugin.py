"""Fixtures that give any test a real S3 service or a real PostgreSQL server; both are started when first asked for.

There is one of each per pytest process, shared by its tests: every test has a bucket, a prefix or a database of its
own. A test that asks is marked with the server's name, so that it runs where there is time for it.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # boto3 and psycopg take their time to import; most runs need neither
    from tests.servers.bucket_server import S3Server
    from tests.servers.installation import Installation
    from tests.servers.postgres import PostgresServer

Finder = Callable[[str], Path]
MARKERS = {"radosgw": "s3", "swift": "swift", "postgres": "postgres"}
"""What a test that uses the fixture is marked with."""


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the servers that it needs, also where it asks through another fixture."""
    for item in items:
        for fixture, marker in MARKERS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(getattr(pytest.mark, marker))


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder with a short path that servers run by other users may enter."""
    with tempfile.TemporaryDirectory(prefix="sluice-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def radosgw(program: Finder, server_folder: Path) -> Iterator["S3Server"]:
    """Ceph's S3 service, over http and https."""
    from tests.servers.radosgw import PROGRAMS, serve  # noqa: PLC0415

    for name in PROGRAMS:
        program(name)
    with serve(server_folder / "radosgw") as server:
        yield server


@pytest.fixture
def bucket(radosgw: "S3Server") -> str:
    """A new bucket of `radosgw`."""
    return radosgw.new_bucket()


@pytest.fixture(scope="session")
def swift(program: Finder, server_folder: Path) -> Iterator["S3Server"]:
    """Swift's S3 interface: no conditional writes, no https, and slow on small objects."""
    from tests.servers.swift import PROGRAMS, serve  # noqa: PLC0415

    for name in PROGRAMS:
        program(name)
    with serve(server_folder / "swift") as server:
        yield server


@pytest.fixture(scope="session")
def postgres(program: Finder) -> Iterator["PostgresServer"]:
    """A PostgreSQL server. A test that makes it fail asks for `shaken_postgres` instead."""
    pytest.importorskip("psycopg")
    from tests.servers.postgres import serve  # noqa: PLC0415

    programs = program("initdb").parent
    with tempfile.TemporaryDirectory(prefix="sluice-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with serve(Path(folder), programs) as server:
            yield server


@pytest.fixture
def shaken_postgres(postgres: "PostgresServer") -> Iterator["PostgresServer"]:
    """The same server for a test that stops, kills, pauses or limits it; afterwards it is whole again."""
    yield postgres
    postgres.heal()


@pytest.fixture
def postgres_database(postgres: "PostgresServer") -> Iterator[str]:
    """The name of a database with all tables and no rows that no other test sees."""
    name = postgres.new_database()
    yield name
    postgres.heal()
    postgres.drop(name)


@pytest.fixture
def postgres_url(postgres: "PostgresServer", postgres_database: str) -> str:
    """The URL of `postgres_database`, over TCP."""
    return postgres.url_of(postgres_database)


@pytest.fixture
def empty_postgres_url(postgres: "PostgresServer") -> Iterator[str]:
    """The URL of a database without tables."""
    name = postgres.new_database(migrated=False)
    yield postgres.url_of(name)
    postgres.drop(name)


@pytest.fixture
def installation(radosgw: "S3Server", postgres: "PostgresServer") -> Iterator["Installation"]:
    """An empty database without tables and an empty bucket, for gateways that the test starts."""
    from tests.servers.installation import new_installation  # noqa: PLC0415

    with new_installation(postgres, radosgw) as made:
        yield made
