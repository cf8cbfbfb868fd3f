"""Open upload sessions. A row goes when its session is finished, cancelled or expired; there are no closed rows."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.digest import Digest
from storage.metadata.prepared import Prepared
from storage.metadata.tables import uploads
from storage.records import UploadRecord

_COLUMNS = (
    uploads.c.id,
    uploads.c.repository_id,
    uploads.c.image,
    uploads.c.storage_id,
    uploads.c.account_id,
    uploads.c.algorithm,
    uploads.c.offset_bytes,
    uploads.c.digest_so_far,
    uploads.c.boot,
    uploads.c.created_at,
    uploads.c.touched_at,
)
_INSERT = sa.insert(uploads)
_FIND = Prepared(sa.select(*_COLUMNS).where(uploads.c.id == bindparam("upload_id")))
_SAVE = (
    sa.update(uploads)
    .where(uploads.c.id == bindparam("upload_id"))
    .values(
        offset_bytes=bindparam("new_offset"),
        digest_so_far=bindparam("new_digest"),
        boot=bindparam("new_boot"),
        touched_at=bindparam("now"),
    )
)
_DELETE = sa.delete(uploads).where(uploads.c.id == bindparam("upload_id"))
_EXPIRE = _DELETE.where(uploads.c.touched_at <= bindparam("cutoff"))
_COUNT = sa.select(sa.func.count()).select_from(uploads).where(uploads.c.account_id == bindparam("account_id"))
_IDLE = (
    sa.select(*_COLUMNS)
    .where(uploads.c.touched_at <= bindparam("cutoff"), uploads.c.id > bindparam("after"))
    .order_by(uploads.c.id)
)
_KNOWN = sa.select(uploads.c.id).where(uploads.c.id.in_(bindparam("ids", expanding=True)))


def _record(row: Sequence[object]) -> UploadRecord:
    values = list(row)
    values[7] = Digest.parse(str(values[7])) if values[7] is not None else None
    return UploadRecord(*values)  # type: ignore[arg-type]  # a row is untyped; the columns above say what it holds


def insert(tx: Connection, upload: UploadRecord) -> None:
    """Open a session."""
    tx.execute(
        _INSERT,
        {
            "id": upload.id,
            "repository_id": upload.repository_id,
            "image": upload.image,
            "storage_id": upload.storage_id,
            "account_id": upload.account_id,
            "algorithm": upload.algorithm,
            "offset_bytes": upload.offset_bytes,
            "digest_so_far": str(upload.digest_so_far) if upload.digest_so_far else None,
            "boot": upload.boot,
            "created_at": upload.created_at,
            "touched_at": upload.touched_at,
        },
    )


def find(tx: Connection, upload_id: str) -> UploadRecord | None:
    """The open session of that id."""
    row = _FIND.one(tx, {"upload_id": upload_id})
    return _record(row) if row else None


def save(tx: Connection, upload_id: str, *, offset_bytes: int, digest: Digest | None, boot: str, now: int) -> bool:
    """Keep what the last request reached; False if the session has gone."""
    values = {
        "upload_id": upload_id,
        "new_offset": offset_bytes,
        "new_digest": str(digest) if digest else None,
        "new_boot": boot,
        "now": now,
    }
    return tx.execute(_SAVE, values).rowcount > 0


def delete(tx: Connection, upload_id: str) -> bool:
    """Close a session; False if it had gone already."""
    return tx.execute(_DELETE, {"upload_id": upload_id}).rowcount > 0


def expire(tx: Connection, upload_id: str, *, cutoff: int) -> bool:
    """Close a session unless it was used after `cutoff`."""
    return tx.execute(_EXPIRE, {"upload_id": upload_id, "cutoff": cutoff}).rowcount > 0


def count(tx: Connection, account_id: int) -> int:
    """Open sessions of one account."""
    return int(tx.execute(_COUNT, {"account_id": account_id}).scalar_one())


def idle_since(tx: Connection, *, cutoff: int, after: str, limit: int) -> list[UploadRecord]:
    """Sessions not used after `cutoff`, by id beyond `after`."""
    return [_record(row) for row in tx.execute(_IDLE.limit(limit), {"cutoff": cutoff, "after": after})]


def known(tx: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these (≤ 500) are open sessions."""
    return set(tx.execute(_KNOWN, {"ids": list(ids)}).scalars())
