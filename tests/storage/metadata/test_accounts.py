"""Accounts: what ends the tokens of one, and that the password hash stays where it is."""

from typing import Any

import pytest

from storage import AccountRecord, Conflict, Database
from storage.metadata import accounts, credentials, grants
from tests.storage.metadata.samples import NOW, account, project


async def test_a_new_account_is_found_and_does_not_show_its_hash(database: Database) -> None:
    """`create`, `find` and `get` give the same record; the hash comes from `password_hash` alone."""
    made = await database.transaction(
        accounts.create, name="ann", kind="user", password_hash="$argon2id$secret", is_admin=True, now=NOW
    )
    assert (made.name, made.kind, made.is_admin, made.is_auditor, made.is_enabled) == ("ann", "user", True, False, True)
    assert await database.read(accounts.find, "ann") == made
    assert await database.read(accounts.get, made.id) == made
    assert "secret" not in repr(made)
    assert await database.read(accounts.password_hash, made.id) == "$argon2id$secret"
    assert await database.read(accounts.password_hash, made.id + 1) is None
    assert await database.read(accounts.find, "Ann") is None
    assert await database.read(accounts.get, made.id + 1) is None


async def test_a_taken_name_is_a_conflict_also_between_users_and_robots(database: Database) -> None:
    """Users and robots share one space of names."""
    await database.transaction(account, "ann")
    with pytest.raises(Conflict, match="account ann exists already"):
        await database.transaction(account, "ann", kind="robot")


async def test_a_new_password_ends_all_tokens(database: Database) -> None:
    """Setting and removing the password raise the epoch; an unknown account is told."""
    made = await database.transaction(account, "ann")
    assert await database.transaction(accounts.set_password, made.id, "hash", NOW + 1)
    assert await database.transaction(accounts.set_password, made.id, None, NOW + 2)
    after = await database.read(accounts.get, made.id)
    assert after is not None
    assert (after.epoch, after.updated_at) == (made.epoch + 2, NOW + 2)
    assert await database.read(accounts.password_hash, made.id) is None
    assert not await database.transaction(accounts.set_password, made.id + 1, "hash", NOW)


@pytest.mark.parametrize(
    ("changes", "raised"),
    [
        ({"is_enabled": False}, 1),
        ({"is_admin": True}, 1),
        ({"is_auditor": True}, 1),
        ({"expires_at": NOW + 60}, 1),
        ({"is_admin": True, "is_auditor": True, "description": "d"}, 1),
        ({"description": "d"}, 0),
        ({"is_enabled": True, "is_admin": False, "is_auditor": False, "expires_at": None}, 0),
    ],
)
async def test_a_change_of_powers_ends_all_tokens(database: Database, changes: dict[str, Any], raised: int) -> None:
    """Whatever changes what the account may do raises the epoch once; what stays the same does not."""
    made = await database.transaction(account, "ann")
    changed = await database.transaction(accounts.update, made.id, now=NOW + 1, **changes)
    assert isinstance(changed, AccountRecord)
    assert changed.epoch == made.epoch + raised
    assert {name: getattr(changed, name) for name in changes} == changes
    assert await database.read(accounts.get, made.id) == changed


async def test_unknown_accounts_are_told(database: Database) -> None:
    """Changing and deleting say when there is nobody."""
    assert await database.transaction(accounts.update, 7, now=NOW, description="x") is None
    assert not await database.transaction(accounts.delete, 7)


async def test_a_deleted_account_takes_its_rights_and_secrets_along(database: Database) -> None:
    """Grants and secrets go with it, and its id is never used again."""
    made = await database.transaction(account, "ann")
    place = await database.transaction(project, "team")
    await database.transaction(grants.put, account_id=made.id, project_id=place.id, role="admin", now=NOW)
    await database.transaction(
        credentials.create,
        account_id=made.id,
        kind="personal",
        secret_hash="aa",
        label="",
        limits=None,
        service=None,
        parent_id=None,
        created_at=NOW,
        expires_at=None,
    )
    assert await database.transaction(accounts.delete, made.id)
    assert await database.read(credentials.by_hash, "aa") is None
    assert await database.read(grants.on_project, place.id) == []
    assert (await database.transaction(account, "ann")).id > made.id


async def test_pages_by_name_of_one_kind_or_project(database: Database) -> None:
    """Pages follow in bytewise order; kind and project narrow them."""
    place = await database.transaction(project, "team")
    for name, kind, project_id in (
        ("b", "user", None),
        ("a", "user", None),
        ("sa$x", "robot", place.id),
        ("sa$y", "robot", None),
    ):
        await database.transaction(account, name, kind=kind, project_id=project_id)

    async def page(**given: Any) -> list[str]:
        return [record.name for record in await database.survey(accounts.page, **{"after": "", "limit": 9, **given})]

    assert await page() == ["a", "b", "sa$x", "sa$y"]
    assert await page(limit=2) == ["a", "b"]
    assert await page(after="b") == ["sa$x", "sa$y"]
    assert await page(kind="robot") == ["sa$x", "sa$y"]
    assert await page(project_id=place.id) == ["sa$x"]
    assert await page(project_id=place.id, kind="user") == []


async def test_counting_admins_counts_those_who_can_act(database: Database) -> None:
    """A disabled admin does not count."""
    one = await database.transaction(account, "one", is_admin=True)
    await database.transaction(account, "two", is_admin=True)
    await database.transaction(account, "three")
    assert await database.read(accounts.count_admins) == 2
    await database.transaction(accounts.update, one.id, now=NOW, is_enabled=False)
    assert await database.read(accounts.count_admins) == 1
