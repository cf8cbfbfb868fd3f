"""What is known of upstream registries: sealed credentials, what their budgets were, when cached tags were checked.

Knows nothing of how they are asked; what is sealed is opened elsewhere.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.prepared import Prepared
from storage.metadata.tables import tag_checks, upstream_budgets, upstream_credentials
from storage.records import BudgetRecord, CheckRecord

_CREDENTIALS = (
    sa.select(upstream_credentials.c.sealed)
    .where(upstream_credentials.c.repository_id == bindparam("repository_id"))
    .order_by(upstream_credentials.c.position)
)
_ADD_CREDENTIALS = sa.insert(upstream_credentials)
_DROP_CREDENTIALS = sa.delete(upstream_credentials).where(
    upstream_credentials.c.repository_id == bindparam("repository_id")
)

_BUDGET_COLUMNS = (
    upstream_budgets.c.name,
    upstream_budgets.c.allowed,
    upstream_budgets.c.remaining,
    upstream_budgets.c.window_s,
    upstream_budgets.c.observed_at,
    upstream_budgets.c.retry_at,
)
_BUDGET = sa.select(*_BUDGET_COLUMNS).where(upstream_budgets.c.name == bindparam("name"))
_BUDGETS = (
    sa.select(*_BUDGET_COLUMNS)
    .where(upstream_budgets.c.name >= bindparam("first"), upstream_budgets.c.name <= bindparam("last"))
    .order_by(upstream_budgets.c.name)
)
_ADD_BUDGET = sa.insert(upstream_budgets)
_PUT_BUDGET = (
    sa.update(upstream_budgets)
    .where(upstream_budgets.c.name == bindparam("of_name"))
    .values(
        allowed=bindparam("new_allowed"),
        remaining=bindparam("new_remaining"),
        window_s=bindparam("new_window_s"),
        observed_at=bindparam("new_observed_at"),
        retry_at=bindparam("new_retry_at"),
    )
)
_DROP_BUDGETS = sa.delete(upstream_budgets).where(
    upstream_budgets.c.observed_at < bindparam("before"),
    sa.func.coalesce(upstream_budgets.c.retry_at, 0) < bindparam("before"),
)
_KEPT_S = 30 * 86400
"""Longer than windows of registries are; after that a row says nothing but which credential there was."""

_CHECK = Prepared(
    sa.select(tag_checks.c.checked_at, tag_checks.c.etag).where(
        tag_checks.c.image_id == bindparam("image_id"), tag_checks.c.name == bindparam("name")
    )
)
_CHECKED_WITH = (
    sa.select(tag_checks.c.name)
    .where(tag_checks.c.image_id == bindparam("image_id"), tag_checks.c.etag == bindparam("etag"))
    .order_by(tag_checks.c.name)
)
_ADD_CHECK = sa.insert(tag_checks)
_PUT_CHECK = (
    sa.update(tag_checks)
    .where(tag_checks.c.image_id == bindparam("of_image"), tag_checks.c.name == bindparam("of_name"))
    .values(checked_at=bindparam("at"), etag=bindparam("new_etag"))
)
_DROP_CHECK = sa.delete(tag_checks).where(
    tag_checks.c.image_id == bindparam("image_id"), tag_checks.c.name == bindparam("name")
)


# --- credentials -------------------------------------------------------------------------------------------------


def credentials(tx: Connection, repository_id: int) -> list[bytes]:
    """What the repository's upstream is asked with, sealed, in the order of use."""
    return [bytes(sealed) for sealed in tx.execute(_CREDENTIALS, {"repository_id": repository_id}).scalars()]


def put_credentials(tx: Connection, repository_id: int, sealed: Sequence[bytes]) -> None:
    """Keep exactly these, each sealed for its place."""
    tx.execute(_DROP_CREDENTIALS, {"repository_id": repository_id})
    rows = [{"repository_id": repository_id, "position": place, "sealed": each} for place, each in enumerate(sealed)]
    if rows:
        tx.execute(_ADD_CREDENTIALS, rows)


# --- budgets -----------------------------------------------------------------------------------------------------


def budget(tx: Connection, name: str) -> BudgetRecord | None:
    """What was last written under this name."""
    row = tx.execute(_BUDGET, {"name": name}).one_or_none()
    return None if row is None else BudgetRecord(*row)


def budgets(tx: Connection, prefix: str) -> list[BudgetRecord]:
    """All whose names begin with `prefix`, by name."""
    rows = tx.execute(_BUDGETS, {"first": prefix, "last": prefix + "\U0010ffff"})
    return [BudgetRecord(*row) for row in rows]


def put_budget(tx: Connection, record: BudgetRecord) -> None:
    """Replace what is known under the record's name. With a new name those go that nothing was heard of in a month."""
    values = {
        "allowed": record.allowed,
        "remaining": record.remaining,
        "window_s": record.window_s,
        "observed_at": record.observed_at,
        "retry_at": record.retry_at,
    }
    changed = tx.execute(
        _PUT_BUDGET, {"of_name": record.name, **{f"new_{name}": value for name, value in values.items()}}
    )
    if changed.rowcount == 0:
        tx.execute(_DROP_BUDGETS, {"before": record.observed_at - _KEPT_S})
        tx.execute(_ADD_BUDGET, {"name": record.name, **values})


# --- checks ------------------------------------------------------------------------------------------------------


def checked(tx: Connection, image_id: int, tag: str) -> CheckRecord | None:
    """When the upstream was last asked about the tag; None: never, or nobody remembers."""
    row = _CHECK.one(tx, {"image_id": image_id, "name": tag})
    return None if row is None else CheckRecord(*row)


def checked_with(tx: Connection, image_id: int, etag: str) -> list[str]:
    """The names whose last check gave this entity tag, in bytewise order."""
    return list(tx.execute(_CHECKED_WITH, {"image_id": image_id, "etag": etag}).scalars())


def put_check(tx: Connection, image_id: int, tag: str, at: int, etag: str | None) -> None:
    """Note that the upstream was asked about the tag at that time (Unix seconds), and the entity tag it gave."""
    values = {"of_image": image_id, "of_name": tag, "at": at, "new_etag": etag}
    if tx.execute(_PUT_CHECK, values).rowcount == 0:
        tx.execute(_ADD_CHECK, {"image_id": image_id, "name": tag, "checked_at": at, "etag": etag})


def forget_check(tx: Connection, image_id: int, tag: str) -> None:
    """Let the next pull of the tag ask the upstream."""
    tx.execute(_DROP_CHECK, {"image_id": image_id, "name": tag})
