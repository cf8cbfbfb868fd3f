"""The triggers of revision 0002: what counts, where, and that nothing gets past them."""

# ruff: noqa: S608 - statements are made of the names of our own tables and columns

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import AddressKind, Database, Transaction
from storage.metadata import (
    accounts,
    addresses,
    blobs,
    credentials,
    grants,
    manifests,
    members,
    projects,
    pulls,
    repositories,
    storages,
    tags,
    upstreams,
)
from storage.metadata.changes import ACCESS, blob_scope, image_scope
from storage.metadata.members import NewMember
from storage.metadata.tables import metadata
from tests.storage.counted import TABLES
from tests.storage.metadata.pieces import blob, digest, document, image, manifest
from tests.storage.metadata.samples import NOW, account, project, repository

IMAGE, BLOB = 70_007, 70_009  # beyond the number of scopes
COLUMNS = [(table, column) for table in TABLES for column in metadata.tables[table].columns.keys()]  # noqa: SIM118


@pytest.fixture
def driver(database_file: Path) -> Iterator[sqlite3.Connection]:
    """A connection of a stranger, who minds no constraints; what it does is never committed."""
    with closing(sqlite3.connect(database_file, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute("BEGIN")
        yield connection


def scopes(driver: sqlite3.Connection, statement: str, *values: object) -> set[str]:
    """Which scopes the statement counted in; it must have met one row. What counted before is forgotten."""
    driver.execute("DELETE FROM changes")
    assert driver.execute(statement, values).rowcount == 1
    return {row[0] for row in driver.execute("SELECT scope FROM changes")}


def value(column: sa.Column[object]) -> object:
    """Some value for the column; ids of images and blobs are what the tests expect."""
    if column.name == "image_id" or (column.table.name, column.name) == ("images", "id"):
        return IMAGE
    if (column.table.name, column.name) == ("blobs", "id"):
        return BLOB
    kind = column.type.python_type
    return {int: 5, str: "some", bool: True, bytes: b"some"}[kind]


def insert(driver: sqlite3.Connection, table: str) -> set[str]:
    """Put one row into the table; gives the scopes that it counted in."""
    columns = metadata.tables[table].columns
    marks = ", ".join("?" for _ in columns)
    statement = f"INSERT INTO {table} ({', '.join(columns.keys())}) VALUES ({marks})"
    return scopes(driver, statement, *[value(column) for column in columns])


def own_scope(table: str) -> set[str]:
    """The scope in which a change of the row made by `insert` counts, if it does."""
    counted = TABLES[table]
    if counted.image:
        return {image_scope(IMAGE)}
    if counted.blob:
        return {blob_scope(BLOB)}
    return {counted.scope} - {""}


def test_every_column_of_every_table_is_decided() -> None:
    """A new table or column fails here until somebody has said in `counted.py` whether it counts, and in which scope.

    If it does, a new revision has to make the table's triggers anew.
    """
    decided = {name: sorted((table.counts + " " + table.does_not).split()) for name, table in TABLES.items()}
    assert decided == {table.name: sorted(table.columns.keys()) for table in metadata.sorted_tables}


@pytest.mark.parametrize(("table", "column"), [each for each in COLUMNS if each[0] != "changes"])
def test_an_update_counts_as_decided(driver: sqlite3.Connection, table: str, column: str) -> None:
    """Each column, set to another value and to NULL and back where it may be, counts in its row's scope or nowhere."""
    insert(driver, table)
    subject = metadata.tables[table].columns[column]
    expected = own_scope(table) if column in TABLES[table].counts.split() else set()
    other = {int: 6, str: "other", bool: False, bytes: b"other"}[subject.type.python_type]
    if subject.nullable:
        assert scopes(driver, f"UPDATE {table} SET {column} = NULL") == expected
        assert scopes(driver, f"UPDATE {table} SET {column} = ?", value(subject)) == expected
    assert scopes(driver, f"UPDATE {table} SET {column} = ?", other) == expected


@pytest.mark.parametrize("table", [each for each in TABLES if each != "changes"])
def test_rows_that_come_go_and_stay_count_as_decided(driver: sqlite3.Connection, table: str) -> None:
    """A new row counts where it may end a successful answer, an update to the same values never, a removal always."""
    assert insert(driver, table) == (own_scope(table) if TABLES[table].on_insert else set())
    same = ", ".join(f"{column} = {column}" for column in metadata.tables[table].columns.keys())  # noqa: SIM118
    assert scopes(driver, f"UPDATE {table} SET {same}") == set()
    assert scopes(driver, f"DELETE FROM {table}") == own_scope(table)


@pytest.mark.parametrize("policy", ["", "OR IGNORE", "OR REPLACE", "OR FAIL", "OR ABORT", "OR ROLLBACK"])
def test_the_conflict_policy_of_a_statement_changes_nothing(driver: sqlite3.Connection, policy: str) -> None:
    """SQLite hands a statement's policy down to its triggers; the scope, which exists already, is still raised."""
    insert(driver, "tags")
    driver.execute("UPDATE tags SET name = 'second'")
    before = driver.execute("SELECT scope, at FROM changes").fetchall()
    driver.execute(f"UPDATE {policy} tags SET name = 'third'")
    assert driver.execute("SELECT scope, at FROM changes").fetchall() == [(scope, at + 1) for scope, at in before]


def test_an_upsert_counts(driver: sqlite3.Connection) -> None:
    """`INSERT ... ON CONFLICT DO UPDATE` that ends as an update is one."""
    insert(driver, "tags")
    upsert = (
        "INSERT INTO tags (image_id, name, manifest_id, created_at, moved_at) VALUES (?, 'some', 9, 0, 0)"
        " ON CONFLICT (image_id, name) DO UPDATE SET manifest_id = excluded.manifest_id"
    )
    assert scopes(driver, upsert, IMAGE) == {image_scope(IMAGE)}


def test_numbers_grow_and_are_never_used_twice(driver: sqlite3.Connection) -> None:
    """Whatever the scope, each change gets a higher number than all before, also when the newest is changed again."""
    insert(driver, "tags")
    insert(driver, "blobs")
    driver.execute("DELETE FROM changes")
    seen = []
    for statement in ("UPDATE tags SET name = 'b'", "UPDATE tags SET name = 'c'", "UPDATE blobs SET key = 'b'") * 2:
        driver.execute(statement)
        seen.append(driver.execute("SELECT max(at) FROM changes").fetchone()[0])
        driver.execute(statement.replace("'b'", "'x'").replace("'c'", "'y'"))
    assert seen == [1, 3, 5, 7, 9, 11]


# --- acts of ours, with foreign keys on --------------------------------------------------------------------------

Act = Callable[[Transaction], object]


async def counted(database: Database, act: Act) -> dict[str, int]:
    """The scopes in which the act counted, each with its number; `all`: how many changes were counted."""
    looking = database.changes()
    before = looking.look()
    assert before is not None
    await database.transaction(act)
    after = looking.look()
    assert after is not None
    names = [ACCESS, *(f"{kind}:{number}" for kind in ("image", "blob") for number in range(1, 9))]
    return {name: looking.changed_at(name) for name in names if looking.changed_at(name) > before} | {
        "all": after - before
    }


async def test_deleting_a_repository_counts_all_that_goes_with_it(database: Database) -> None:
    """The cascade fires the triggers: repository, grant, two images, and the tag, manifest and link of each."""

    def fill(tx: Transaction) -> None:
        someone = account(tx, "someone")
        for name in ("team/app/one", "team/app/two"):
            place = image(tx, name)
            blob(tx, "layer", place)
            tags.put(tx, place.id, "latest", manifest(tx, place, name), by=None, now=NOW)
        other = image(tx, "team/other/img")
        blob(tx, "layer", other)
        grants.put(tx, account_id=someone.id, repository_id=1, role="reader", now=NOW)

    await database.transaction(fill)
    found = await counted(database, lambda tx: repositories.delete(tx, 1))
    assert found.pop("all") == 2 + 2 * 4
    assert found.keys() == {ACCESS, image_scope(1), image_scope(2)}


async def test_deleting_a_project_counts_its_robots_and_what_is_theirs(database: Database) -> None:
    """The cascade of a cascade: project, robot, the robot's grant elsewhere, its key and the key's child."""

    def fill(tx: Transaction) -> None:
        team, other = project(tx, "team"), repository(tx, "other/app")
        robot = account(tx, "robot", kind="robot", project_id=team.id)
        grants.put(tx, account_id=robot.id, repository_id=other.id, role="reader", now=NOW)
        key = secret(tx, robot.id, "key")
        secret(tx, robot.id, "child", parent_id=key)

    await database.transaction(fill)
    found = await counted(database, lambda tx: projects.delete(tx, 1))
    assert (found.pop("all"), set(found)) == (5, {ACCESS})


async def test_deleting_an_account_counts_its_grants_and_secrets(database: Database) -> None:
    """Account, grant, key; and a key alone takes those made from it along."""

    def fill(tx: Transaction) -> None:
        someone = account(tx, "someone")
        grants.put(tx, account_id=someone.id, project_id=project(tx, "team").id, role="reader", now=NOW)
        key = secret(tx, someone.id, "key")
        secret(tx, someone.id, "child", parent_id=key)
        secret(tx, someone.id, "other")

    await database.transaction(fill)
    assert (await counted(database, lambda tx: credentials.delete(tx, 1)))["all"] == 2
    assert (await counted(database, lambda tx: accounts.delete(tx, 1)))["all"] == 3


def secret(tx: Transaction, account_id: int, name: str, parent_id: int | None = None) -> int:
    """A personal access token; its id."""
    return credentials.create(
        tx,
        account_id=account_id,
        kind="personal",
        secret_hash=name,
        label="",
        limits=None,
        service=None,
        parent_id=parent_id,
        created_at=NOW,
        expires_at=None,
    ).id


def _tagged(tx: Transaction) -> None:
    place = image(tx)
    blob_id = blob(tx, "layer", place)
    tags.put(tx, place.id, "latest", manifest(tx, place, "one"), by=None, now=NOW)
    someone = account(tx, "someone")
    secret(tx, someone.id, "key")
    assert (place.id, blob_id, repository(tx, "team/second").id) == (1, 1, 2)


def _push(tx: Transaction, *, name: str, layer: str, tag: str, place: str = "team/app/img") -> None:
    found = image(tx, place)
    blob(tx, layer, found, now=NOW + 1)
    tags.put(tx, found.id, tag, manifest(tx, found, name), by=7, now=NOW + 1)


SILENT: dict[str, Act] = {
    "a push of the same again": partial(_push, name="one", layer="layer", tag="latest"),
    "a push of what is new": partial(_push, name="second", layer="second", tag="second"),
    "a push to another image": partial(_push, name="one", layer="layer", tag="latest", place="team/app/new"),
    "links that are told of": lambda tx: blobs.touch(tx, [(1, digest("layer"))], now=NOW + 9),
    "secrets that are used": lambda tx: credentials.touch(tx, {1: NOW + 9}),
    "a new secret and account": lambda tx: secret(tx, account(tx, "else").id, "new"),
    "a storage that is there": lambda tx: storages.ensure(tx, "default"),
    "pulls that are noted": lambda tx: pulls.note(tx, [(1, document("one").digest, NOW + 9)]),
    "tags that are checked": lambda tx: upstreams.put_check(tx, 1, "latest", NOW + 9, '"x"'),
}
LOUD: dict[str, tuple[Act, set[str]]] = {
    "a tag that moves": (
        partial(_push, name="two", layer="layer", tag="latest"),
        {image_scope(1)},
    ),
    "a tag that goes": (lambda tx: tags.delete(tx, 1, "latest"), {image_scope(1)}),
    "a manifest that is deleted": (
        lambda tx: manifests.mark_deleted(tx, 1, tag_names=[], now=NOW),
        {image_scope(1)},
    ),
    "a link that goes": (lambda tx: blobs.unlink(tx, 1, digest("layer")), {image_scope(1)}),
    "a link to other bytes": (
        lambda tx: blobs.link(tx, 1, digest("layer"), blob(tx, "other"), now=NOW),
        {image_scope(1)},
    ),
    "a role": (
        lambda tx: grants.put(tx, account_id=1, repository_id=1, role="reader", now=NOW),
        {ACCESS},
    ),
    "a password": (lambda tx: accounts.set_password(tx, 1, "hash", NOW), {ACCESS}),
    "a host of its own": (lambda tx: addresses.put(tx, 1, AddressKind.HOST, ["own.example"]), {ACCESS}),
    "a member": (lambda tx: members.put(tx, 1, [NewMember(2)]), {ACCESS}),
    "a setting": (lambda tx: repositories.update(tx, 1, now=NOW, anonymous_read=True), {ACCESS}),
}


@pytest.mark.parametrize("name", SILENT)
async def test_what_a_busy_registry_does_all_the_time_counts_nowhere(database: Database, name: str) -> None:
    """Pushes of the same or of something new, renewed links and times of use end nobody's memory."""
    await database.transaction(_tagged)
    assert await counted(database, SILENT[name]) == {"all": 0}


@pytest.mark.parametrize("name", LOUD)
async def test_what_ends_an_answer_counts_once(database: Database, name: str) -> None:
    """One act, one change, in exactly the scope that it concerns."""
    await database.transaction(_tagged)
    act, expected = LOUD[name]
    found = await counted(database, act)
    assert (found.pop("all"), set(found)) == (1, expected)
