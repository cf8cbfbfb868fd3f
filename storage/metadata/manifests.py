"""Manifests with their exact bytes, and the reference rows that say what each one needs.

A deleted manifest keeps its row and references for the undelete window: its blobs stay protected as long.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.digest import Digest
from storage.metadata.prepared import Prepared
from storage.metadata.tables import manifest_references, manifests, tags
from storage.records import Document, ManifestRecord, ReferenceRecord

# What is read at once of a listing; a manifest's size bounds its annotations, so this is what a survey holds.
_STEP_BYTES: Final = 2**20
_STEP_ROWS: Final = 500

_COLUMNS = (
    manifests.c.id,
    manifests.c.digest,
    manifests.c.media_type,
    manifests.c.artifact_type,
    manifests.c.subject,
    manifests.c.annotations,
    manifests.c.size_bytes,
    manifests.c.pushed_at,
    manifests.c.deleted_at,
)
_SELECT = sa.select(*_COLUMNS).where(
    manifests.c.image_id == bindparam("image_id"), manifests.c.digest == bindparam("digest")
)
_ANY = Prepared(_SELECT)
_LIVE = Prepared(_SELECT.where(manifests.c.deleted_at.is_(None)))
_DOCUMENT = (manifests.c.digest, manifests.c.media_type, manifests.c.content)
_BY_DIGEST = Prepared(
    sa.select(*_DOCUMENT).where(
        manifests.c.image_id == bindparam("image_id"),
        manifests.c.digest == bindparam("digest"),
        manifests.c.deleted_at.is_(None),
    )
)
_BY_TAG = Prepared(
    sa.select(*_DOCUMENT)
    .join(tags, tags.c.manifest_id == manifests.c.id)
    .where(tags.c.image_id == bindparam("image_id"), tags.c.name == bindparam("name"))
)
_LIVE_MANY = Prepared(
    sa.select(manifests.c.digest, manifests.c.size_bytes)
    .where(
        manifests.c.image_id == bindparam("image_id"),
        manifests.c.digest.in_(bindparam("digests", expanding=True)),
        manifests.c.deleted_at.is_(None),
    )
    .with_for_update(read=True)
)
_INSERT = sa.insert(manifests).returning(manifests.c.id)
_INSERT_REFERENCE = sa.insert(manifest_references)
_ABSENT = sa.select(manifest_references.c.digest).where(
    manifest_references.c.manifest_id == bindparam("manifest_id"),
    manifest_references.c.blob_id.is_(None),
    manifest_references.c.role != "child",
)
_FILL = (
    sa.update(manifest_references)
    .where(
        manifest_references.c.manifest_id == bindparam("of_manifest"),
        manifest_references.c.digest == bindparam("of_digest"),
        manifest_references.c.blob_id.is_(None),
    )
    .values(blob_id=bindparam("came"))
)
_NAMED = (
    manifest_references.c.digest == bindparam("of_digest"),
    manifest_references.c.image_id == bindparam("of_image"),
    manifest_references.c.role != "child",
)
_FILL_ALL = (
    sa.update(manifest_references)
    .where(*_NAMED, manifest_references.c.blob_id.is_(None))
    .values(blob_id=bindparam("came"))
)
_REFERRED_SIZES = Prepared(sa.select(manifest_references.c.size_bytes).where(*_NAMED).distinct().limit(2))
_REVIVE = (
    sa.update(manifests)
    .where(manifests.c.id == bindparam("manifest_id"))
    .values(deleted_at=None, deleted_tags=None, pushed_by=bindparam("by"), pushed_at=bindparam("now"))
)
_MARK_DELETED = (
    sa.update(manifests)
    .where(manifests.c.id == bindparam("manifest_id"), manifests.c.deleted_at.is_(None))
    .values(deleted_at=bindparam("now"), deleted_tags=bindparam("tags"))
)
_RESTORE = (
    sa.update(manifests).where(manifests.c.id == bindparam("manifest_id")).values(deleted_at=None, deleted_tags=None)
)
_DELETED_TAGS = sa.select(manifests.c.deleted_tags).where(manifests.c.id == bindparam("manifest_id"))
# First the keys, then rows a few at a time: 1,000 rows with 4 MiB of annotations each would be gigabytes. The size of
# the whole manifest stands for the length of its annotations, which no database tells without reading them.
_REFERRERS = (
    sa.select(manifests.c.id, manifests.c.size_bytes)
    .where(
        manifests.c.image_id == bindparam("image_id"),
        manifests.c.subject == bindparam("subject"),
        manifests.c.deleted_at.is_(None),
        manifests.c.digest > bindparam("after"),
    )
    .order_by(manifests.c.digest)
)
_REFERRERS_OF_TYPE = _REFERRERS.where(manifests.c.artifact_type == bindparam("artifact_type"))
_OF_IDS = sa.select(*_COLUMNS).where(manifests.c.id.in_(bindparam("ids", expanding=True))).order_by(manifests.c.digest)
_REFERENCES = (
    sa.select(
        manifest_references.c.role,
        manifest_references.c.digest,
        manifest_references.c.size_bytes,
        manifest_references.c.blob_id,
    )
    .where(manifest_references.c.manifest_id == bindparam("manifest_id"))
    .order_by(manifest_references.c.position)
)


def _record(row: Sequence[object]) -> ManifestRecord:
    values = list(row)
    values[1] = Digest.parse(str(values[1]))
    values[4] = Digest.parse(str(values[4])) if values[4] is not None else None
    return ManifestRecord(*values)  # type: ignore[arg-type]  # a row is untyped; the columns above say what it holds


def find(tx: Connection, image_id: int, digest: Digest, *, deleted: bool = False) -> ManifestRecord | None:
    """The manifest, without its bytes; `deleted` also finds one in its undelete window."""
    row = (_ANY if deleted else _LIVE).one(tx, {"image_id": image_id, "digest": str(digest)})
    return _record(row) if row else None


def by_digest(tx: Connection, image_id: int, digest: Digest) -> Document | None:
    """The exact bytes pushed under this digest."""
    row = _BY_DIGEST.one(tx, {"image_id": image_id, "digest": str(digest)})
    return Document(Digest.parse(row[0]), row[1], bytes(row[2]), image_id) if row else None


def by_tag(tx: Connection, image_id: int, name: str) -> Document | None:
    """The exact bytes that the tag points at."""
    row = _BY_TAG.one(tx, {"image_id": image_id, "name": name})
    return Document(Digest.parse(row[0]), row[1], bytes(row[2]), image_id) if row else None


def sizes(tx: Connection, image_id: int, digests: Sequence[Digest]) -> dict[Digest, int]:
    """Size of each of these manifests that the image holds. Keeps them until the transaction ends."""
    found: dict[Digest, int] = {}
    for start in range(0, len(digests), 500):
        names = [str(digest) for digest in digests[start : start + 500]]
        for name, size_bytes in _LIVE_MANY.all(tx, {"image_id": image_id, "digests": names}):
            found[Digest.parse(name)] = size_bytes
    return found


def put(
    tx: Connection,
    image_id: int,
    document: Document,
    *,
    artifact_type: str | None,
    subject: Digest | None,
    annotations: str | None,
    references: Sequence[ReferenceRecord],
    by: int | None,
    now: int,
) -> int:
    """Store a manifest with its references and give its id; one that is there (or was deleted lately) is revived.

    A foreign layer that was absent at the first push and has come since is needed from now on.
    """
    if found := find(tx, image_id, document.digest, deleted=True):
        if found.deleted_at is not None:
            tx.execute(_REVIVE, {"manifest_id": found.id, "by": by, "now": now})
        _need_what_came(tx, found.id, references)
        return found.id
    values = {
        "image_id": image_id,
        "digest": str(document.digest),
        "media_type": document.media_type,
        "artifact_type": artifact_type,
        "subject": str(subject) if subject else None,
        "annotations": annotations,
        "size_bytes": document.size_bytes,
        "content": document.content,
        "pushed_by": by,
        "pushed_at": now,
    }
    manifest_id = int(tx.execute(_INSERT, values).scalar_one())
    _need(tx, manifest_id, image_id, references)
    return manifest_id


def _need(tx: Connection, manifest_id: int, image_id: int, references: Sequence[ReferenceRecord]) -> None:
    rows = [
        {
            "manifest_id": manifest_id,
            "image_id": image_id,
            "position": position,
            "role": reference.role,
            "digest": str(reference.digest),
            "size_bytes": reference.size_bytes,
            "blob_id": reference.blob_id,
        }
        for position, reference in enumerate(references)
    ]
    if rows:
        tx.execute(_INSERT_REFERENCE, rows)


def _need_what_came(tx: Connection, manifest_id: int, references: Sequence[ReferenceRecord]) -> None:
    came = {str(reference.digest): reference.blob_id for reference in references if reference.blob_id is not None}
    for digest in tx.execute(_ABSENT, {"manifest_id": manifest_id}).scalars().all():
        if digest in came:
            tx.execute(_FILL, {"of_manifest": manifest_id, "of_digest": digest, "came": came[digest]})


def fill(tx: Connection, image_id: int, digest: Digest, blob_id: int) -> int:
    """Let all manifests of the image that name this config or layer, and were stored before it came, need the blob.

    Gives how many did not before. Of a cache, whose manifests come first; the caller links the blob as well.
    """
    values = {"of_image": image_id, "of_digest": str(digest), "came": blob_id}
    return tx.execute(_FILL_ALL, values).rowcount


def referred_size(tx: Connection, image_id: int, digest: Digest) -> int | None:
    """The size that the image's manifests say this config or layer has; None if none names it, or they do not agree.

    One that lies must not decide for the others: then nobody knows, and its registry has to be asked.
    """
    sizes = _REFERRED_SIZES.all(tx, {"of_image": image_id, "of_digest": str(digest)})
    return sizes[0][0] if len(sizes) == 1 else None


def mark_deleted(tx: Connection, manifest_id: int, *, tag_names: Sequence[str], now: int) -> bool:
    """Begin the undelete window; False if it is deleted already."""
    values = {"manifest_id": manifest_id, "now": now, "tags": json.dumps(list(tag_names))}
    return tx.execute(_MARK_DELETED, values).rowcount > 0


def restore(tx: Connection, manifest_id: int) -> list[str]:
    """End the undelete window in favour of the manifest; gives the tags that it had."""
    names = tx.execute(_DELETED_TAGS, {"manifest_id": manifest_id}).scalar_one_or_none()
    tx.execute(_RESTORE, {"manifest_id": manifest_id})
    return list(json.loads(names)) if names else []


def referrers(
    tx: Connection, image_id: int, subject: Digest, *, artifact_type: str | None, after: str, limit: int
) -> Iterator[ManifestRecord]:
    """Manifests whose subject is this digest, by digest beyond `after`, optionally of one artifact type.

    Reads as it is iterated, inside the transaction: who stops early has read, and held, about 1 MiB or one manifest's
    annotations more than it took, however many follow.
    """
    values = {"image_id": image_id, "subject": str(subject), "after": after}
    query = _REFERRERS
    if artifact_type is not None:
        query = _REFERRERS_OF_TYPE
        values["artifact_type"] = artifact_type
    for ids in _steps([tuple(row) for row in tx.execute(query.limit(limit), values)]):
        for row in tx.execute(_OF_IDS, {"ids": ids}).all():
            yield _record(row)


def _steps(keys: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The ids in order, in portions of at most `_STEP_BYTES` and `_STEP_ROWS`; one that is larger comes alone."""
    step: list[int] = []
    step_bytes = 0
    for manifest_id, size_bytes in keys:
        if step and (step_bytes + size_bytes > _STEP_BYTES or len(step) == _STEP_ROWS):
            yield step
            step, step_bytes = [], 0
        step.append(manifest_id)
        step_bytes += size_bytes
    if step:
        yield step


def references(tx: Connection, manifest_id: int) -> list[ReferenceRecord]:
    """What the manifest needs, in its own order."""
    rows = tx.execute(_REFERENCES, {"manifest_id": manifest_id})
    return [ReferenceRecord(row[0], Digest.parse(row[1]), row[2], row[3]) for row in rows]
