"""What time it is for everybody who shares the database: what leases of several machines are measured by."""

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import Connection

_NOW = sa.select(sa.cast(sa.func.floor(sa.extract("epoch", sa.func.clock_timestamp())), sa.BigInteger))


def now(tx: Connection, clock: Callable[[], float]) -> int:
    """Unix seconds: the server's time, where there is a server; else `clock`'s, which all processes here share."""
    if tx.dialect.name == "postgresql":
        return tx.execute(_NOW).scalar_one()
    return int(clock())
