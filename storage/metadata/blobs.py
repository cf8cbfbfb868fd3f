"""Stored blobs, their further digests, and the links that make them readable in an image.

A blob row is one stored copy per storage; a link is an image's right to it. Nothing reads bytes without a link.
A key is in a blob row, or among the removals, or (between publish and commit) in neither; never in both, and from the
removals it never comes back: the sweep may be about to remove it.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.blobstore import StoredObject
from storage.digest import Digest
from storage.errors import UploadUnknown
from storage.metadata.prepared import Prepared
from storage.metadata.tables import blob_aliases, blobs, links, removals
from storage.records import BlobRecord

COLUMNS = (
    blobs.c.id,
    blobs.c.storage_id,
    blobs.c.digest,
    blobs.c.key,
    blobs.c.encoding,
    blobs.c.size_bytes,
    blobs.c.stored_bytes,
    blobs.c.created_at,
    blobs.c.condemned_at,
    blobs.c.damaged_at,
)
_OF_DIGEST = sa.select(*COLUMNS).where(
    blobs.c.storage_id == bindparam("storage_id"), blobs.c.digest == bindparam("digest")
)
_BY_DIGEST = Prepared(_OF_DIGEST)
_GET = Prepared(sa.select(*COLUMNS).where(blobs.c.id == bindparam("blob_id")))
_BY_DIGEST_LOCKED = _OF_DIGEST.with_for_update()
_LINKED = Prepared(
    sa.select(*COLUMNS, links.c.linked_at)
    .join(links, links.c.blob_id == blobs.c.id)
    .where(
        links.c.image_id == bindparam("image_id"), links.c.digest == bindparam("digest"), blobs.c.damaged_at.is_(None)
    )
)
# The lock (PostgreSQL; SQLite has one writer anyway) keeps the sweep from taking a link that a manifest will need.
_LINKED_MANY = Prepared(
    sa.select(links.c.digest, blobs.c.id, blobs.c.size_bytes)
    .join(blobs, blobs.c.id == links.c.blob_id)
    .where(
        links.c.image_id == bindparam("image_id"),
        links.c.digest.in_(bindparam("digests", expanding=True)),
        blobs.c.damaged_at.is_(None),
    )
    .with_for_update(read=True, of=links)
)
_INSERT = sa.insert(blobs).returning(blobs.c.id)
_REVIVE = sa.update(blobs).where(blobs.c.id == bindparam("blob_id")).values(condemned_at=None)
_HEAL = (
    sa.update(blobs)
    .where(blobs.c.id == bindparam("blob_id"))
    .values(
        key=bindparam("new_key"),
        encoding=bindparam("new_encoding"),
        size_bytes=bindparam("new_size_bytes"),
        stored_bytes=bindparam("new_stored_bytes"),
        created_at=bindparam("now"),
        condemned_at=None,
        damaged_at=None,
        verified_at=None,
    )
)
_RELINK = (
    sa.update(links)
    .where(links.c.image_id == bindparam("of_image"), links.c.digest == bindparam("of_digest"))
    .values(blob_id=bindparam("to_blob"), linked_at=bindparam("now"))
)
_LINK = sa.insert(links)
_UNLINK = sa.delete(links).where(links.c.image_id == bindparam("image_id"), links.c.digest == bindparam("digest"))
_TOUCH = (
    sa.update(links)
    .where(links.c.image_id == bindparam("of_image"), links.c.digest == bindparam("of_digest"))
    .values(linked_at=bindparam("now"))
)
_ALIAS = sa.select(blob_aliases.c.blob_id).where(
    blob_aliases.c.storage_id == bindparam("storage_id"), blob_aliases.c.digest == bindparam("digest")
)
_ADD_ALIAS = sa.insert(blob_aliases)
_ADD_REMOVAL = sa.insert(removals)
_REMOVAL_KNOWN = sa.select(sa.literal(1)).where(
    removals.c.storage_id == bindparam("storage_id"), removals.c.key == bindparam("key")
)


def record(row: Sequence[Any]) -> BlobRecord:
    """A row of `COLUMNS` (and perhaps more) as a record."""
    identity, storage_id, digest, key, encoding, size_bytes, stored_bytes, created_at, condemned_at, damaged_at, *_ = (
        row
    )
    stored = StoredObject(
        key=key,
        digest=Digest.parse(digest),
        size_bytes=size_bytes,
        stored_bytes=stored_bytes,
        encoding=encoding,
        created_at=created_at,
    )
    return BlobRecord(identity, storage_id, stored, condemned_at, damaged_at)


def find(tx: Connection, storage_id: int, digest: Digest) -> BlobRecord | None:
    """The stored copy under its sha256, whatever its state."""
    row = _BY_DIGEST.one(tx, {"storage_id": storage_id, "digest": str(digest)})
    return record(row) if row else None


def get(tx: Connection, blob_id: int) -> BlobRecord | None:
    """The stored copy of that id, whatever its state."""
    row = _GET.one(tx, {"blob_id": blob_id})
    return record(row) if row else None


def linked(tx: Connection, image_id: int, digest: Digest) -> tuple[BlobRecord, int] | None:
    """The blob that the image may read under this digest, with the time of its link; damaged ones are absent."""
    row = _LINKED.one(tx, {"image_id": image_id, "digest": str(digest)})
    return (record(row), row[-1]) if row else None


def linked_sizes(tx: Connection, image_id: int, digests: Sequence[Digest]) -> dict[Digest, tuple[int, int]]:
    """For each digest that the image may read: blob id and size. Holds the links until the transaction ends."""
    found: dict[Digest, tuple[int, int]] = {}
    for start in range(0, len(digests), 500):  # SQLite takes at most 32,766 parameters, older ones 999
        names = [str(digest) for digest in digests[start : start + 500]]
        for name, blob_id, size_bytes in _LINKED_MANY.all(tx, {"image_id": image_id, "digests": names}):
            found[Digest.parse(name)] = (blob_id, size_bytes)
    return found


def settle(
    tx: Connection,
    storage_id: int,
    digest: Digest,
    stored: StoredObject | None,
    *,
    now: int,
    broken: str | None = None,
) -> int | None:
    """Make sure that a good copy of `digest` (sha256) is on record, and give its id.

    `stored` is the caller's own fresh copy, or None when it relied on one that was there. None is returned when that
    one has gone meanwhile: publish, and settle again. A row whose key is `broken` (the caller looked, and did not find
    it whole) is healed, as one that is marked damaged. A copy that turns out to be superfluous is put among the
    removals. Ends any condemnation, under the row's lock, which the sweep takes too. Raises `UploadUnknown` when the
    caller's copy is needed but was given up long ago (fsck took it for an orphan): only new bytes help.
    """
    row = tx.execute(_BY_DIGEST_LOCKED, {"storage_id": storage_id, "digest": str(digest)}).one_or_none()
    found = record(row) if row else None
    if found is not None and found.damaged_at is None and found.stored.key != broken:
        if found.condemned_at is not None:
            tx.execute(_REVIVE, {"blob_id": found.id})
        if stored is not None and stored.key != found.stored.key:
            free_later(tx, storage_id, stored.key, now=now)
        return found.id
    if stored is None:
        return None
    if is_given_up(tx, storage_id, stored.key):
        raise UploadUnknown("the bytes of this upload waited too long and are being removed: upload again")
    if found is None:
        return _insert(tx, storage_id, stored, now=now)
    _heal(tx, found, stored, now=now)
    return found.id


def free_later(tx: Connection, storage_id: int, key: str, *, now: int) -> None:
    """Put a key that no row has among the removals, for good; again is fine."""
    if not is_given_up(tx, storage_id, key):
        tx.execute(_ADD_REMOVAL, {"storage_id": storage_id, "key": key, "since": now})


def is_given_up(tx: Connection, storage_id: int, key: str) -> bool:
    """Whether the key is among the removals: its bytes may go at any moment."""
    return tx.execute(_REMOVAL_KNOWN, {"storage_id": storage_id, "key": key}).first() is not None


def _insert(tx: Connection, storage_id: int, stored: StoredObject, *, now: int) -> int:
    values = {
        "storage_id": storage_id,
        "digest": str(stored.digest),
        "key": stored.key,
        "encoding": stored.encoding,
        "size_bytes": stored.size_bytes,
        "stored_bytes": stored.stored_bytes,
        "created_at": now,
    }
    return int(tx.execute(_INSERT, values).scalar_one())


def _heal(tx: Connection, found: BlobRecord, stored: StoredObject, *, now: int) -> None:
    values = {
        "blob_id": found.id,
        "new_key": stored.key,
        "new_encoding": stored.encoding,
        "new_size_bytes": stored.size_bytes,
        "new_stored_bytes": stored.stored_bytes,
        "now": now,
    }
    tx.execute(_HEAL, values)
    if found.stored.key != stored.key:
        free_later(tx, found.storage_id, found.stored.key, now=now)


def name_also(tx: Connection, storage_id: int, digest: Digest, blob_id: int) -> None:
    """Record a further digest (sha512) of the same bytes."""
    if tx.execute(_ALIAS, {"storage_id": storage_id, "digest": str(digest)}).scalar_one_or_none() is None:
        tx.execute(_ADD_ALIAS, {"storage_id": storage_id, "digest": str(digest), "blob_id": blob_id})


def link(tx: Connection, image_id: int, digest: Digest, blob_id: int, *, now: int) -> None:
    """Let the image read the blob under this digest, from now on; again is fine and renews the grace period."""
    values = {"of_image": image_id, "of_digest": str(digest), "to_blob": blob_id, "now": now}
    if tx.execute(_RELINK, values).rowcount == 0:
        tx.execute(_LINK, {"image_id": image_id, "digest": str(digest), "blob_id": blob_id, "linked_at": now})


def unlink(tx: Connection, image_id: int, digest: Digest) -> bool:
    """Take the image's right away; False if it had none."""
    return tx.execute(_UNLINK, {"image_id": image_id, "digest": str(digest)}).rowcount > 0


def touch(tx: Connection, seen: Sequence[tuple[int, Digest]], *, now: int) -> None:
    """Renew the grace period of links that a client was just told of."""
    for image_id, digest in seen:
        tx.execute(_TOUCH, {"of_image": image_id, "of_digest": str(digest), "now": now})
