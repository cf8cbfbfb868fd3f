"""Grants: one role per account and place, and what an account holds where."""

import pytest
import sqlalchemy as sa

from storage import Conflict, Database, Transaction
from storage.metadata import accounts, grants, tables
from tests.storage.metadata.samples import NOW, account, repository


async def test_a_second_role_on_the_same_place_replaces_the_first(database: Database) -> None:
    """`put` twice leaves one grant with the later role, for projects as for repositories."""
    user = await database.transaction(account, "user")
    place = await database.transaction(repository, "team/app")
    for scope in ({"project_id": place.project_id}, {"repository_id": place.id}):
        first = await database.transaction(grants.put, account_id=user.id, role="reader", now=NOW, **scope)
        second = await database.transaction(grants.put, account_id=user.id, role="writer", now=NOW + 1, **scope)
        assert second.id == first.id
        assert second.role == "writer"
    assert [grant.role for grant in await database.read(grants.of_account, user.id)] == ["writer", "writer"]


async def test_the_database_itself_refuses_a_second_grant_on_the_same_place(database: Database) -> None:
    """Also two writers that did not see each other could not give two roles."""
    user = await database.transaction(account, "user")
    place = await database.transaction(repository, "team/app")

    def insert(transaction: Transaction, column: str, target: int) -> None:
        values = {"account_id": user.id, column: target, "role": "reader", "created_at": NOW}
        transaction.execute(sa.insert(tables.grants), values)

    for column, target in (("project_id", place.project_id), ("repository_id", place.id)):
        await database.transaction(insert, column, target)
        with pytest.raises(Conflict, match="exists already"):
            await database.transaction(insert, column, target)


@pytest.mark.parametrize("scope", [{}, {"project_id": 1, "repository_id": 1}])
async def test_a_grant_is_on_one_place(database: Database, scope: dict[str, int]) -> None:
    """Neither nothing nor both can be granted."""
    user = await database.transaction(account, "user")
    await database.transaction(repository, "team/app")
    with pytest.raises(Conflict, match="one_scope"):
        await database.transaction(grants.put, account_id=user.id, role="reader", now=NOW, **scope)


async def test_a_grant_needs_its_account_and_place(database: Database) -> None:
    """An unknown account or repository is a conflict."""
    user = await database.transaction(account, "user")
    place = await database.transaction(repository, "team/app")
    for account_id, repository_id in ((user.id + 1, place.id), (user.id, place.id + 1)):
        with pytest.raises(Conflict, match="referred to does not exist"):
            await database.transaction(
                grants.put, account_id=account_id, repository_id=repository_id, role="reader", now=NOW
            )


async def test_roles_are_those_on_the_repository_and_on_its_project(database: Database) -> None:
    """Both count, those of others and on other places do not, and a removed one no longer does."""
    user = await database.transaction(account, "user")
    other = await database.transaction(account, "other")
    place = await database.transaction(repository, "team/app")
    elsewhere = await database.transaction(repository, "team/other")

    async def roles(account_id: int) -> set[str]:
        found = await database.read(grants.roles, account_id, repository_id=place.id, project_id=place.project_id)
        return set(found)

    assert await roles(user.id) == set()
    await database.transaction(grants.put, account_id=user.id, repository_id=elsewhere.id, role="admin", now=NOW)
    assert await roles(user.id) == set()
    direct = await database.transaction(grants.put, account_id=user.id, repository_id=place.id, role="writer", now=NOW)
    assert await roles(user.id) == {"writer"}
    await database.transaction(grants.put, account_id=user.id, project_id=place.project_id, role="reader", now=NOW)
    assert await roles(user.id) == {"writer", "reader"}
    assert await roles(other.id) == set()
    assert await database.transaction(grants.remove, direct.id)
    assert not await database.transaction(grants.remove, direct.id)
    assert await roles(user.id) == {"reader"}


async def test_listings_of_grants(database: Database) -> None:
    """By account, by project, by repository and by id; those of a deleted account are gone."""
    user = await database.transaction(account, "user")
    place = await database.transaction(repository, "team/app")
    direct = await database.transaction(grants.put, account_id=user.id, repository_id=place.id, role="writer", now=NOW)
    wide = await database.transaction(
        grants.put, account_id=user.id, project_id=place.project_id, role="reader", now=NOW
    )
    assert await database.read(grants.of_account, user.id) == [direct, wide]
    assert await database.read(grants.on_project, place.project_id) == [wide]
    assert await database.read(grants.on_repository, place.id) == [direct]
    await database.transaction(accounts.delete, user.id)
    assert await database.read(grants.of_account, user.id) == []
    assert await database.read(grants.on_project, place.project_id) == []
