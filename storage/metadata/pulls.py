"""When manifests were last pulled, and what a bounded cache gives up first.

An index and the manifests of its image that it names are used together: none of these goes before the index, and what
was pulled of them keeps it. What goes is gone at once, with its tags: a cache gets it anew. Links go with the last
manifest of their image that names them; bytes go with the next sweeps.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.digest import Digest
from storage.metadata.tables import (
    blobs,
    images,
    links,
    manifest_pulls,
    manifest_references,
    manifests,
    tag_checks,
    tags,
)
from storage.records import ColdManifest

FIRST: Final = (0, 0)
"""Before every cold manifest: its time of use and its id."""
EVER: Final = 2**62
"""Later than any time."""

_PULLED_AT = (
    sa.select(manifests.c.id, manifest_pulls.c.pulled_at)
    .outerjoin(manifest_pulls, manifest_pulls.c.manifest_id == manifests.c.id)
    .where(manifests.c.image_id == bindparam("image_id"), manifests.c.digest == bindparam("digest"))
)
_NOTE = (
    sa.update(manifest_pulls)
    .where(manifest_pulls.c.manifest_id == bindparam("of_manifest"))
    .values(pulled_at=bindparam("at"))
)
_NOTE_FIRST = sa.insert(manifest_pulls)

_STORED_BLOBS = sa.select(sa.func.coalesce(sa.func.sum(blobs.c.stored_bytes), 0)).where(
    blobs.c.id.in_(
        sa.select(links.c.blob_id)
        .join(images, images.c.id == links.c.image_id)
        .where(images.c.repository_id == bindparam("repository_id"))
    )
)
_STORED_MANIFESTS = (
    sa.select(sa.func.coalesce(sa.func.sum(manifests.c.size_bytes), 0))
    .join(images, images.c.id == manifests.c.image_id)
    .where(images.c.repository_id == bindparam("repository_id"))
)


def _exists(table: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.select(sa.literal(1)).select_from(table).where(*conditions).exists()


# Also by one that is deleted and may come back.
_NAMED_BY_INDEX = _exists(
    manifest_references,
    manifest_references.c.digest == manifests.c.digest,
    manifest_references.c.image_id == manifests.c.image_id,
    manifest_references.c.role == "child",
)
_CHILD, _CHILD_PULL = manifests.alias("child"), manifest_pulls.alias("child_pull")


def _of_children(latest: sa.ColumnElement[int]) -> sa.ScalarSelect[Any]:
    return (
        sa.select(sa.func.max(latest))
        .select_from(manifest_references)
        .join(
            _CHILD,
            sa.and_(
                _CHILD.c.image_id == manifest_references.c.image_id, _CHILD.c.digest == manifest_references.c.digest
            ),
        )
        .outerjoin(_CHILD_PULL, _CHILD_PULL.c.manifest_id == _CHILD.c.id)
        .where(manifest_references.c.manifest_id == manifests.c.id, manifest_references.c.role == "child")
        .scalar_subquery()
    )


def _later(known: sa.ColumnElement[int], other: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """The later of two times, the second of which may be null. The databases' own functions for it differ."""
    return sa.case((other > known, other), else_=known)


_TIMES = (
    sa.select(
        manifests.c.id,
        manifests.c.image_id,
        images.c.name.label("image"),
        manifests.c.digest,
        manifests.c.pushed_at,
        manifest_pulls.c.pulled_at,
        _of_children(_CHILD.c.pushed_at).label("child_pushed_at"),
        _of_children(_CHILD_PULL.c.pulled_at).label("child_pulled_at"),
    )
    .join(images, images.c.id == manifests.c.image_id)
    .outerjoin(manifest_pulls, manifest_pulls.c.manifest_id == manifests.c.id)
    .where(images.c.repository_id == bindparam("repository_id"), ~_NAMED_BY_INDEX)
    .subquery("times")
)
_USED_AT = _later(
    _later(_later(_TIMES.c.pushed_at, _TIMES.c.pulled_at), _TIMES.c.child_pushed_at), _TIMES.c.child_pulled_at
)
_COLDEST = (
    sa.select(
        _TIMES.c.id,
        _TIMES.c.image_id,
        _TIMES.c.image,
        _TIMES.c.digest,
        _TIMES.c.pushed_at,
        _TIMES.c.pulled_at,
        _USED_AT.label("used_at"),
    )
    .where(
        sa.tuple_(_USED_AT, _TIMES.c.id)
        > sa.tuple_(bindparam("after_time", type_=sa.BigInteger), bindparam("after_id", type_=sa.BigInteger))
    )
    .order_by(_USED_AT, _TIMES.c.id)
)
_OLD = _COLDEST.where(
    _TIMES.c.pushed_at <= bindparam("came_by"),
    _TIMES.c.pulled_at.is_(None) | (_TIMES.c.pulled_at <= bindparam("pulled_by")),
    _TIMES.c.child_pulled_at.is_(None) | (_TIMES.c.child_pulled_at <= bindparam("pulled_by")),
)

