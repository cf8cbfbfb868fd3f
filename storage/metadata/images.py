"""Image names inside a repository: a row appears with the first blob or manifest and goes with its repository."""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.prepared import Prepared
from storage.metadata.tables import images
from storage.records import ImageRecord, RepositoryRecord

_COLUMNS = (images.c.id, images.c.repository_id, images.c.name, images.c.full_name)
_FIND = Prepared(
    sa.select(*_COLUMNS).where(images.c.repository_id == bindparam("repository_id"), images.c.name == bindparam("name"))
)
_NAME_OF = Prepared(sa.select(images.c.name).where(images.c.id == bindparam("image_id")))
_INSERT = sa.insert(images).returning(images.c.id)
_PAGE = sa.select(images.c.full_name).where(images.c.full_name > bindparam("after")).order_by(images.c.full_name)
_PAGE_OF = _PAGE.where(images.c.repository_id.in_(bindparam("repository_ids", expanding=True)))
_PAGE_OF_REPOSITORY = (
    sa.select(*_COLUMNS)
    .where(images.c.repository_id == bindparam("repository_id"), images.c.name > bindparam("after"))
    .order_by(images.c.name)
)


def find(tx: Connection, repository_id: int, name: str) -> ImageRecord | None:
    """The image of that name, if anything was ever pushed to it."""
    row = _FIND.one(tx, {"repository_id": repository_id, "name": name})
    return ImageRecord(*row) if row else None


def name_of(tx: Connection, image_id: int) -> str | None:
    """The name inside its repository; None if the image is gone."""
    name: str | None = _NAME_OF.scalar(tx, {"image_id": image_id})
    return name


def ensure(tx: Connection, repository: RepositoryRecord, name: str, *, now: int) -> ImageRecord:
    """The image of that name, made now if it is new."""
    if found := find(tx, repository.id, name):
        return found
    full_name = f"{repository.full_name}/{name}"
    values = {"repository_id": repository.id, "name": name, "full_name": full_name, "created_at": now}
    return ImageRecord(int(tx.execute(_INSERT, values).scalar_one()), repository.id, name, full_name)


def page(tx: Connection, *, after: str, limit: int, repository_ids: Iterable[int] | None) -> list[str]:
    """Full names in bytewise order beyond `after`, in the given repositories or (None) everywhere."""
    if repository_ids is None:
        return list(tx.execute(_PAGE.limit(limit), {"after": after}).scalars())
    ids = list(repository_ids)
    return list(tx.execute(_PAGE_OF.limit(limit), {"after": after, "repository_ids": ids}).scalars()) if ids else []


def page_of_repository(tx: Connection, repository_id: int, *, after: str, limit: int) -> list[ImageRecord]:
    """The images of one repository by name, in bytewise order beyond `after`."""
    rows = tx.execute(_PAGE_OF_REPOSITORY.limit(limit), {"repository_id": repository_id, "after": after})
    return [ImageRecord(*row) for row in rows]
