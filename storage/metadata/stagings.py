"""Staging areas of stores that keep their bytes elsewhere: who holds one, the state of it, and small pieces of bytes.

A hold is a random word with an end. Everything that changes a row names the word, so a holder whose hold was taken by
another after it lapsed can change nothing any more. What the state says is the store's business: text to this file.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.tables import staging_segments, stagings

_THIS = (stagings.c.storage_id == bindparam("storage"), stagings.c.id == bindparam("area"))
_MINE = (*_THIS, stagings.c.holder == bindparam("by"))
_PIECES = (staging_segments.c.storage_id == bindparam("storage"), staging_segments.c.id == bindparam("area"))
_FIND = sa.select(
    stagings.c.version, stagings.c.holder, stagings.c.held_until, stagings.c.state, stagings.c.touched_at
).where(*_THIS)
_INSERT = sa.insert(stagings)
_TAKE = (
    sa.update(stagings)
    .where(*_THIS, stagings.c.version == bindparam("seen"))
    .values(
        version=bindparam("next"),
        holder=bindparam("by"),
        held_until=bindparam("until"),
        state=bindparam("new_state"),
        touched_at=bindparam("now"),
    )
)
_RENEW = sa.update(stagings).where(*_MINE).values(held_until=bindparam("until"), touched_at=bindparam("now"))
_SAVE = (
    sa.update(stagings)
    .where(*_MINE)
    .values(
        version=stagings.c.version + 1,
        state=bindparam("new_state"),
        holder=bindparam("next_holder"),
        held_until=bindparam("until"),
        touched_at=bindparam("now"),
    )
)
_RELEASE = sa.update(stagings).where(*_MINE).values(holder=None, held_until=0)
_DELETE = sa.delete(stagings).where(*_MINE)
_DROP_PIECES = sa.delete(staging_segments).where(
    *_PIECES, staging_segments.c.start.not_in(bindparam("kept", expanding=True))
)
_DROP_ALL_PIECES = sa.delete(staging_segments).where(*_PIECES)
_ADD_PIECES = sa.insert(staging_segments)
_CONTENTS = sa.select(staging_segments.c.start, staging_segments.c.content).where(*_PIECES)
_AREAS = (
    sa.select(stagings.c.id, stagings.c.touched_at)
    .where(stagings.c.storage_id == bindparam("storage"), stagings.c.id > bindparam("after"))
    .order_by(stagings.c.id)
)
_HOLDERS = sa.select(stagings.c.holder).where(
    stagings.c.storage_id == bindparam("storage"), stagings.c.holder.is_not(None)
)
_STATES = (
    sa.select(stagings.c.id, stagings.c.state)
    .where(stagings.c.storage_id == bindparam("storage"), stagings.c.id > bindparam("after"))
    .order_by(stagings.c.id)
)


@dataclass(frozen=True, slots=True)
class StagingRow:
    """One area as its row tells. `held_until` means nothing without a holder."""

    version: int
    holder: str | None
    held_until: int
    state: str
    touched_at: int

    def is_held(self, *, now: int, lifetime_s: int) -> bool:
        """Whether somebody holds it. An end further ahead than two lifetimes was written by a wrong clock."""
        return self.holder is not None and now < self.held_until <= now + 2 * lifetime_s


def find(tx: Connection, storage_id: int, staging_id: str) -> StagingRow | None:
    """The area's row."""
    row = tx.execute(_FIND, {"storage": storage_id, "area": staging_id}).one_or_none()
    return None if row is None else StagingRow(*row)


def insert(tx: Connection, storage_id: int, staging_id: str, row: StagingRow) -> None:
    """Make an area. The caller has seen in the same transaction that there is none."""
    tx.execute(
        _INSERT,
        {
            "storage_id": storage_id,
            "id": staging_id,
            "version": row.version,
            "holder": row.holder,
            "held_until": row.held_until,
            "state": row.state,
            "touched_at": row.touched_at,
        },
    )


def take(
    tx: Connection, storage_id: int, staging_id: str, *, seen: StagingRow, holder: str, until: int, state: str, now: int
) -> None:
    """Hold an area that the caller has seen free, or lapsed, in the same transaction."""
    values = {"seen": seen.version, "next": seen.version + 1, "by": holder, "until": until, "new_state": state}
    tx.execute(_TAKE, {"storage": storage_id, "area": staging_id, "now": now, **values})


def renew(tx: Connection, storage_id: int, staging_id: str, *, holder: str, until: int, now: int) -> bool:
    """Hold on until then; False if the hold was lost."""
    values = {"storage": storage_id, "area": staging_id, "by": holder, "until": until, "now": now}
    return tx.execute(_RENEW, values).rowcount > 0


def save(
    tx: Connection,
    storage_id: int,
    staging_id: str,
    *,
    holder: str,
    state: str,
    until: int | None,
    keep: Collection[int],
    add: Mapping[int, bytes],
    now: int,
) -> int | None:
    """Write a new state and let go (`until` None), or hold on; the new version, None if the hold was lost.

    Pieces are dropped but for those that start at one of `keep`, then `add` (by start) is added.
    """
    place: dict[str, object] = {"storage": storage_id, "area": staging_id}
    values = {
        "by": holder,
        "new_state": state,
        "next_holder": None if until is None else holder,
        "until": until or 0,
        "now": now,
    }
    if not tx.execute(_SAVE, {**place, **values}).rowcount:
        return None
    tx.execute(_DROP_PIECES, {**place, "kept": list(keep)})
    if add:
        rows = [{"storage_id": storage_id, "id": staging_id, "start": at, "content": add[at]} for at in add]
        tx.execute(_ADD_PIECES, rows)
    saved = find(tx, storage_id, staging_id)
    return None if saved is None else saved.version


def release(tx: Connection, storage_id: int, staging_id: str, *, holder: str) -> None:
    """Let go; does nothing if the hold was lost."""
    tx.execute(_RELEASE, {"storage": storage_id, "area": staging_id, "by": holder})


def delete(tx: Connection, storage_id: int, staging_id: str, *, holder: str) -> bool:
    """Remove a held area with its pieces; False if the hold was lost, or the row is gone."""
    place = {"storage": storage_id, "area": staging_id}
    if not tx.execute(_DELETE, {**place, "by": holder}).rowcount:
        return False
    tx.execute(_DROP_ALL_PIECES, place)
    return True


def contents(tx: Connection, storage_id: int, staging_id: str) -> dict[int, bytes]:
    """All pieces of an area by their start: up to a part's size."""
    rows = tx.execute(_CONTENTS, {"storage": storage_id, "area": staging_id})
    return {row.start: row.content for row in rows}


def areas(tx: Connection, storage_id: int, *, after: str, limit: int) -> list[tuple[str, int]]:
    """Areas by id beyond `after`, with the time of their last change, held ones too."""
    rows = tx.execute(_AREAS.limit(limit), {"storage": storage_id, "after": after})
    return [(row.id, row.touched_at) for row in rows]


def holders(tx: Connection, storage_id: int) -> list[str]:
    """The words of all holds, as many as requests that run or died; lapsed ones too."""
    return list(tx.execute(_HOLDERS, {"storage": storage_id}).scalars())


def states(tx: Connection, storage_id: int, *, after: str, limit: int) -> list[tuple[str, str]]:
    """Areas by id beyond `after`, with their states."""
    rows = tx.execute(_STATES.limit(limit), {"storage": storage_id, "after": after})
    return [(row.id, row.state) for row in rows]
