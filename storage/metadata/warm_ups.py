"""How far images are that somebody asked to be fetched ahead: written by the worker that fetches, read by any."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.tables import warm_ups
from storage.records import WarmUpRecord

RUNNING = "running"
DONE = "done"
STOPPED = "stopped"

_COLUMNS = (
    warm_ups.c.id,
    warm_ups.c.repository_id,
    warm_ups.c.state,
    warm_ups.c.images,
    warm_ups.c.images_done,
    warm_ups.c.blobs,
    warm_ups.c.fetched_bytes,
    warm_ups.c.failures,
    warm_ups.c.begun_at,
    warm_ups.c.updated_at,
)
_INSERT = sa.insert(warm_ups).returning(warm_ups.c.id)
_GET = sa.select(*_COLUMNS).where(
    warm_ups.c.repository_id == bindparam("repository_id"), warm_ups.c.id == bindparam("warm_up_id")
)
_OF = (
    sa.select(*_COLUMNS)
    .where(warm_ups.c.repository_id == bindparam("repository_id"))
    .order_by(warm_ups.c.id.desc())
    .limit(bindparam("limit"))
)
_UPDATE = (
    sa.update(warm_ups)
    .where(warm_ups.c.id == bindparam("warm_up_id"))
    .values(
        state=bindparam("new_state"),
        images_done=bindparam("new_images_done"),
        blobs=bindparam("new_blobs"),
        fetched_bytes=bindparam("new_fetched_bytes"),
        failures=bindparam("new_failures"),
        updated_at=bindparam("new_updated_at"),
    )
)
_DROP = sa.delete(warm_ups).where(
    warm_ups.c.repository_id == bindparam("repository_id"), warm_ups.c.id <= bindparam("warm_up_id")
)
_KEPT = 20


def begin(tx: Connection, repository_id: int, *, images: int, now: int) -> WarmUpRecord:
    """A new one; of those before, the last few of the repository are kept."""
    values = {
        "repository_id": repository_id,
        "state": RUNNING,
        "images": images,
        "images_done": 0,
        "blobs": 0,
        "fetched_bytes": 0,
        "failures": "[]",
        "begun_at": now,
        "updated_at": now,
    }
    warm_up_id = tx.execute(_INSERT, values).scalar_one()
    kept = of(tx, repository_id, limit=_KEPT + 1)
    if len(kept) > _KEPT:
        tx.execute(_DROP, {"repository_id": repository_id, "warm_up_id": kept[-1].id})
    return WarmUpRecord(warm_up_id, repository_id, RUNNING, images, 0, 0, 0, (), now, now)


def get(tx: Connection, repository_id: int, warm_up_id: int) -> WarmUpRecord | None:
    """The one of that id, if it is the repository's."""
    row = tx.execute(_GET, {"repository_id": repository_id, "warm_up_id": warm_up_id}).one_or_none()
    return None if row is None else _record(row)


def of(tx: Connection, repository_id: int, *, limit: int) -> list[WarmUpRecord]:
    """The repository's, the last one first."""
    return [_record(row) for row in tx.execute(_OF, {"repository_id": repository_id, "limit": limit})]


def put(tx: Connection, record: WarmUpRecord) -> None:
    """Write how far it is; nothing, if it is gone with its repository."""
    values = {
        "warm_up_id": record.id,
        "new_state": record.state,
        "new_images_done": record.images_done,
        "new_blobs": record.blobs,
        "new_fetched_bytes": record.fetched_bytes,
        "new_failures": json.dumps(record.failures),
        "new_updated_at": record.updated_at,
    }
    tx.execute(_UPDATE, values)


def _record(row: Any) -> WarmUpRecord:
    return WarmUpRecord(
        id=row.id,
        repository_id=row.repository_id,
        state=row.state,
        images=row.images,
        images_done=row.images_done,
        blobs=row.blobs,
        fetched_bytes=row.fetched_bytes,
        failures=tuple((image, reason) for image, reason in json.loads(row.failures)),
        begun_at=row.begun_at,
        updated_at=row.updated_at,
    )
