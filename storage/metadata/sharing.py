"""Who else has a blob: whether it may be linked into an image without its bytes being sent or fetched once more.

A digest alone is never enough: what counts is a repository that holds the blob and that the caller may read. Looking
takes the same statements whether nobody holds the blob or many repositories do that the caller may not read, or the
time of an answer would tell one from the other (row A6).
"""

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.digest import Digest
from storage.metadata.blobs import COLUMNS, record
from storage.metadata.prepared import Prepared
from storage.metadata.repositories import SELECT, record_of
from storage.metadata.tables import blob_aliases, blobs, images, links, repositories
from storage.records import BlobRecord, RepositoryRecord

MOST_ASKED: Final = 8
"""How many repositories the caller's rights are looked at in, always. Each costs a statement or two."""
_MOST_LINKS: Final = 1000
"""How many links of the blob are looked at for that: one in every image of a fleet would take long."""

MayRead = Callable[[Connection, RepositoryRecord], bool]

_OF_STORAGE: sa.BindParameter[int] = bindparam("storage_id")
_OF_DIGEST: sa.BindParameter[str] = bindparam("digest")
_OWN: sa.BindParameter[int] = bindparam("repository_id")
_NAMED = (
    sa.select(blobs.c.id.label("id"))
    .where(blobs.c.storage_id == _OF_STORAGE, blobs.c.digest == _OF_DIGEST)
    .union_all(
        sa.select(blob_aliases.c.blob_id).where(
            blob_aliases.c.storage_id == _OF_STORAGE, blob_aliases.c.digest == _OF_DIGEST
        )
    )
    .subquery("named")
)
_BLOB = Prepared(
    sa.select(*COLUMNS).join(_NAMED, _NAMED.c.id == blobs.c.id).where(blobs.c.damaged_at.is_(None)).limit(1)
)
_HELD_HERE = Prepared(
    sa.select(sa.literal(1))
    .select_from(links.join(_NAMED, _NAMED.c.id == links.c.blob_id).join(images, images.c.id == links.c.image_id))
    .where(images.c.repository_id == _OWN)
    .limit(1)
)
_SOME_LINKS = (
    sa.select(links.c.image_id)
    .select_from(links.join(_NAMED, _NAMED.c.id == links.c.blob_id))
    .limit(_MOST_LINKS)
    .subquery("some_links")
)
_HOLDER_IDS = sa.select(images.c.repository_id).join(_SOME_LINKS, _SOME_LINKS.c.image_id == images.c.id)
# Whoever shares a project most likely shares rights.
_IN_ORDER = (sa.case((repositories.c.project_id == bindparam("project_id"), 0), else_=1), repositories.c.id)
_OTHERS = SELECT.where(repositories.c.storage_id == _OF_STORAGE, repositories.c.id != _OWN)
_HOLDERS = Prepared(_OTHERS.where(repositories.c.id.in_(_HOLDER_IDS)).order_by(*_IN_ORDER).limit(MOST_ASKED))
_ANY = Prepared(_OTHERS.order_by(repositories.c.id).limit(MOST_ASKED))


def shared(tx: Connection, digest: Digest, repository: RepositoryRecord, may_read: MayRead) -> BlobRecord | None:
    """The blob of the repository's storage if this repository holds it in any image, or one does that may be read.

    `digest`: sha256, or another one that the bytes were pushed under. At most `MOST_ASKED` other repositories are
    asked about, those of the same project first; when more hold the blob, one that may be read can be missed.
    """
    values = {
        "storage_id": repository.storage_id,
        "digest": str(digest),
        "repository_id": repository.id,
        "project_id": repository.project_id,
    }
    found = _BLOB.one(tx, values)
    is_here = _HELD_HERE.one(tx, values) is not None
    holders = [record_of(row) for row in _HOLDERS.all(tx, values)]
    anybody = [record_of(row) for row in _ANY.all(tx, values)]
    if not is_here and not _may_read_one(tx, holders, anybody, may_read):
        return None
    return None if found is None else record(found)


def held(tx: Connection, digest: Digest, repository: RepositoryRecord) -> BlobRecord | None:
    """The blob if this repository holds it, in any image."""
    values = {"storage_id": repository.storage_id, "digest": str(digest), "repository_id": repository.id}
    found = _BLOB.one(tx, values)
    return None if found is None or _HELD_HERE.one(tx, values) is None else record(found)


def _may_read_one(
    tx: Connection, holders: list[RepositoryRecord], anybody: list[RepositoryRecord], may_read: MayRead
) -> bool:
    """Whether one of the holders may be read; asks about others in place of those that are missing."""
    ids = {holder.id for holder in holders}
    others = [each for each in anybody if each.id not in ids][: len(anybody) - len(holders)]
    answers = [may_read(tx, each) for each in (*holders, *others)]
    return any(answers[: len(holders)])
