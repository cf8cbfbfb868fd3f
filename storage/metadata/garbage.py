"""What the sweep asks and does with rows. Every destructive statement carries its own re-check, so that it decides
at the instant it acts; a push that came first is seen, a push that comes later finds no row and brings its bytes.

The order of a blob's end: its links lapse when no manifest of their image needs them and the grace period is over;
the row without links is condemned; after another grace period it is removed, and its key put among the removals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.digest import Digest
from storage.metadata.blobs import COLUMNS, record
from storage.metadata.tables import blobs, images, links, manifest_references, manifests, removals
from storage.records import BlobRecord


@dataclass(frozen=True, slots=True)
class Doomed:
    """A blob that a sweep removes, now or when its grace is over, and why."""

    blob_id: int
    storage_id: int
    digest: Digest
    stored_bytes: int
    reason: str
    not_before: int


@dataclass(frozen=True, slots=True)
class Removal:
    """A key whose row is gone."""

    storage_id: int
    key: str


_NEEDED_IN_IMAGE = (
    sa.select(sa.literal(1))
    .select_from(manifest_references.join(manifests, manifests.c.id == manifest_references.c.manifest_id))
    .where(manifests.c.image_id == links.c.image_id, manifest_references.c.blob_id == links.c.blob_id)
    .exists()
)
_LINKED = sa.select(sa.literal(1)).where(links.c.blob_id == blobs.c.id).exists()
_REFERENCED = sa.select(sa.literal(1)).where(manifest_references.c.blob_id == blobs.c.id).exists()

_EXPIRED_MANIFESTS = (
    sa.select(manifests.c.id)
    .where(manifests.c.deleted_at.is_not(None), manifests.c.deleted_at <= bindparam("cutoff"))
    .order_by(manifests.c.id)
)
# Blobs of a purged manifest get a grace period of their own, as if they had just been pushed.
_RENEW_LINKS = (
    sa.update(links)
    .where(
        sa.select(sa.literal(1))
        .select_from(manifest_references.join(manifests, manifests.c.id == manifest_references.c.manifest_id))
        .where(
            manifests.c.id == bindparam("manifest_id"),
            manifests.c.image_id == links.c.image_id,
            manifest_references.c.blob_id == links.c.blob_id,
        )
        .exists()
    )
    .values(linked_at=bindparam("now"))
)
_PURGE = sa.delete(manifests).where(
    manifests.c.id == bindparam("manifest_id"),
    manifests.c.deleted_at.is_not(None),
    manifests.c.deleted_at <= bindparam("cutoff"),
)
_LAPSED = (
    sa.select(links.c.image_id, links.c.digest)
    .where(links.c.linked_at <= bindparam("cutoff"), ~_NEEDED_IN_IMAGE)
    .order_by(links.c.linked_at)
)
_LAPSE = sa.delete(links).where(
    links.c.image_id == bindparam("of_image"),
    links.c.digest == bindparam("of_digest"),
    links.c.linked_at <= bindparam("cutoff"),
    ~_NEEDED_IN_IMAGE,
)
_LOOSE = (
    sa.select(blobs.c.id)
    .where(blobs.c.condemned_at.is_(None), blobs.c.created_at <= bindparam("cutoff"), ~_LINKED, ~_REFERENCED)
    .order_by(blobs.c.id)
)
_CONDEMN = (
    sa.update(blobs)
    .where(blobs.c.id == bindparam("blob_id"), blobs.c.condemned_at.is_(None), ~_LINKED, ~_REFERENCED)
    .values(condemned_at=bindparam("now"))
)
_RIPE = (
    sa.select(*COLUMNS)
    .where(blobs.c.condemned_at.is_not(None), blobs.c.condemned_at <= bindparam("cutoff"))
    .order_by(blobs.c.id)
)
_REMOVE = sa.delete(blobs).where(
    blobs.c.id == bindparam("blob_id"),
    blobs.c.condemned_at.is_not(None),
    blobs.c.condemned_at <= bindparam("cutoff"),
    ~_LINKED,
    ~_REFERENCED,
)
# A condemned blob that is linked again was revived by the push that linked it; this is the belt to those braces.
_PARDON = sa.update(blobs).where(blobs.c.condemned_at.is_not(None), _LINKED | _REFERENCED).values(condemned_at=None)
_ADD_REMOVAL = sa.insert(removals)
_REMOVALS = sa.select(removals.c.storage_id, removals.c.key).order_by(removals.c.since)
_REMOVAL_DONE = sa.delete(removals).where(
    removals.c.storage_id == bindparam("storage_id"), removals.c.key == bindparam("key")
)
_KEY_USED = sa.select(sa.literal(1)).where(
    blobs.c.storage_id == bindparam("storage_id"), blobs.c.key == bindparam("key")
)
_REMOVAL_KNOWN = sa.select(sa.literal(1)).where(
    removals.c.storage_id == bindparam("storage_id"), removals.c.key == bindparam("key")
)
_PROSPECTS = (
    sa.select(
        blobs.c.id,
        blobs.c.storage_id,
        blobs.c.digest,
        blobs.c.stored_bytes,
        blobs.c.created_at,
        blobs.c.condemned_at,
        sa.func.max(links.c.linked_at),
    )
    .outerjoin(links, links.c.blob_id == blobs.c.id)
    .where(blobs.c.id > bindparam("after"), ~_REFERENCED)
    .group_by(blobs.c.id)
    .order_by(blobs.c.id)
)
_EVERY = sa.select(*COLUMNS).where(blobs.c.id > bindparam("after")).order_by(blobs.c.id)
_VERIFIED = (
    sa.update(blobs)
    .where(blobs.c.id == bindparam("blob_id"), blobs.c.key == bindparam("of_key"))
    .values(verified_at=bindparam("now"))
)
_DAMAGED = (
    sa.update(blobs)
    .where(blobs.c.id == bindparam("blob_id"), blobs.c.key == bindparam("of_key"))
    .values(damaged_at=bindparam("now"))
)
_IMAGES_OF = (
    sa.select(images.c.full_name)
    .join(links, links.c.image_id == images.c.id)
    .where(links.c.blob_id == bindparam("blob_id"))
    .order_by(images.c.full_name)
    .limit(10)
)


def purge_deleted(tx: Connection, *, cutoff: int, now: int, limit: int) -> int:
    """Drop manifests whose undelete window ended at `cutoff`; gives how many."""
    purged = 0
    for manifest_id in tx.execute(_EXPIRED_MANIFESTS.limit(limit), {"cutoff": cutoff}).scalars().all():
        tx.execute(_RENEW_LINKS, {"manifest_id": manifest_id, "now": now})
        purged += tx.execute(_PURGE, {"manifest_id": manifest_id, "cutoff": cutoff}).rowcount
    return purged


def lapsed_links(tx: Connection, *, cutoff: int, limit: int) -> list[tuple[int, str]]:
    """Links that no manifest of their image needs, as (image, digest); a reading, to be checked again."""
    return [(row[0], row[1]) for row in tx.execute(_LAPSED.limit(limit), {"cutoff": cutoff})]


def lapse(tx: Connection, found: Sequence[tuple[int, str]], *, cutoff: int) -> int:
    """Take these links away, where that still holds; gives how many."""
    return sum(
        tx.execute(_LAPSE, {"of_image": image_id, "of_digest": digest, "cutoff": cutoff}).rowcount
        for image_id, digest in found
    )


def loose_blobs(tx: Connection, *, cutoff: int, limit: int) -> list[int]:
    """Blobs that nothing links and that are older than `cutoff`."""
    return list(tx.execute(_LOOSE.limit(limit), {"cutoff": cutoff}).scalars())


def condemn(tx: Connection, found: Sequence[int], *, now: int) -> int:
    """Put the tombstone on these blobs, where nothing links them still; gives how many."""
    return sum(tx.execute(_CONDEMN, {"blob_id": blob_id, "now": now}).rowcount for blob_id in found)


def pardon(tx: Connection) -> int:
    """Take the tombstone off blobs that are linked again."""
    return tx.execute(_PARDON).rowcount


def ripe_blobs(tx: Connection, *, cutoff: int, limit: int) -> list[BlobRecord]:
    """Blobs condemned before `cutoff`."""
    return [record(row) for row in tx.execute(_RIPE.limit(limit), {"cutoff": cutoff})]


def remove(tx: Connection, found: Sequence[BlobRecord], *, cutoff: int, now: int) -> list[int]:
    """Drop these rows for good, unless revived meanwhile, and put their keys among the removals; gives their sizes."""
    sizes = []
    for blob in found:
        if tx.execute(_REMOVE, {"blob_id": blob.id, "cutoff": cutoff}).rowcount:
            tx.execute(_ADD_REMOVAL, {"storage_id": blob.storage_id, "key": blob.stored.key, "since": now})
            sizes.append(blob.stored.stored_bytes)
    return sizes


def remove_orphan(tx: Connection, storage_id: int, key: str, *, now: int) -> bool:
    """Put a key without a row among the removals; False if a row has it after all."""
    place = {"storage_id": storage_id, "key": key}
    if tx.execute(_KEY_USED, place).first() is not None:
        return False
    if tx.execute(_REMOVAL_KNOWN, place).first() is None:
        tx.execute(_ADD_REMOVAL, {**place, "since": now})
    return True


def is_key_used(tx: Connection, storage_id: int, key: str) -> bool:
    """Whether a blob row has this key, or its removal is on record."""
    place = {"storage_id": storage_id, "key": key}
    return tx.execute(_KEY_USED, place).first() is not None or tx.execute(_REMOVAL_KNOWN, place).first() is not None


def removals_due(tx: Connection, *, limit: int) -> list[Removal]:
    """Keys to be removed from their stores, oldest first."""
    return [Removal(*row) for row in tx.execute(_REMOVALS.limit(limit))]


def removal_done(tx: Connection, removal: Removal) -> None:
    """The store no longer has the key."""
    tx.execute(_REMOVAL_DONE, {"storage_id": removal.storage_id, "key": removal.key})


def prospects(tx: Connection, *, grace_s: int, after: int, limit: int) -> list[Doomed]:
    """Blobs that no manifest needs, by id beyond `after`, with what awaits them; for the dry run."""
    found = []
    for blob_id, storage_id, digest, stored_bytes, created_at, condemned_at, linked_at in tx.execute(
        _PROSPECTS.limit(limit), {"after": after}
    ):
        if condemned_at is not None:
            reason, due = "nothing links it; condemned", condemned_at + grace_s
        elif linked_at is not None:
            reason, due = "no manifest needs it", linked_at + 2 * grace_s
        else:
            reason, due = "nothing links it", created_at + 2 * grace_s
        found.append(Doomed(blob_id, storage_id, Digest.parse(digest), stored_bytes, reason, due))
    return found


def every_blob(tx: Connection, *, after: int, limit: int) -> list[BlobRecord]:
    """All blobs by id beyond `after`."""
    return [record(row) for row in tx.execute(_EVERY.limit(limit), {"after": after})]


def mark_verified(tx: Connection, blob: BlobRecord, *, now: int) -> None:
    """The stored bytes are what the row says."""
    tx.execute(_VERIFIED, {"blob_id": blob.id, "of_key": blob.stored.key, "now": now})


def mark_damaged(tx: Connection, blob: BlobRecord, *, now: int) -> None:
    """The stored bytes are not what the row says: nobody reads them from now on, and the next push heals the row."""
    tx.execute(_DAMAGED, {"blob_id": blob.id, "of_key": blob.stored.key, "now": now})


def images_of(tx: Connection, blob_id: int) -> list[str]:
    """Some (≤ 10) images that link the blob, for the operator."""
    return list(tx.execute(_IMAGES_OF, {"blob_id": blob_id}).scalars())
