"""What the sweep asks and does with rows.

Every destructive statement carries its own re-check, so that it decides at the instant it acts; a push that came first
is seen, a push that comes later finds no row and brings its bytes.

The order of a blob's end: its links lapse when no manifest of their image needs them and the grace period is over;
the row without links is condemned; after another grace period it is removed, and its key put among the removals.

A reading looks at one page of rows, however few of them it is after, and tells where the next page begins (None: there
is none). So it ends soon, whatever the table's size, and its snapshot stays open for some milliseconds only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.blobstore import StoredObject
from storage.digest import Digest
from storage.metadata.blobs import COLUMNS, free_later, is_given_up, record
from storage.metadata.tables import blobs, images, links, manifest_references, manifests, removals
from storage.records import BlobRecord

T = TypeVar("T")
K = TypeVar("K")

LinkKey = tuple[int, str]
"""A link's primary key: image and digest."""
FIRST_LINK: Final[LinkKey] = (0, "")
FIRST_REMOVAL: Final[tuple[int, str]] = (0, "")


@dataclass(frozen=True, slots=True)
class Page(Generic[T, K]):
    """What was found among one page of rows, and after which key the next one begins."""

    found: list[T]
    next_after: K | None


@dataclass(frozen=True, slots=True)
class Doomed:
    """A blob that the first sweep from `not_before` on removes, and why; `stored_bytes` come free then."""

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


