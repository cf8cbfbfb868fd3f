"""Leases: which process runs a periodic job, so that one of many does. A holder that dies loses it by time."""

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.tables import leases

_BY_NAME = leases.c.name == bindparam("lease")
_HELD_BY = leases.c.holder == bindparam("by")
_FIND = sa.select(leases.c.holder, leases.c.expires_at).where(_BY_NAME)
_INSERT = sa.insert(leases)
_TAKE = sa.update(leases).where(_BY_NAME).values(holder=bindparam("by"), expires_at=bindparam("until"))
_RENEW = sa.update(leases).where(_BY_NAME, _HELD_BY).values(expires_at=bindparam("until"))
_RELEASE = sa.update(leases).where(_BY_NAME, _HELD_BY).values(expires_at=0)
_DROP = sa.delete(leases).where(_BY_NAME, _HELD_BY)
_DROP_EXPIRED = sa.delete(leases).where(
    leases.c.name >= bindparam("least"), leases.c.name < bindparam("beyond"), leases.c.expires_at < bindparam("before")
)
_LAST_RUN_AT = sa.select(leases.c.last_run_at).where(_BY_NAME)


def is_free(tx: Connection, name: str, *, holder: str, now: int, lifetime_s: int) -> bool:
    """Whether `take` would give it just now.

    An end more than two lifetimes ahead was written by a wrong clock and holds nobody off: one is the lease's own, one
    is for clocks that differ a little and a `now` that has waited for the write lock.
    """
    found = tx.execute(_FIND, {"lease": name}).one_or_none()
    return found is None or found.holder == holder or not now < found.expires_at <= now + 2 * lifetime_s


def take(tx: Connection, name: str, *, holder: str, now: int, lifetime_s: int) -> bool:
    """Hold the lease until `now + lifetime_s`; False if another holds it. Taking one's own again renews it.

    In a transaction, whose writers take turns: what is free stays so until it is taken.
    """
    if not is_free(tx, name, holder=holder, now=now, lifetime_s=lifetime_s):
        return False
    until = now + lifetime_s
    if tx.execute(_TAKE, {"lease": name, "by": holder, "until": until}).rowcount == 0:
        tx.execute(_INSERT, {"name": name, "holder": holder, "expires_at": until})
    return True


def renew(tx: Connection, name: str, *, holder: str, now: int, lifetime_s: int) -> bool:
    """Hold it until `now + lifetime_s`; False if another has taken it since: stop the job then."""
    return tx.execute(_RENEW, {"lease": name, "by": holder, "until": now + lifetime_s}).rowcount > 0


def release(tx: Connection, name: str, holder: str, *, ended_well_at: int | None) -> None:
    """Let go, and note when the job ended well (None: it did not). Does nothing if another holds it by now."""
    statement = _RELEASE if ended_well_at is None else _RELEASE.values(last_run_at=ended_well_at)
    tx.execute(statement, {"lease": name, "by": holder})


def drop(tx: Connection, name: str, holder: str) -> None:
    """Let go of a lease that few will ever ask for again: nothing stays of it. Nothing happens if another holds it."""
    tx.execute(_DROP, {"lease": name, "by": holder})


def drop_expired(tx: Connection, prefix: str, *, before: int) -> int:
    """Forget leases of such names whose holders died before that time (Unix seconds); how many. No wildcards in it."""
    return tx.execute(_DROP_EXPIRED, {"least": prefix, "beyond": prefix + "\x7f", "before": before}).rowcount


def last_run_at(tx: Connection, name: str) -> int | None:
    """When the job last ended well; None if it never did."""
    return tx.execute(_LAST_RUN_AT, {"lease": name}).scalar_one_or_none()
