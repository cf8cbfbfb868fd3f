"""The keys that sign tokens, sealed: this file never sees one in the clear."""

from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.tables import signing_keys
from storage.records import SigningKeyRecord

_INSERT = sa.insert(signing_keys)
_CURRENT = (
    sa.select(
        signing_keys.c.kid,
        signing_keys.c.algorithm,
        signing_keys.c.sealed_key,
        signing_keys.c.created_at,
        signing_keys.c.signs_from,
        signing_keys.c.signs_until,
        signing_keys.c.verifies_until,
    )
    .where(signing_keys.c.verifies_until > bindparam("now"))
    .order_by(signing_keys.c.signs_from, signing_keys.c.kid)
)
_DELETE_EXPIRED = sa.delete(signing_keys).where(signing_keys.c.verifies_until <= bindparam("now"))


def insert(tx: Connection, record: SigningKeyRecord) -> None:
    """Keep a new key. `Conflict` if its kid is taken."""
    tx.execute(_INSERT, asdict(record))


def current(tx: Connection, now: int) -> list[SigningKeyRecord]:
    """All keys that still verify at `now`, also those that do not sign yet or any more; by when they begin to sign."""
    return [SigningKeyRecord(*row) for row in tx.execute(_CURRENT, {"now": now})]


def delete_expired(tx: Connection, now: int) -> int:
    """Remove keys that no longer verify at `now`; gives how many."""
    return tx.execute(_DELETE_EXPIRED, {"now": now}).rowcount
