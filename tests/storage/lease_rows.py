"""Rows for tests of the database itself: leases, because they refer to nothing."""

import sqlalchemy as sa

from storage import Transaction
from storage.metadata.tables import leases

_COUNT = sa.select(sa.func.count()).select_from(leases)
_NAMES = sa.select(leases.c.name).order_by(leases.c.name)


def insert(transaction: Transaction, name: str, size_bytes: int = 1) -> str:
    """One row that takes about `size_bytes`; gives its name."""
    transaction.execute(sa.insert(leases), {"name": name, "holder": "x" * size_bytes, "expires_at": 0})
    return name


def count(transaction: Transaction) -> int:
    """How many rows there are."""
    return transaction.execute(_COUNT).scalar_one()


def names(transaction: Transaction) -> list[str]:
    """The names of all rows, sorted."""
    return list(transaction.execute(_NAMES).scalars())
