"""Users and robots. The password hash leaves this file only through `password_hash`, never inside a record.

`epoch` is part of every token issued for the account; raising it ends them all.
"""

from collections.abc import Sequence
from typing import Final, TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.errors import Conflict
from storage.metadata.prepared import Prepared
from storage.metadata.tables import accounts
from storage.records import AccountRecord


class AccountChanges(TypedDict, total=False):
    """What may change in an account; what is not named stays."""

    description: str
    is_admin: bool
    is_auditor: bool
    is_enabled: bool
    expires_at: int | None


# What a token's holder may do depends on these, so a change ends the tokens issued before.
_POWERS: Final = ("is_admin", "is_auditor", "is_enabled", "expires_at")

COLUMNS = (
    accounts.c.id,
    accounts.c.name,
    accounts.c.kind,
    accounts.c.description,
    accounts.c.is_admin,
    accounts.c.is_auditor,
    accounts.c.is_enabled,
    accounts.c.epoch,
    accounts.c.project_id,
    accounts.c.expires_at,
    accounts.c.created_at,
    accounts.c.updated_at,
)
"""What an `AccountRecord` is made of, in its order; for joins."""

_BY_ID = accounts.c.id == bindparam("account_id")
_NEXT_EPOCH = accounts.c.epoch + 1
_GET = Prepared(sa.select(*COLUMNS).where(_BY_ID))
_FIND = Prepared(sa.select(*COLUMNS).where(accounts.c.name == bindparam("name")))
_PASSWORD = Prepared(sa.select(accounts.c.password_hash).where(_BY_ID))
_PAGE = (
    sa.select(*COLUMNS).where(accounts.c.name > bindparam("after")).order_by(accounts.c.name).limit(bindparam("limit"))
)
_OF_KIND = accounts.c.kind == bindparam("kind")
_OF_PROJECT = accounts.c.project_id == bindparam("project_id")
_ADMINS = (
    sa.select(sa.func.count())
    .select_from(accounts)
    .where(accounts.c.is_admin.is_(sa.true()), accounts.c.is_enabled.is_(sa.true()))
)
_INSERT = sa.insert(accounts).returning(*COLUMNS)
_UPDATE = sa.update(accounts).where(_BY_ID).returning(*COLUMNS)
_SET_PASSWORD = (
    sa.update(accounts)
    .where(_BY_ID)
    .values(password_hash=bindparam("new_hash"), epoch=_NEXT_EPOCH, updated_at=bindparam("now"))
)
_RENEW_HASH = (
    sa.update(accounts)
    .where(_BY_ID, accounts.c.password_hash == bindparam("old_hash"))
    .values(password_hash=bindparam("new_hash"))
)
_DELETE = sa.delete(accounts).where(_BY_ID)


def create(
    tx: Connection,
    *,
    name: str,
    kind: str,
    description: str = "",
    password_hash: str | None = None,
    is_admin: bool = False,
    is_auditor: bool = False,
    project_id: int | None = None,
    expires_at: int | None = None,
    now: int,
) -> AccountRecord:
    """A new, enabled account. Without a hash no password works. `Conflict` if the name is taken."""
    if find(tx, name) is not None:
        raise Conflict(f"account {name} exists already")
    values = {
        "name": name,
        "kind": kind,
        "description": description,
        "password_hash": password_hash,
        "is_admin": is_admin,
        "is_auditor": is_auditor,
        "is_enabled": True,
        "epoch": 1,
        "project_id": project_id,
        "expires_at": expires_at,
        "created_at": now,
        "updated_at": now,
    }
    return record(tx.execute(_INSERT, values).one())


def find(tx: Connection, name: str) -> AccountRecord | None:
    """The account of that name."""
    row = _FIND.one(tx, {"name": name})
    return None if row is None else record(row)


def get(tx: Connection, account_id: int) -> AccountRecord | None:
    """The account of that id."""
    row = _GET.one(tx, {"account_id": account_id})
    return None if row is None else record(row)


def password_hash(tx: Connection, account_id: int) -> str | None:
    """The argon2id hash; None if no password works or there is no such account."""
    stored: str | None = _PASSWORD.scalar(tx, {"account_id": account_id})
    return stored


def set_password(tx: Connection, account_id: int, hash: str | None, now: int) -> bool:  # noqa: A002 - it is one
    """Keep a new hash (None: no password works) and end all tokens; False if there is no such account."""
    return tx.execute(_SET_PASSWORD, {"account_id": account_id, "new_hash": hash, "now": now}).rowcount > 0


def renew_hash(tx: Connection, account_id: int, old_hash: str, new_hash: str) -> bool:
    """Keep another hash of the same password, which ends no tokens; False if the password was changed meanwhile."""
    values = {"account_id": account_id, "old_hash": old_hash, "new_hash": new_hash}
    return tx.execute(_RENEW_HASH, values).rowcount > 0


def update(tx: Connection, account_id: int, *, now: int, **changes: Unpack[AccountChanges]) -> AccountRecord | None:
    """Change an account and give its new record; None if there is none.

    A change of admin, auditor, enabled or expiry ends all tokens.
    """
    before = get(tx, account_id)
    if before is None:
        return None
    values: dict[str, object] = {**changes, "updated_at": now}
    if any(name in changes and values[name] != getattr(before, name) for name in _POWERS):
        values["epoch"] = before.epoch + 1
    return record(tx.execute(_UPDATE.values(values), {"account_id": account_id}).one())


def delete(tx: Connection, account_id: int) -> bool:
    """Remove an account with its grants, secrets and upload sessions; False if there is none.

    The id is never used again, so what it pushed is not another's.
    """
    return tx.execute(_DELETE, {"account_id": account_id}).rowcount > 0


def page(
    tx: Connection, *, after: str, limit: int, kind: str | None = None, project_id: int | None = None
) -> list[AccountRecord]:
    """The next `limit` accounts by name beyond `after` (empty: from the start), of one kind or project if named."""
    statement = _PAGE
    values: dict[str, object] = {"after": after, "limit": limit}
    if kind is not None:
        statement, values["kind"] = statement.where(_OF_KIND), kind
    if project_id is not None:
        statement, values["project_id"] = statement.where(_OF_PROJECT), project_id
    return [record(row) for row in tx.execute(statement, values)]


def count_admins(tx: Connection) -> int:
    """Enabled admins; who takes the last one away locks everybody out."""
    return int(tx.execute(_ADMINS).scalar_one())


def record(row: Sequence[object]) -> AccountRecord:
    """The record of a row that holds `COLUMNS`."""
    return AccountRecord(*row)  # type: ignore[arg-type]  # a row is untyped; COLUMNS says what it holds