def _exists(table: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.select(sa.literal(1)).select_from(table).where(*conditions).exists()


# A deleted manifest has its references until it is purged, and so protects what it needs.
_NEEDED_IN_IMAGE = _exists(
    manifest_references,
    manifest_references.c.blob_id == links.c.blob_id,
    manifest_references.c.image_id == links.c.image_id,
)
_LINKED = _exists(links, links.c.blob_id == blobs.c.id)
_REFERENCED = _exists(manifest_references, manifest_references.c.blob_id == blobs.c.id)
_NEEDED_LIVE = _exists(
    manifest_references.join(manifests, manifests.c.id == manifest_references.c.manifest_id),
    manifest_references.c.blob_id == blobs.c.id,
    manifests.c.deleted_at.is_(None),
)

_EXPIRED_MANIFESTS = (
    sa.select(manifests.c.id, manifests.c.image_id)
    .where(manifests.c.deleted_at.is_not(None), manifests.c.deleted_at <= bindparam("cutoff"))
    .order_by(manifests.c.deleted_at)
)
# Blobs of a purged manifest get a grace period of their own, as if they had just been pushed.
_RENEW_LINKS = (
    sa.update(links)
    .where(
        links.c.image_id == bindparam("of_image"),
        links.c.blob_id.in_(
            sa.select(manifest_references.c.blob_id).where(
                manifest_references.c.manifest_id == bindparam("manifest_id"),
                manifest_references.c.blob_id.is_not(None),
            )
        ),
    )
    .values(linked_at=bindparam("now"))
)
_PURGE = sa.delete(manifests).where(
    manifests.c.id == bindparam("manifest_id"),
    manifests.c.deleted_at.is_not(None),
    manifests.c.deleted_at <= bindparam("cutoff"),
)

_LINK_KEY = sa.tuple_(links.c.image_id, links.c.digest)
_AFTER_LINK = sa.tuple_(bindparam("after_image", type_=links.c.image_id.type), bindparam("after_digest", type_=sa.Text))
_LAST_LINK = sa.tuple_(bindparam("last_image", type_=links.c.image_id.type), bindparam("last_digest", type_=sa.Text))
_LINK_PAGE = (
    sa.select(links.c.image_id, links.c.digest)
    .where(_LINK_KEY > _AFTER_LINK)
    .order_by(links.c.image_id, links.c.digest)
)
_LAPSED = sa.select(links.c.image_id, links.c.digest).where(
    _LINK_KEY > _AFTER_LINK, _LINK_KEY <= _LAST_LINK, links.c.linked_at <= bindparam("cutoff"), ~_NEEDED_IN_IMAGE
)
_LAPSE = sa.delete(links).where(
    links.c.image_id == bindparam("of_image"),
    links.c.digest == bindparam("of_digest"),
    links.c.linked_at <= bindparam("cutoff"),
    ~_NEEDED_IN_IMAGE,
)

_BLOB_PAGE = sa.select(blobs.c.id).where(blobs.c.id > bindparam("after")).order_by(blobs.c.id)
_IN_PAGE = sa.and_(blobs.c.id > bindparam("after"), blobs.c.id <= bindparam("last"))
_LOOSE = sa.select(blobs.c.id).where(
    _IN_PAGE, blobs.c.condemned_at.is_(None), blobs.c.created_at <= bindparam("cutoff"), ~_LINKED, ~_REFERENCED
)
_CONDEMN = (
    sa.update(blobs)
    .where(blobs.c.id == bindparam("blob_id"), blobs.c.condemned_at.is_(None), ~_LINKED, ~_REFERENCED)
    .values(condemned_at=bindparam("now"))
)
# A condemned blob that is linked again was revived by the push that linked it; this is the belt to those braces.
_WRONGLY_CONDEMNED = (
    sa.select(blobs.c.id)
    .where(blobs.c.condemned_at.is_not(None), blobs.c.id > bindparam("after"), _LINKED | _REFERENCED)
    .order_by(blobs.c.id)
)
_PARDON = sa.update(blobs).where(blobs.c.id == bindparam("blob_id")).values(condemned_at=None)

_RIPE = (
    sa.select(*COLUMNS)
    .where(
        blobs.c.condemned_at.is_not(None),
        blobs.c.condemned_at <= bindparam("cutoff"),
        sa.tuple_(blobs.c.condemned_at, blobs.c.id)
        > sa.tuple_(bindparam("after_time", type_=sa.BigInteger), bindparam("after", type_=blobs.c.id.type)),
    )
    .order_by(blobs.c.condemned_at, blobs.c.id)
)
_REMOVE = (
    sa.delete(blobs)
    .where(
        blobs.c.id == bindparam("blob_id"),
        blobs.c.condemned_at.is_not(None),
        blobs.c.condemned_at <= bindparam("cutoff"),
        ~_LINKED,
        ~_REFERENCED,
    )
    .returning(blobs.c.storage_id, blobs.c.key, blobs.c.stored_bytes)
)
_REMOVALS = (
    sa.select(removals.c.storage_id, removals.c.key)
    .where(
        sa.tuple_(removals.c.storage_id, removals.c.key)
        > sa.tuple_(bindparam("after_storage", type_=removals.c.storage_id.type), bindparam("after", type_=sa.Text))
    )
    .order_by(removals.c.storage_id, removals.c.key)
)
_REMOVAL_DONE = sa.delete(removals).where(
    removals.c.storage_id == bindparam("of_storage"), removals.c.key == bindparam("of_key")
)

_NEEDED_WHERE_LINKED = _exists(
    links.join(
        manifest_references,
        sa.and_(manifest_references.c.blob_id == links.c.blob_id, manifest_references.c.image_id == links.c.image_id),
    ),
    links.c.blob_id == blobs.c.id,
)
_PROSPECTS = (
    sa.select(
        blobs.c.id,
        blobs.c.storage_id,
        blobs.c.digest,
        blobs.c.stored_bytes,
        blobs.c.created_at,
        blobs.c.condemned_at,
        sa.select(sa.func.max(links.c.linked_at)).where(links.c.blob_id == blobs.c.id).scalar_subquery(),
        sa.select(sa.func.max(manifests.c.deleted_at))
        .join(manifest_references, manifest_references.c.manifest_id == manifests.c.id)
        .where(manifest_references.c.blob_id == blobs.c.id)
        .scalar_subquery(),
        _NEEDED_WHERE_LINKED,
    )
    .where(_IN_PAGE, ~_NEEDED_LIVE)
    .order_by(blobs.c.id)
)

# The digest is there for the index: no two rows of a storage have the same one.
_KEY_USED = sa.select(sa.literal(1)).where(
    blobs.c.storage_id == bindparam("storage_id"),
    blobs.c.digest == bindparam("digest"),
    blobs.c.key == bindparam("key"),
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
_SOUND = (
    sa.update(blobs)
    .where(
        blobs.c.id == bindparam("blob_id"), blobs.c.key == bindparam("of_key"), blobs.c.damaged_at == bindparam("since")
    )
    .values(damaged_at=None, verified_at=bindparam("now"))
)
_IMAGES_OF = (
    sa.select(images.c.full_name)
    .join(links, links.c.image_id == images.c.id)
    .where(links.c.blob_id == bindparam("blob_id"))
    .order_by(images.c.full_name)
    .limit(10)
)


# --- manifests and links -----------------------------------------------------------------------------------------


def purge_deleted(tx: Connection, *, cutoff: int, now: int, limit: int) -> int:
    """Drop manifests whose undelete window ended at `cutoff`; gives how many."""
    purged = 0
    for manifest_id, image_id in tx.execute(_EXPIRED_MANIFESTS.limit(limit), {"cutoff": cutoff}).all():
        tx.execute(_RENEW_LINKS, {"manifest_id": manifest_id, "of_image": image_id, "now": now})
        purged += tx.execute(_PURGE, {"manifest_id": manifest_id, "cutoff": cutoff}).rowcount
    return purged


def lapsed_links(tx: Connection, *, cutoff: int, after: LinkKey, limit: int) -> Page[LinkKey, LinkKey]:
    """Links that no manifest of their image needs; a reading, to be checked again."""
    place = {"after_image": after[0], "after_digest": after[1]}
    page = tx.execute(_LINK_PAGE.limit(limit), place).all()
    if not page:
        return Page([], None)
    last_image, last_digest = page[-1]
    values = {**place, "last_image": last_image, "last_digest": last_digest, "cutoff": cutoff}
    found = [(row[0], row[1]) for row in tx.execute(_LAPSED, values)]
    return Page(found, (last_image, last_digest) if len(page) == limit else None)


def lapse(tx: Connection, found: Sequence[LinkKey], *, cutoff: int) -> int:
    """Take these links away, where that still holds; gives how many."""
    return sum(
        tx.execute(_LAPSE, {"of_image": image_id, "of_digest": digest, "cutoff": cutoff}).rowcount
        for image_id, digest in found
    )


# --- blobs -------------------------------------------------------------------------------------------------------


def wrongly_condemned(tx: Connection, *, after: int, limit: int) -> list[int]:
    """Condemned blobs that something links or needs, by id beyond `after`."""
    return list(tx.execute(_WRONGLY_CONDEMNED.limit(limit), {"after": after}).scalars())


def pardon(tx: Connection, found: Sequence[int]) -> None:
    """Take the tombstone off these blobs: keeping is always allowed."""
    tx.execute(_PARDON, [{"blob_id": blob_id} for blob_id in found])


def loose_blobs(tx: Connection, *, cutoff: int, after: int, limit: int) -> Page[int, int]:
    """Blobs that nothing links or needs and that are older than `cutoff`; a reading, to be checked again."""
    last, next_after = _page_of_blobs(tx, after=after, limit=limit)
    found = tx.execute(_LOOSE, {"after": after, "last": last, "cutoff": cutoff}).scalars()
    return Page(list(found), next_after)


def condemn(tx: Connection, found: Sequence[int], *, now: int) -> int:
    """Put the tombstone on these blobs, where nothing links them still; gives how many."""
    return sum(tx.execute(_CONDEMN, {"blob_id": blob_id, "now": now}).rowcount for blob_id in found)


def ripe_blobs(tx: Connection, *, cutoff: int, after: BlobRecord | None, limit: int) -> list[BlobRecord]:
    """Blobs condemned at `cutoff` or before, in the order of their condemnation beyond `after`."""
    time, identity = (after.condemned_at, after.id) if after is not None else (-1, 0)
    values = {"cutoff": cutoff, "after_time": time, "after": identity}
    return [record(row) for row in tx.execute(_RIPE.limit(limit), values)]


def remove(tx: Connection, found: Sequence[BlobRecord], *, cutoff: int, now: int) -> list[int]:
    """Drop these rows for good, unless revived meanwhile, and put their keys among the removals; gives their sizes."""
    sizes = []
    for blob in found:
        for storage_id, key, stored_bytes in tx.execute(_REMOVE, {"blob_id": blob.id, "cutoff": cutoff}).all():
            free_later(tx, storage_id, key, now=now)
            sizes.append(stored_bytes)
    return sizes


def prospects(tx: Connection, *, grace_s: int, undelete_s: int, now: int, after: int, limit: int) -> Page[Doomed, int]:
    """Blobs that no manifest needs, but perhaps deleted ones, with what awaits them; for the dry run."""
    last, next_after = _page_of_blobs(tx, after=after, limit=limit)
    rows = tx.execute(_PROSPECTS, {"after": after, "last": last}).all()
    return Page([_doomed(row, grace_s=grace_s, undelete_s=undelete_s, now=now) for row in rows], next_after)


def _page_of_blobs(tx: Connection, *, after: int, limit: int) -> tuple[int, int | None]:
    """The last id of the page, and after which id the next one begins."""
    ids = tx.execute(_BLOB_PAGE.limit(limit), {"after": after}).scalars().all()
    last = ids[-1] if ids else after
    return last, last if len(ids) == limit else None


def _doomed(row: Sequence[Any], *, grace_s: int, undelete_s: int, now: int) -> Doomed:
    blob_id, storage_id, digest, stored_bytes, created_at, condemned_at, linked_at, deleted_at, is_renewed = row
    loose_at, reason = created_at + grace_s, "nothing links it"
    if linked_at is not None:
        loose_at, reason = linked_at + grace_s, "no manifest needs it"
    if deleted_at is not None:
        purged_at = max(deleted_at + undelete_s, now)
        loose_at, reason = max(loose_at, purged_at + grace_s * is_renewed), "only deleted manifests need it"
    removed_at = (max(loose_at, now) if condemned_at is None else condemned_at) + grace_s
    return Doomed(blob_id, storage_id, Digest.parse(digest), stored_bytes, reason, removed_at)


# --- keys --------------------------------------------------------------------------------------------------------


def remove_orphan(tx: Connection, storage_id: int, stored: StoredObject, *, now: int) -> bool:
    """Put a key without a row among the removals; False if a row has it after all."""
    if _is_row(tx, storage_id, stored):
        return False
    free_later(tx, storage_id, stored.key, now=now)
    return True


def is_key_used(tx: Connection, storage_id: int, stored: StoredObject) -> bool:
    """Whether a blob row has this object's key, or its removal is on record."""
    return _is_row(tx, storage_id, stored) or is_given_up(tx, storage_id, stored.key)


def _is_row(tx: Connection, storage_id: int, stored: StoredObject) -> bool:
    values = {"storage_id": storage_id, "digest": str(stored.digest), "key": stored.key}
    return tx.execute(_KEY_USED, values).first() is not None


def removals_due(tx: Connection, *, after: tuple[int, str], limit: int) -> list[Removal]:
    """Keys to be removed from their stores, by storage and key beyond `after`."""
    values = {"after_storage": after[0], "after": after[1]}
    return [Removal(*row) for row in tx.execute(_REMOVALS.limit(limit), values)]


def removals_done(tx: Connection, done: Sequence[Removal]) -> None:
    """The stores no longer have these keys."""
    tx.execute(_REMOVAL_DONE, [{"of_storage": each.storage_id, "of_key": each.key} for each in done])


# --- what fsck asks ----------------------------------------------------------------------------------------------


def every_blob(tx: Connection, *, after: int, limit: int) -> list[BlobRecord]:
    """All blobs by id beyond `after`."""
    return [record(row) for row in tx.execute(_EVERY.limit(limit), {"after": after})]


def mark_verified(tx: Connection, found: Sequence[BlobRecord], *, now: int) -> None:
    """The stored bytes of these are what their rows say."""
    tx.execute(_VERIFIED, [{"blob_id": blob.id, "of_key": blob.stored.key, "now": now} for blob in found])


def mark_damaged(tx: Connection, blob: BlobRecord, *, now: int) -> bool:
    """The stored bytes are not what the row says: nobody reads them from now on, and the next push heals the row.

    False if it was healed or removed meanwhile.
    """
    return tx.execute(_DAMAGED, {"blob_id": blob.id, "of_key": blob.stored.key, "now": now}).rowcount > 0


def mark_sound(tx: Connection, blob: BlobRecord, *, now: int) -> bool:
    """The stored bytes of a damaged blob are what its row says after all; False if the row has changed meanwhile."""
    values = {"blob_id": blob.id, "of_key": blob.stored.key, "since": blob.damaged_at, "now": now}
    return tx.execute(_SOUND, values).rowcount > 0


def images_of(tx: Connection, blob_id: int) -> list[str]:
    """Some (≤ 10) images that link the blob, for the operator."""
    return list(tx.execute(_IMAGES_OF, {"blob_id": blob_id}).scalars())
