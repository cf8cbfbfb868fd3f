"""Projects: unique names, pages by name, and removal only when empty."""

import pytest

from storage import Conflict, Database, Transaction
from storage.metadata import accounts, grants, projects, repositories
from tests.storage.metadata.samples import NOW, account, project, repository


async def test_a_new_project_is_found_by_name_and_id(database: Database) -> None:
    """`create`, `find` and `get` give the same record; unknown ones give None."""
    made = await database.transaction(projects.create, name="team", description="ours", now=NOW)
    assert (made.name, made.description, made.created_at) == ("team", "ours", NOW)
    assert await database.read(projects.find, "team") == made
    assert await database.read(projects.get, made.id) == made
    assert await database.read(projects.find, "Team") is None
    assert await database.read(projects.get, made.id + 1) is None


async def test_a_taken_name_is_a_conflict_that_names_it(database: Database) -> None:
    """The second project of a name is refused."""
    await database.transaction(project, "team")
    with pytest.raises(Conflict, match="project team exists already"):
        await database.transaction(projects.create, name="team", description="", now=NOW)


async def test_pages_follow_each_other_in_bytewise_order(database: Database) -> None:
    """Every project is on exactly one page, capitals before small letters, and the last page is short."""
    names = ["b", "a", "Z", "a-1", "a.1", "a1"]
    for name in names:
        await database.transaction(project, name)
    seen: list[str] = []
    while page := await database.survey(projects.page, after=seen[-1] if seen else "", limit=4, readable_by=None):
        seen += [record.name for record in page]
    assert seen == sorted(names, key=str.encode)


async def test_a_listing_for_an_account_shows_what_it_may_know_of(database: Database) -> None:
    """Visible: by a role on the project, by a role on a repository in it, by anonymous read; nothing else."""

    def fill(transaction: Transaction) -> tuple[int, int]:
        user, other = account(transaction, "user"), account(transaction, "other")
        grants.put(transaction, account_id=user.id, project_id=project(transaction, "mine").id, role="reader", now=NOW)
        inside = repository(transaction, "inside/r")
        grants.put(transaction, account_id=user.id, repository_id=inside.id, role="reader", now=NOW)
        repository(transaction, "public/r", anonymous_read=True)
        hidden = repository(transaction, "hidden/r")
        grants.put(transaction, account_id=other.id, repository_id=hidden.id, role="admin", now=NOW)
        project(transaction, "empty")
        return user.id, other.id

    user, other = await database.transaction(fill)

    async def visible(readable_by: int | None) -> list[str]:
        page = await database.survey(projects.page, after="", limit=100, readable_by=readable_by)
        return [record.name for record in page]

    assert await visible(user) == ["inside", "mine", "public"]
    assert await visible(other) == ["hidden", "public"]
    assert await visible(0) == ["public"]
    assert await visible(None) == ["empty", "hidden", "inside", "mine", "public"]


async def test_changing_the_description(database: Database) -> None:
    """`update` gives the new record, changes nothing when nothing is named, and None for an unknown id."""
    made = await database.transaction(project, "team")
    changed = await database.transaction(projects.update, made.id, description="new")
    assert changed is not None
    assert changed.description == "new"
    assert await database.transaction(projects.update, made.id) == changed
    assert await database.transaction(projects.update, made.id + 1, description="new") is None


async def test_a_project_with_repositories_stays(database: Database) -> None:
    """Deleting it names a repository in the way; afterwards it can go, with its robots and grants."""
    kept = await database.transaction(repository, "team/app")
    with pytest.raises(Conflict, match="app among them"):
        await database.transaction(projects.delete, kept.project_id)
    await database.transaction(repositories.delete, kept.id)
    robot = await database.transaction(account, "sa$ci", kind="robot", project_id=kept.project_id)
    user = await database.transaction(account, "user")
    await database.transaction(grants.put, account_id=user.id, project_id=kept.project_id, role="reader", now=NOW)
    assert await database.transaction(projects.delete, kept.project_id)
    assert not await database.transaction(projects.delete, kept.project_id)
    assert await database.read(accounts.get, robot.id) is None
    assert await database.read(grants.of_account, user.id) == []


async def test_a_name_used_again_is_another_project(database: Database) -> None:
    """Ids are never reused, so that a token for the old project does not fit the new one (security row A15)."""
    old = await database.transaction(project, "team")
    await database.transaction(projects.delete, old.id)
    assert (await database.transaction(project, "team")).id > old.id
