"""The reads that every request makes find their rows by an index, however many rows there are."""

from collections.abc import Callable
from functools import partial

import pytest

from storage import AddressKind, Database, Door, Transaction
from storage.metadata import (
    accounts,
    addresses,
    credentials,
    grants,
    members,
    repositories,
    signing_keys,
    storages,
    upstreams,
)
from tests.storage.hearing import statements

pytestmark = pytest.mark.parametrize("closed_database", ["sqlite"], indirect=True)  # asked in SQLite's own words

Read = Callable[[Transaction], object]


def plan(transaction: Transaction, read: Read) -> list[str]:
    """What SQLite would do for each statement of `read`."""
    with statements(transaction) as heard:
        read(transaction)
    return [row[3] for text in heard for row in transaction.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]


@pytest.mark.parametrize(
    "read",
    [
        partial(repositories.route, name="a/b/c/d"),
        partial(repositories.route, name="img"),
        partial(repositories.route, name="a/b/c/d", door=Door(host="a.example")),
        partial(repositories.route, name="img", door=Door(namespace="docker.io")),
        partial(repositories.route, name="img", door=Door(repository="a/b")),
        partial(repositories.find, project="a", name="b"),
        partial(repositories.get, repository_id=1),
        partial(repositories.by_alias, prefixes=["a", "a/b"]),
        repositories.catch_all,
        partial(addresses.find, kind=AddressKind.HOST, name="a.example"),
        partial(addresses.names_of, repository_id=1),
        partial(members.virtuals_of, member_id=1),
        partial(members.of, repository_id=1),
        partial(upstreams.credentials, repository_id=1),
        partial(upstreams.budget, name="a"),
        partial(upstreams.checked, image_id=1, tag="a"),
        partial(credentials.by_hash, secret_hash="aa"),
        partial(credentials.of_account, account_id=1, kind="personal"),
        partial(grants.roles, account_id=1, repository_id=1, project_id=1),
        partial(grants.of_account, account_id=1),
        partial(grants.on_project, project_id=1),
        partial(grants.on_repository, repository_id=1),
        partial(accounts.get, account_id=1),
        partial(accounts.find, name="a"),
        partial(accounts.password_hash, account_id=1),
    ],
    ids=lambda read: getattr(read, "func", read).__name__,
)
async def test_a_hot_read_scans_no_table(database: Database, read: Read) -> None:
    """Each step of the plan is a SEARCH by key or index, never a SCAN."""
    steps = await database.survey(plan, read)
    assert steps
    assert [step for step in steps if step.startswith("SCAN")] == []


async def test_the_check_can_fail(database: Database) -> None:
    """A read that does go through a whole table is noticed."""
    assert any(step.startswith("SCAN") for step in await database.survey(plan, storages.names))
    assert any(step.startswith("SCAN") for step in await database.survey(plan, partial(signing_keys.current, now=1)))
