"""Named storages: the row that says which configured store an object lies in. A row never goes."""

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.tables import blobs, storages

_FIND = sa.select(storages.c.id).where(storages.c.name == bindparam("name"))
_INSERT = sa.insert(storages).returning(storages.c.id)
_ALL = sa.select(storages.c.id, storages.c.name)
_BLOB_COUNT = (
    sa.select(sa.func.count())
    .select_from(blobs.join(storages, storages.c.id == blobs.c.storage_id))
    .where(storages.c.name == bindparam("name"))
)


def ensure(tx: Connection, name: str) -> int:
    """The id of the storage of that name, made now if it is new."""
    if (found := tx.execute(_FIND, {"name": name}).scalar_one_or_none()) is not None:
        return int(found)
    return int(tx.execute(_INSERT, {"name": name}).scalar_one())


def names(tx: Connection) -> dict[int, str]:
    """Every storage that was ever configured, by id."""
    return {row.id: row.name for row in tx.execute(_ALL)}


def blob_count(tx: Connection, name: str) -> int:
    """How many blobs are on record in the storage of that name; counts every row, so only for the start."""
    return int(tx.execute(_BLOB_COUNT, {"name": name}).scalar_one())
