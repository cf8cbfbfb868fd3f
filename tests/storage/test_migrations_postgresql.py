"""The migrations on a PostgreSQL server of this test's own: the same tables, and triggers that count in commit order.

Nothing of the product talks to PostgreSQL yet; this keeps the schema true to it until it does.
"""

import os
import pwd
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage import migrations
from storage.metadata import blobs, grants, repositories, tags
from storage.metadata.tables import changes, metadata
from tests.storage.metadata.pieces import blob, digest, image, manifest
from tests.storage.metadata.samples import NOW, account
from tests.system_packages import PROGRAMS

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

_NEWEST = sa.select(changes.c.scope, changes.c.at).order_by(changes.c.at)


@pytest.fixture(scope="module")
def server() -> Iterator[sa.Engine]:
    """An empty server that listens on a socket in a folder of its own, and is stopped at the end."""
    initdb = next(program for program in PROGRAMS if program.name == "initdb").path()
    if initdb is None:
        pytest.skip("initdb is not installed")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="sluice-") as name, _served(Path(name), initdb.parent):
        url = sa.URL.create("postgresql+psycopg", username="test", database="postgres", query={"host": name})
        engine = sa.create_engine(url)
        yield engine
        engine.dispose()


@contextmanager
def _served(folder: Path, programs: Path) -> Iterator[None]:
    owner = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if owner is not None:
        os.chown(folder, pwd.getpwnam(owner).pw_uid, -1)
    data = str(folder / "data")

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", data, *arguments],
            check=True,
            user=owner,
            cwd=folder,
            env={"LC_ALL": "C"},
            timeout=60,
            stdout=subprocess.DEVNULL,
        )

    run("initdb", "--auth=trust", "--username=test", "--encoding=UTF8", "--no-sync")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=10"
    run("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture
def engine(server: sa.Engine) -> Iterator[sa.Engine]:
    """Migrated anew for each test."""
    with server.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
        migrations.upgrade(connection)
    yield server
    server.dispose()


def counted(engine: sa.Engine) -> dict[str, int]:
    """Every scope with its number, oldest first."""
    with engine.connect() as connection:
        return {row.scope: row.at for row in connection.execute(_NEWEST)}


def fill(tx: sa.Connection) -> None:
    """An image with a tag, a manifest and a link, and a reader of its repository."""
    place = image(tx)
    blob(tx, "layer", place)
    tags.put(tx, place.id, "latest", manifest(tx, place, "one"), by=None, now=NOW)
    manifest(tx, place, "two")
    grants.put(tx, account_id=account(tx, "someone").id, repository_id=1, role="reader", now=NOW)


def test_the_tables_are_those_of_the_code(engine: sa.Engine) -> None:
    """Alembic sees no difference between the migrated schema and `tables.py`."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
        assert list(compare_metadata(context, metadata)) == []


def test_acts_count_in_their_scopes(engine: sa.Engine) -> None:
    """As on SQLite: a push of the same counts nowhere, a tag that moves in its image, a repository in all it held."""
    with engine.begin() as tx:
        fill(tx)
    before = max(counted(engine).values())
    with engine.begin() as tx:
        blobs.link(tx, 1, digest("layer"), 1, now=NOW + 1)
        tags.put(tx, 1, "latest", 1, by=None, now=NOW + 1)
    assert max(counted(engine).values()) == before
    with engine.begin() as tx:
        tags.put(tx, 1, "latest", 2, by=None, now=NOW)
    assert {scope for scope, at in counted(engine).items() if at > before} == {"image:1"}
    moved = max(counted(engine).values())
    with engine.begin() as tx:
        repositories.delete(tx, 1)
    after = counted(engine)
    # repository, grant, image, tag, link and two manifests
    assert max(after.values()) == moved + 7
    assert {scope for scope, at in after.items() if at > moved} == {"access", "image:1"}


def test_numbers_become_visible_in_their_order(engine: sa.Engine) -> None:
    """Who has changed something first and commits last gets the higher number, and nobody waits before the commit."""
    with engine.begin() as tx:
        fill(tx)
        fill_second(tx)
    before = max(counted(engine).values(), default=0)
    with engine.connect() as slow, slow.begin():
        tags.delete(slow, 1, "latest")
        with engine.begin() as quick:
            tags.delete(quick, 2, "latest")
        assert {scope: at for scope, at in counted(engine).items() if at > before} == {"image:2": before + 1}
    assert {scope: at for scope, at in counted(engine).items() if at > before} == {
        "image:2": before + 1,
        "image:1": before + 2,
    }


def fill_second(tx: sa.Connection) -> None:
    """Another image, with a tag and two manifests, 3 and 4."""
    place = image(tx, "team/app/second")
    tags.put(tx, place.id, "latest", manifest(tx, place, "one"), by=None, now=NOW)
    manifest(tx, place, "two")


def test_writers_at_once_share_no_number_and_do_not_deadlock(engine: sa.Engine) -> None:
    """Four writers raise two scopes in opposite orders; a reader never sees the newest number fall or be skipped."""
    with engine.begin() as tx:
        fill(tx)
        fill_second(tx)
        for number in range(4):
            tags.put(tx, 1, f"{number}", 1, by=None, now=NOW)
            tags.put(tx, 2, f"{number}", 3, by=None, now=NOW)
    before, rounds = max(counted(engine).values(), default=0), 50
    failures: list[Exception] = []

    def write(number: int) -> None:
        try:
            for turn in range(1, rounds + 1):
                with engine.begin() as tx:
                    for place in (1, 2) if number % 2 else (2, 1):
                        tags.put(tx, place, f"{number}", 2 * place - 1 + turn % 2, by=None, now=NOW)
        except sa.exc.DBAPIError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for each in writers:
        each.start()
    seen: list[dict[str, int]] = []
    while any(each.is_alive() for each in writers):
        seen.append(counted(engine))
    for each in writers:
        each.join()
    assert failures == []
    newest = [max(each.values()) for each in seen]
    assert newest == sorted(newest)
    assert all(len(set(each.values())) == len(each) for each in seen)
    assert max(counted(engine).values()) == before + 4 * rounds * 2
