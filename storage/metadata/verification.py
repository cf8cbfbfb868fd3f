"""When stored bytes were last known to be right, for the scrub.

A blob that nobody has verified yet counts as verified when it was stored: its bytes were hashed on their way in. What
is marked as damaged or about to be removed is not asked for.
"""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.blobs import COLUMNS, record
from storage.metadata.tables import blobs
from storage.records import BlobRecord

Place = tuple[int, int]
"""A blob's place in the order of verification: when, and its id."""
FIRST: Final[Place] = (-1, 0)

_known_at = sa.func.coalesce(blobs.c.verified_at, blobs.c.created_at)
_LIVE = sa.and_(blobs.c.damaged_at.is_(None), blobs.c.condemned_at.is_(None))
# Goes through all rows, as `_TOTALS` does: 0.1 s of a survey for 100,000 blobs, a few times a day.
_DUE = (
    sa.select(*COLUMNS, _known_at.label("known_at"))
    .where(
        _LIVE,
        _known_at <= bindparam("before", type_=sa.BigInteger),
        sa.tuple_(_known_at, blobs.c.id)
        > sa.tuple_(bindparam("after_time", type_=sa.BigInteger), bindparam("after", type_=blobs.c.id.type)),
    )
    .order_by(_known_at, blobs.c.id)
)
_TOTALS = sa.select(
    sa.func.coalesce(sa.func.sum(blobs.c.stored_bytes), 0),
    sa.func.coalesce(
        sa.func.sum(blobs.c.stored_bytes).filter(blobs.c.verified_at > bindparam("since", type_=sa.BigInteger)), 0
    ),
).where(_LIVE)


def least_recent(tx: Connection, *, before: int, after: Place, limit: int) -> list[tuple[BlobRecord, Place]]:
    """Blobs last known to be right at `before` or earlier, least recently first, each with its place in the order."""
    values = {"before": before, "after_time": after[0], "after": after[1]}
    return [(record(row), (row.known_at, row.id)) for row in tx.execute(_DUE.limit(limit), values)]


def totals(tx: Connection, *, since: int) -> tuple[int, int]:
    """Stored bytes of all live blobs, and of those that were verified after `since`."""
    every, verified = tx.execute(_TOTALS, {"since": since}).one()
    return int(every), int(verified)