_UNUSED = (
    manifests.c.pushed_at <= bindparam("came_by"),
    ~_exists(
        manifest_pulls,
        manifest_pulls.c.manifest_id == manifests.c.id,
        manifest_pulls.c.pulled_at > bindparam("pulled_by"),
    ),
    ~_NAMED_BY_INDEX,
)
_EVICTABLE = sa.select(manifests.c.image_id, manifests.c.size_bytes).where(
    manifests.c.id == bindparam("manifest_id"), *_UNUSED
)
_EVICTABLE_CHILDREN = sa.select(manifests.c.id).where(
    manifests.c.image_id == bindparam("image_id"),
    manifests.c.digest.in_(bindparam("digests", expanding=True)),
    *_UNUSED,
)
_NAMES = sa.select(manifest_references.c.role, manifest_references.c.digest).where(
    manifest_references.c.manifest_id == bindparam("manifest_id")
)
_FORGET_CHECKS = sa.delete(tag_checks).where(
    tag_checks.c.image_id == bindparam("image_id"),
    tag_checks.c.name.in_(sa.select(tags.c.name).where(tags.c.manifest_id == bindparam("manifest_id"))),
)
_DROP = sa.delete(manifests).where(manifests.c.id == bindparam("manifest_id"))
# By name, as the manifest says it, and by blob, as the sweep asks: one that was filled knows both.
_NEEDED = _exists(
    manifest_references,
    manifest_references.c.image_id == links.c.image_id,
    manifest_references.c.digest == links.c.digest,
    manifest_references.c.role != "child",
) | _exists(
    manifest_references,
    manifest_references.c.blob_id == links.c.blob_id,
    manifest_references.c.image_id == links.c.image_id,
)
_UNNEEDED_LINKS = sa.select(links.c.digest, links.c.blob_id).where(
    links.c.image_id == bindparam("image_id"),
    links.c.digest.in_(bindparam("digests", expanding=True)),
    links.c.linked_at <= bindparam("linked_by"),
    ~_NEEDED,
)
_LOOSE = (
    sa.select(links.c.image_id, links.c.digest)
    .join(images, images.c.id == links.c.image_id)
    .where(images.c.repository_id == bindparam("repository_id"), links.c.linked_at <= bindparam("linked_by"), ~_NEEDED)
    .limit(bindparam("limit"))
)
_UNLINK = sa.delete(links).where(links.c.image_id == bindparam("of_image"), links.c.digest == bindparam("of_digest"))
_FREED = sa.select(sa.func.coalesce(sa.func.sum(blobs.c.stored_bytes), 0)).where(
    blobs.c.id.in_(bindparam("ids", expanding=True)),
    ~_exists(
        links.join(images, images.c.id == links.c.image_id),
        links.c.blob_id == blobs.c.id,
        images.c.repository_id
        == sa.select(images.c.repository_id).where(images.c.id == bindparam("image_id")).scalar_subquery(),
    ),
)


# --- times -------------------------------------------------------------------------------------------------------


def note(tx: Connection, pulls: Iterable[tuple[int, Digest, int]]) -> None:
    """Note pulls: image id, digest, time (Unix seconds). Manifests that are not there are passed over."""
    for image_id, digest, at in pulls:
        found = tx.execute(_PULLED_AT, {"image_id": image_id, "digest": str(digest)}).one_or_none()
        if found is None:
            continue
        if found.pulled_at is None:
            tx.execute(_NOTE_FIRST, {"manifest_id": found.id, "pulled_at": at})
        elif found.pulled_at < at:
            tx.execute(_NOTE, {"of_manifest": found.id, "at": at})


# --- what is there -----------------------------------------------------------------------------------------------


def stored_bytes(tx: Connection, repository_id: int) -> int:
    """What the repository holds in its store and in rows: each linked blob once as it is stored, and manifests.

    Looks at every link of the repository: for surveys.
    """
    values = {"repository_id": repository_id}
    return int(tx.execute(_STORED_BLOBS, values).scalar_one()) + int(tx.execute(_STORED_MANIFESTS, values).scalar_one())


