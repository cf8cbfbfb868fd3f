"""Random secrets: found by hash with their account, noted when used, gone with what they hang on."""

from typing import Any

import pytest

from storage import Conflict, CredentialRecord, Database
from storage.metadata import credentials
from tests.storage.metadata.samples import NOW, account


async def create(database: Database, account_id: int, secret_hash: str, **given: Any) -> CredentialRecord:
    """A personal access token that does not expire, unless said otherwise."""
    values: dict[str, Any] = {
        "kind": "personal",
        "label": "laptop",
        "limits": None,
        "service": None,
        "parent_id": None,
        "created_at": NOW,
        "expires_at": None,
    }
    return await database.transaction(
        credentials.create, account_id=account_id, secret_hash=secret_hash, **{**values, **given}
    )


async def test_a_secret_is_found_by_its_hash_with_its_account(database: Database) -> None:
    """One look gives both records; another hash gives nothing; the record does not hold the hash."""
    user = await database.transaction(account, "user")
    made = await create(database, user.id, "aa", limits='{"repository": 1}', service="sluice", expires_at=NOW + 60)
    assert (made.limits, made.service, made.expires_at, made.last_used_at) == (
        '{"repository": 1}',
        "sluice",
        NOW + 60,
        None,
    )
    assert await database.read(credentials.by_hash, "aa") == (made, user)
    assert await database.read(credentials.by_hash, "AA") is None
    assert await database.read(credentials.get, made.id) == made
    assert not hasattr(made, "secret_hash")


async def test_a_secret_needs_its_account_and_its_parent(database: Database) -> None:
    """An unknown account or parent, and a hash that exists, are conflicts."""
    user = await database.transaction(account, "user")
    await create(database, user.id, "aa")
    with pytest.raises(Conflict, match="referred to"):
        await create(database, user.id + 1, "bb")
    with pytest.raises(Conflict, match="referred to"):
        await create(database, user.id, "bb", parent_id=77)
    with pytest.raises(Conflict, match="secret_hash"):
        await create(database, user.id, "aa")


async def test_what_came_from_a_secret_goes_with_it(database: Database) -> None:
    """Revoking a personal token revokes the refresh tokens that were made with it, and no others."""
    user = await database.transaction(account, "user")
    parent = await create(database, user.id, "aa")
    await create(database, user.id, "bb", kind="refresh", parent_id=parent.id)
    await create(database, user.id, "cc", kind="refresh")
    assert await database.transaction(credentials.delete, parent.id)
    assert not await database.transaction(credentials.delete, parent.id)
    assert await database.read(credentials.by_hash, "bb") is None
    assert await database.read(credentials.by_hash, "cc") is not None


async def test_secrets_of_an_account_by_kind_in_pages(database: Database) -> None:
    """Only its own of that kind, oldest first, from where the last page ended."""
    user = await database.transaction(account, "user")
    other = await database.transaction(account, "other")
    made = [await create(database, user.id, f"p{number}") for number in range(3)]
    await create(database, user.id, "r", kind="refresh")
    await create(database, other.id, "o")
    assert await database.read(credentials.of_account, user.id, "personal") == made
    assert await database.read(credentials.of_account, user.id, "personal", after=made[0].id, limit=1) == [made[1]]


async def test_noting_use_never_goes_back(database: Database) -> None:
    """Several at once; an earlier time and an unknown id change nothing."""
    user = await database.transaction(account, "user")
    one, two = await create(database, user.id, "aa"), await create(database, user.id, "bb")
    await database.transaction(credentials.touch, {one.id: NOW + 5, two.id: NOW + 6, 77: NOW})
    await database.transaction(credentials.touch, {one.id: NOW + 3, two.id: NOW + 9})
    await database.transaction(credentials.touch, {})
    used = [record.last_used_at for record in await database.read(credentials.of_account, user.id, "personal")]
    assert used == [NOW + 5, NOW + 9]


async def test_revoking_all_of_an_account(database: Database) -> None:
    """By kind or altogether; the number says how many; another account keeps its own."""
    user = await database.transaction(account, "user")
    other = await database.transaction(account, "other")
    for secret_hash, kind in (("a", "personal"), ("b", "refresh"), ("c", "refresh")):
        await create(database, user.id, secret_hash, kind=kind)
    await create(database, other.id, "d")
    assert await database.transaction(credentials.delete_of_account, user.id, "refresh") == 2
    assert await database.transaction(credentials.delete_of_account, user.id) == 1
    assert await database.read(credentials.by_hash, "d") is not None


async def test_only_expired_secrets_are_removed(database: Database) -> None:
    """What expires now goes, what expires later or never stays."""
    user = await database.transaction(account, "user")
    for secret_hash, expires_at in (("past", NOW - 1), ("now", NOW), ("later", NOW + 1), ("never", None)):
        await create(database, user.id, secret_hash, expires_at=expires_at)
    assert await database.transaction(credentials.delete_expired, NOW) == 2
    left = [secret for secret in ("past", "now", "later", "never") if await database.read(credentials.by_hash, secret)]
    assert left == ["later", "never"]
