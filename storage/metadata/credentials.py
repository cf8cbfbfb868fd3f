"""Random secrets as rows: personal access tokens, robot keys, refresh tokens. Only their SHA-256 is ever here."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata import accounts
from storage.metadata.prepared import Prepared
from storage.metadata.tables import accounts as account_table
from storage.metadata.tables import credentials
from storage.records import AccountRecord, CredentialRecord

_COLUMNS = (
    credentials.c.id,
    credentials.c.account_id,
    credentials.c.kind,
    credentials.c.label,
    credentials.c.limits,
    credentials.c.service,
    credentials.c.parent_id,
    credentials.c.created_at,
    credentials.c.expires_at,
    credentials.c.last_used_at,
)
_OF_ACCOUNT = credentials.c.account_id == bindparam("account_id")
_OF_KIND = credentials.c.kind == bindparam("kind")
_GET = Prepared(sa.select(*_COLUMNS).where(credentials.c.id == bindparam("credential_id")))
_BY_HASH = Prepared(
    sa.select(*_COLUMNS, *accounts.COLUMNS)
    .join(account_table, account_table.c.id == credentials.c.account_id)
    .where(credentials.c.secret_hash == bindparam("secret_hash"))
)
_PAGE = (
    sa.select(*_COLUMNS)
    .where(_OF_ACCOUNT, _OF_KIND, credentials.c.id > bindparam("after"))
    .order_by(credentials.c.id)
    .limit(bindparam("limit"))
)
_INSERT = sa.insert(credentials).returning(*_COLUMNS)
_TOUCH = (
    sa.update(credentials)
    .where(
        credentials.c.id == bindparam("credential_id"),
        credentials.c.last_used_at.is_(None) | (credentials.c.last_used_at < bindparam("used_at")),
    )
    .values(last_used_at=bindparam("used_at"))
)
_DELETE = sa.delete(credentials).where(credentials.c.id == bindparam("credential_id"))
_DELETE_OF_ACCOUNT = sa.delete(credentials).where(_OF_ACCOUNT)
_DELETE_OF_KIND = _DELETE_OF_ACCOUNT.where(_OF_KIND)
_last_seen = sa.func.coalesce(credentials.c.last_used_at, credentials.c.created_at)
_DELETE_IDLE = sa.delete(credentials).where(_OF_KIND, _last_seen <= bindparam("since"))
_COUNT = sa.select(sa.func.count()).select_from(credentials).where(_OF_ACCOUNT, _OF_KIND)
_LATEST_SEEN = (
    sa.select(credentials.c.id)
    .where(_OF_ACCOUNT, _OF_KIND)
    .order_by(_last_seen.desc(), credentials.c.id.desc())
    .limit(bindparam("keep"))
)
_TRIM = _DELETE_OF_KIND.where(credentials.c.id.not_in(_LATEST_SEEN))
_DELETE_EXPIRED = sa.delete(credentials).where(credentials.c.expires_at <= bindparam("now"))


def create(
    tx: Connection,
    *,
    account_id: int,
    kind: str,
    secret_hash: str,
    label: str,
    limits: str | None,
    service: str | None,
    parent_id: int | None,
    created_at: int,
    expires_at: int | None,
) -> CredentialRecord:
    """Keep a secret's hash (hex). It ends with its account and with the secret `parent_id` that it came from.

    `Conflict` if the account or the parent does not exist.
    """
    values = {
        "account_id": account_id,
        "kind": kind,
        "secret_hash": secret_hash,
        "label": label,
        "limits": limits,
        "service": service,
        "parent_id": parent_id,
        "created_at": created_at,
        "expires_at": expires_at,
    }
    return _record(tx.execute(_INSERT, values).one())


def by_hash(tx: Connection, secret_hash: str) -> tuple[CredentialRecord, AccountRecord] | None:
    """The secret with this hash and its account, whatever state they are in: the caller judges expiry."""
    row = _BY_HASH.one(tx, {"secret_hash": secret_hash})
    if row is None:
        return None
    return _record(row[: len(_COLUMNS)]), accounts.record(row[len(_COLUMNS) :])


def get(tx: Connection, credential_id: int) -> CredentialRecord | None:
    """The secret of that id."""
    row = _GET.one(tx, {"credential_id": credential_id})
    return None if row is None else _record(row)


def of_account(
    tx: Connection, account_id: int, kind: str, *, after: int = 0, limit: int = 1000
) -> list[CredentialRecord]:
    """Secrets of one account and kind, oldest first, with ids beyond `after`; expired ones too."""
    values = {"account_id": account_id, "kind": kind, "after": after, "limit": limit}
    return [_record(row) for row in tx.execute(_PAGE, values)]


def touch(tx: Connection, used: Mapping[int, int]) -> None:
    """Note when secrets were last used (id to time); an older time than the noted one changes nothing."""
    if used:
        tx.execute(_TOUCH, [{"credential_id": each, "used_at": used_at} for each, used_at in used.items()])


def delete(tx: Connection, credential_id: int) -> bool:
    """Revoke a secret and what came from it; False if it was gone already."""
    return tx.execute(_DELETE, {"credential_id": credential_id}).rowcount > 0


def delete_of_account(tx: Connection, account_id: int, kind: str | None = None) -> int:
    """Revoke all secrets of an account, or those of one kind; gives how many."""
    values: dict[str, object] = {"account_id": account_id}
    if kind is None:
        return tx.execute(_DELETE_OF_ACCOUNT, values).rowcount
    return tx.execute(_DELETE_OF_KIND, {**values, "kind": kind}).rowcount


def delete_expired(tx: Connection, now: int) -> int:
    """Remove secrets that expired at `now` or before; gives how many."""
    return tx.execute(_DELETE_EXPIRED, {"now": now}).rowcount


def delete_idle(tx: Connection, kind: str, *, since: int) -> int:
    """Remove secrets of one kind that were neither made nor used after `since`; gives how many."""
    return tx.execute(_DELETE_IDLE, {"kind": kind, "since": since}).rowcount


def trim(tx: Connection, account_id: int, kind: str, *, most: int, keep: int) -> int:
    """If the account has more than `most` secrets of the kind, keep the `keep` used last; gives how many went."""
    values = {"account_id": account_id, "kind": kind}
    if int(tx.execute(_COUNT, values).scalar_one()) <= most:
        return 0
    return tx.execute(_TRIM, {**values, "keep": keep}).rowcount


def _record(row: Sequence[object]) -> CredentialRecord:
    return CredentialRecord(*row)  # type: ignore[arg-type]  # a row is untyped; _COLUMNS says what it holds
