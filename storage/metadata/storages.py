"""Named storages: the row that says which configured store an object lies in. A row never goes."""

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.tables import storages

_FIND = sa.select(storages.c.id).where(storages.c.name == bindparam("name"))
_INSERT = sa.insert(storages).returning(storages.c.id)
_ALL = sa.select(storages.c.id, storages.c.name)


def ensure(tx: Connection, name: str) -> int:
    """The id of the storage of that name, made now if it is new."""
    if (found := tx.execute(_FIND, {"name": name}).scalar_one_or_none()) is not None:
        return int(found)
    return int(tx.execute(_INSERT, {"name": name}).scalar_one())


def names(tx: Connection) -> dict[int, str]:
    """Every storage that was ever configured, by id."""
    return {row.id: row.name for row in tx.execute(_ALL)}