def coldest(tx: Connection, repository_id: int, *, after: tuple[int, int] = FIRST, limit: int) -> list[ColdManifest]:
    """Manifests that no index of their image names, least recently used first, beyond `after` (time of use and id).

    Looks at every manifest of the repository: for surveys.
    """
    values = {"repository_id": repository_id, "after_time": after[0], "after_id": after[1]}
    return [_cold(row) for row in tx.execute(_COLDEST.limit(limit), values)]


def old(
    tx: Connection, repository_id: int, *, came_by: int, pulled_by: int, after: tuple[int, int] = FIRST, limit: int
) -> list[ColdManifest]:
    """As `coldest`, of those that came by the one time and were not pulled after the other, nor was what they name."""
    values = {"repository_id": repository_id, "after_time": after[0], "after_id": after[1]}
    limits = {"came_by": came_by, "pulled_by": pulled_by}
    return [_cold(row) for row in tx.execute(_OLD.limit(limit), {**values, **limits})]


def _cold(row: sa.Row[Any]) -> ColdManifest:
    return ColdManifest(
        row.id, row.image_id, row.image, Digest.parse(row.digest), row.pushed_at, row.pulled_at, row.used_at
    )


# --- what goes ---------------------------------------------------------------------------------------------------


def evict(tx: Connection, manifest_id: int, *, came_by: int = EVER, pulled_by: int = EVER) -> int | None:
    """Take the manifest out of its cache, with those that it alone names; gives the bytes that the repository lost.

    None, and nothing changes, if it is gone, if an index names it, or if it came or was pulled after the times given:
    so much may have happened since the caller saw it. What it names stays under the same conditions.
    """
    limits = {"came_by": came_by, "pulled_by": pulled_by}
    waiting = [manifest_id]
    freed: int | None = None
    while waiting:  # no recursion: indexes are nested as deep as an upstream likes
        gone = _evict_one(tx, waiting.pop(), limits)
        if gone is not None:
            freed = (freed or 0) + gone[0]
            waiting += gone[1]
    return freed


def _evict_one(tx: Connection, manifest_id: int, limits: Mapping[str, int]) -> tuple[int, list[int]] | None:
    """One manifest without what it names: the bytes, and the ids of those that nothing holds any more."""
    found = tx.execute(_EVICTABLE, {"manifest_id": manifest_id, **limits}).one_or_none()
    if found is None:
        return None
    image_id, freed = found
    names: dict[str, list[str]] = {"child": [], "blob": []}
    for role, digest in tx.execute(_NAMES, {"manifest_id": manifest_id}):
        names["child" if role == "child" else "blob"].append(digest)
    tx.execute(_FORGET_CHECKS, {"image_id": image_id, "manifest_id": manifest_id})
    tx.execute(_DROP, {"manifest_id": manifest_id})
    children: list[int] = []
    for digests in _portions(names["child"]):
        values = {**limits, "image_id": image_id, "digests": digests}
        children += tx.execute(_EVICTABLE_CHILDREN, values).scalars()
    for digests in _portions(names["blob"]):
        freed += _unlink(tx, image_id, digests)
    return int(freed), children


def loose(tx: Connection, repository_id: int, *, linked_by: int, limit: int) -> list[tuple[int, str]]:
    """Links (image and digest) that no manifest of their image needs, made or renewed by that time; in no order.

    Looks at the links of the repository: for surveys.
    """
    values = {"repository_id": repository_id, "linked_by": linked_by, "limit": limit}
    return [(row.image_id, row.digest) for row in tx.execute(_LOOSE, values)]


def unlink(tx: Connection, found: Sequence[tuple[int, str]], *, linked_by: int) -> int:
    """Take loose links away, where they are that still; gives the bytes that the repository lost."""
    return sum(_unlink(tx, image_id, [digest], linked_by=linked_by) for image_id, digest in found)


def _unlink(tx: Connection, image_id: int, digests: list[str], *, linked_by: int = EVER) -> int:
    """Take away links that nothing of the image needs any more; gives the bytes that the repository lost by that."""
    values = {"image_id": image_id, "digests": digests, "linked_by": linked_by}
    found = tx.execute(_UNNEEDED_LINKS, values).all()
    if not found:
        return 0
    tx.execute(_UNLINK, [{"of_image": image_id, "of_digest": digest} for digest, _ in found])
    ids = sorted({blob_id for _, blob_id in found})
    return int(tx.execute(_FREED, {"image_id": image_id, "ids": ids}).scalar_one())


def _portions(digests: list[str]) -> Iterable[list[str]]:
    distinct = list(dict.fromkeys(digests))
    return (distinct[start : start + 500] for start in range(0, len(distinct), 500))
