"""Signing keys: all that still verify, and no others."""

import pytest

from storage import Conflict, Database, SigningKeyRecord
from storage.metadata import signing_keys
from tests.storage.metadata.samples import NOW


def key(kid: str, *, signs_from: int, verifies_until: int) -> SigningKeyRecord:
    """A sealed key of that life."""
    return SigningKeyRecord(
        kid=kid,
        algorithm="HS256",
        sealed_key=b"\x00sealed\xff",
        created_at=NOW,
        signs_from=signs_from,
        signs_until=verifies_until,
        verifies_until=verifies_until,
    )


async def test_current_keys_are_those_that_still_verify(database: Database) -> None:
    """One that does not sign yet is among them, one whose time is over is not; they come by when they begin."""
    over = key("over", signs_from=NOW - 9, verifies_until=NOW)
    now = key("now", signs_from=NOW - 5, verifies_until=NOW + 1)
    soon = key("soon", signs_from=NOW + 5, verifies_until=NOW + 9)
    for record in (soon, over, now):
        await database.transaction(signing_keys.insert, record)
    assert await database.read(signing_keys.current, NOW) == [now, soon]
    assert await database.transaction(signing_keys.delete_expired, NOW) == 1
    assert await database.read(signing_keys.current, 0) == [now, soon]


async def test_a_kid_is_used_once(database: Database) -> None:
    """A second key under the same kid is refused, so that no token changes its meaning."""
    await database.transaction(signing_keys.insert, key("k", signs_from=NOW, verifies_until=NOW + 1))
    with pytest.raises(Conflict, match="kid"):
        await database.transaction(signing_keys.insert, key("k", signs_from=NOW, verifies_until=NOW + 2))
