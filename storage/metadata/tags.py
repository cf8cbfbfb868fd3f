"""Tags: one row each, moved by one update, never rewritten in place anywhere else."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.digest import Digest
from storage.metadata.prepared import Prepared
from storage.metadata.tables import manifests, tags
from storage.records import TagRecord

_COLUMNS = (
    tags.c.name,
    tags.c.manifest_id,
    manifests.c.digest,
    tags.c.created_at,
    tags.c.moved_at,
    tags.c.moved_by,
    manifests.c.media_type,
)
_FIND = Prepared(
    sa.select(*_COLUMNS)
    .join(manifests, manifests.c.id == tags.c.manifest_id)
    .where(tags.c.image_id == bindparam("image_id"), tags.c.name == bindparam("name"))
)
_OF_MANIFEST = sa.select(tags.c.name).where(tags.c.manifest_id == bindparam("manifest_id")).order_by(tags.c.name)
_PAGE = (
    sa.select(tags.c.name)
    .where(tags.c.image_id == bindparam("image_id"), tags.c.name > bindparam("after"))
    .order_by(tags.c.name)
)
_MOVE = (
    sa.update(tags)
    .where(tags.c.image_id == bindparam("of_image"), tags.c.name == bindparam("of_name"))
    .values(manifest_id=bindparam("to_manifest"), moved_at=bindparam("now"), moved_by=bindparam("by"))
)
_INSERT = sa.insert(tags)
_DELETE = sa.delete(tags).where(tags.c.image_id == bindparam("image_id"), tags.c.name == bindparam("name"))
_DELETE_OF = sa.delete(tags).where(tags.c.manifest_id == bindparam("manifest_id"))


def find(tx: Connection, image_id: int, name: str) -> TagRecord | None:
    """The tag, if it exists."""
    row = _FIND.one(tx, {"image_id": image_id, "name": name})
    return TagRecord(row[0], row[1], Digest.parse(row[2]), row[3], row[4], row[5], row[6]) if row else None


def page(tx: Connection, image_id: int, *, after: str, limit: int) -> list[str]:
    """Names in bytewise order beyond `after` (exclusive, need not exist)."""
    return list(tx.execute(_PAGE.limit(limit), {"image_id": image_id, "after": after}).scalars())


def of_manifest(tx: Connection, manifest_id: int) -> list[str]:
    """All tags that point at the manifest."""
    return list(tx.execute(_OF_MANIFEST, {"manifest_id": manifest_id}).scalars())


def put(tx: Connection, image_id: int, name: str, manifest_id: int, *, by: int | None, now: int) -> None:
    """Point the tag at the manifest, making it if it is new."""
    moved = tx.execute(_MOVE, {"of_image": image_id, "of_name": name, "to_manifest": manifest_id, "now": now, "by": by})
    if moved.rowcount == 0:
        values = {
            "image_id": image_id,
            "name": name,
            "manifest_id": manifest_id,
            "created_at": now,
            "moved_at": now,
            "moved_by": by,
        }
        tx.execute(_INSERT, values)


def delete(tx: Connection, image_id: int, name: str) -> bool:
    """Remove the tag alone; False if there was none."""
    return tx.execute(_DELETE, {"image_id": image_id, "name": name}).rowcount > 0


def delete_of_manifest(tx: Connection, manifest_id: int) -> Sequence[str]:
    """Remove every tag of the manifest and give their names."""
    names = of_manifest(tx, manifest_id)
    if names:
        tx.execute(_DELETE_OF, {"manifest_id": manifest_id})
    return names
