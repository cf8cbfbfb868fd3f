"""Rows of one installation for another: read page by page out of one snapshot, written in one transaction.

Driven by the tables themselves: each is decided once in `FATES`, and a test fails for a new one until it is. Ids stay
as they are, since tokens and links name things by them; only storages go by name, as both installations may have
numbered them differently. Blob rows keep what the new store says of its own copy.

Knows SQLite and PostgreSQL where the two count ids differently, and no stores.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.errors import Conflict
from storage.metadata.blobs import COLUMNS, free_later, record
from storage.metadata.tables import blobs, leases, metadata, storages
from storage.records import BlobRecord

Row = tuple[Any, ...]


class Fate(Enum):
    """What becomes of a table's rows."""

    COPIED = "copied"
    """Replaced by the old installation's rows."""
    MATCHED = "matched"
    """Brought together with what the new installation has: storages by name, blobs by digest."""
    LEFT = "left"
    """Each installation's own."""


FATES: Final[Mapping[str, Fate]] = {
    "projects": Fate.COPIED,
    "repositories": Fate.COPIED,
    "accounts": Fate.COPIED,
    "grants": Fate.COPIED,
    "credentials": Fate.COPIED,
    "signing_keys": Fate.COPIED,
    "images": Fate.COPIED,
    "links": Fate.COPIED,
    "manifests": Fate.COPIED,
    "manifest_references": Fate.COPIED,
    "tags": Fate.COPIED,
    "blob_aliases": Fate.COPIED,
    "storages": Fate.MATCHED,
    "blobs": Fate.MATCHED,
    "uploads": Fate.LEFT,  # their bytes lie in staging areas of the old store; clients begin such pushes anew
    "stagings": Fate.LEFT,
    "staging_segments": Fate.LEFT,
    "removals": Fate.LEFT,  # keys of one store
    "leases": Fate.LEFT,
    "changes": Fate.LEFT,  # triggers write it
}
"""Every table by name."""

_ROWS: Final = 500
# A manifest may have 4 MiB, so a page of these has 32 MiB at most.
_ROWS_WITH_BYTES: Final = 8
# In place of a table of its own for one row: a lease that nobody asks for.
_MARKER: Final = "migration"
_MODULUS: Final = 1 << 128


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows of one table, values in the order of its columns."""

    table: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows, and a sum over all their values that does not depend on their order."""

    count: int = 0
    total: int = 0

    def plus(self, rows: Sequence[Row]) -> "Tally":
        """With these rows too."""
        total = self.total + sum(_digest(row) for row in rows)
        return Tally(self.count + len(rows), total % _MODULUS)


def _digest(row: Row) -> int:
    return int.from_bytes(blake2b(repr(row).encode(), digest_size=16).digest(), "big")


class Behind(Exception):
    """The snapshot has blobs that were not copied yet: they came after the blobs were looked through."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a table is read page by page in the order of its primary key."""

    first: sa.Select[Any]
    further: sa.Select[Any]
    key: tuple[int, ...]  # places of the primary key's columns among the values


def _reading(table: sa.Table) -> _Reading:
    key = list(table.primary_key.columns)
    has_bytes = any(isinstance(column.type, sa.LargeBinary) for column in table.c)
    page = sa.select(table).order_by(*key).limit(_ROWS_WITH_BYTES if has_bytes else _ROWS)
    after = [bindparam(f"after_{column.name}", type_=column.type) for column in key]
    beyond = key[0] > after[0] if len(key) == 1 else sa.tuple_(*key) > sa.tuple_(*after)
    names = [column.name for column in table.c]
    return _Reading(page, page.where(beyond), tuple(names.index(column.name) for column in key))


def _storage_columns(table: sa.Table) -> tuple[int, ...]:
    return tuple(place for place, column in enumerate(table.c) if column.references(storages.c.id))


_ORDER: Final = tuple(metadata.sorted_tables)
_READINGS: Final = {table.name: _reading(table) for table in _ORDER}
_STORAGE_COLUMNS: Final = {table.name: _storage_columns(table) for table in _ORDER}
_COUNTED: Final = tuple(
    table.name for table in _ORDER if table.autoincrement_column is not None and "id" in table.primary_key.columns
)
_COPIES: Final = sa.select(*COLUMNS, blobs.c.verified_at).where(
    blobs.c.storage_id == bindparam("of_storage"), blobs.c.digest.in_(bindparam("digests", expanding=True))
)
_FLIP: Final = sa.update(blobs).where(blobs.c.id > 0).values(id=-blobs.c.id)
_PLACE: Final = (
    sa.update(blobs)
    .where(blobs.c.id == bindparam("flipped"))
    .values({column.name: bindparam(f"new_{column.name}") for column in blobs.c})
)
_LOOSE: Final = sa.select(blobs.c.id, blobs.c.storage_id, blobs.c.key).where(blobs.c.id < 0).limit(_ROWS)
_TOTAL: Final = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(blobs.c.size_bytes), 0)).select_from(blobs)
_READ_MARKER: Final = sa.select(leases.c.holder).where(leases.c.name == _MARKER)
_DROP_MARKER: Final = sa.delete(leases).where(leases.c.name == _MARKER)
_USED_STORAGES: Final = sa.select(storages.c.name).where(
    sa.or_(
        *(
            sa.exists().where(table.c[column] == storages.c.id)
            for table, column in ((blobs, "storage_id"), (metadata.tables["repositories"], "storage_id"))
        )
    )
)


# --- reading -----------------------------------------------------------------------------------------------------


def pages(tx: Connection, tables: Collection[str]) -> Iterator[RowPage]:
    """All rows of these tables, a table after those that it refers to; within one transaction."""
    for table in _ORDER:
        if table.name in tables:
            yield from _pages_of(tx, table.name)


def _pages_of(tx: Connection, table: str) -> Iterator[RowPage]:
    reading = _READINGS[table]
    names = [column.name for column in metadata.tables[table].c]
    rows = [tuple(row) for row in tx.execute(reading.first)]
    while rows:
        yield RowPage(table, rows)
        last = {f"after_{names[place]}": rows[-1][place] for place in reading.key}
        rows = [tuple(row) for row in tx.execute(reading.further, last)]


def tally(tx: Connection, tables: Collection[str]) -> dict[str, Tally]:
    """What these tables hold; reads all of it."""
    found = dict.fromkeys(tables, Tally())
    for page in pages(tx, tables):
        found[page.table] = found[page.table].plus(page.rows)
    return found


def copied_tables() -> frozenset[str]:
    """The tables whose rows are replaced."""
    return frozenset(name for name, fate in FATES.items() if fate is Fate.COPIED and name in metadata.tables)


def blob_total(tx: Connection) -> tuple[int, int]:
    """How many blobs are on record, and how many bytes these have."""
    count, size_bytes = tx.execute(_TOTAL).one()
    return int(count), int(size_bytes)


def used_storages(tx: Connection) -> set[str]:
    """Names of the storages that a blob or a repository needs."""
    return set(tx.execute(_USED_STORAGES).scalars())


def copies(tx: Connection, storage_id: int, digests: Sequence[str]) -> dict[str, BlobRecord]:
    """The blob rows of these digests (at most 500), whatever their state."""
    found = [record(row) for row in tx.execute(_COPIES, {"of_storage": storage_id, "digests": list(digests)})]
    return {str(blob.stored.digest): blob for blob in found}


def sequences(tx: Connection) -> dict[str, int]:
    """The highest id that each table has ever given away, also those of rows that are gone; 0: none yet."""
    found = {}
    for table in _COUNTED:
        highest = tx.execute(sa.select(sa.func.max(metadata.tables[table].c.id))).scalar_one() or 0
        found[table] = max(int(highest), _last_value(tx, table))
    return found


def _last_value(tx: Connection, table: str) -> int:
    if tx.dialect.name == "postgresql":
        asked = sa.text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, 'id')::regclass)")
    else:
        asked = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(tx.execute(asked, {"name": table}).scalar_one_or_none() or 0)


# --- writing -----------------------------------------------------------------------------------------------------


class Reception:
    """Fills an installation with the rows of another, inside the caller's one transaction.

    `storage_ids`: the new id of each old one. `lost`: old ids of blobs whose bytes could not be copied; their rows
    come as damaged, so that the next push of each heals it. `tables`: whose rows come; others stay as they are. `now`:
    Unix seconds.
    """

    def __init__(
        self,
        tx: Connection,
        *,
        tables: Collection[str],
        storage_ids: Mapping[int, int],
        lost: Collection[int],
        now: int,
    ) -> None:
        self._tx = tx
        self._tables = tables
        self._storage_ids = storage_ids
        self._lost = lost
        self._now = now
        self._written: dict[str, Tally] = {}

    def clear(self) -> None:
        """Take away what will come anew; blob rows wait under negative ids for the blobs that they are."""
        for table in reversed(_ORDER):
            if (FATES[table.name] is Fate.COPIED and table.name in self._tables) or table.name == "uploads":
                self._tx.execute(sa.delete(table))
        self._tx.execute(_FLIP)

    def add(self, page: RowPage) -> None:
        """Write a page. Raises `Behind` for a blob that is neither here nor among the lost."""
        rows = [self._renumbered(page.table, row) for row in page.rows]
        if page.table == "blobs":
            rows = self._place(rows)
        else:
            self._insert(page.table, rows)
        self._written[page.table] = self._written.get(page.table, Tally()).plus(rows)

    def finish(self, highest: Mapping[str, int]) -> dict[str, Tally]:
        """Free blobs that no page had, raise the sequences, and read everything back.

        Raises `Conflict` unless exactly what was written is there. Gives what is there, by table.
        """
        while rows := self._tx.execute(_LOOSE).all():
            for _, storage_id, key in rows:
                free_later(self._tx, storage_id, key, now=self._now)
            self._tx.execute(sa.delete(blobs).where(blobs.c.id.in_([row[0] for row in rows])))
        for table, last in highest.items():
            _raise_sequence(self._tx, table, last)
        found = tally(self._tx, copied_tables() | {"blobs"})
        wrong = sorted(table for table in self._tables if found[table] != self._written.get(table, Tally()))
        if wrong:
            raise Conflict(f"rows of {', '.join(wrong)} are not there as they were written")
        return found

    def _renumbered(self, table: str, row: Row) -> Row:
        places = _STORAGE_COLUMNS[table]
        if not places:
            return row
        return tuple(self._storage_ids[value] if place in places else value for place, value in enumerate(row))

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        names = [column.name for column in metadata.tables[table].c]
        values = [dict(zip(names, row, strict=True)) for row in rows]
        self._tx.execute(sa.insert(metadata.tables[table]), values)

    def _place(self, rows: Sequence[Row]) -> list[Row]:
        """Give blob rows that are here the ids of the old ones; gives the rows as they are then."""
        names = [column.name for column in blobs.c]
        here = self._here(rows)
        placed, updates, inserts = [], [], []
        for row in rows:
            values = dict(zip(names, row, strict=True))
            copy = here.get((values["storage_id"], values["digest"]))
            if copy is not None and copy[0].damaged_at is None:
                blob, verified_at = copy
                stored = blob.stored
                values |= {"key": stored.key, "encoding": stored.encoding, "stored_bytes": stored.stored_bytes}
                values |= {"verified_at": verified_at, "damaged_at": None}
            elif values["id"] in self._lost:
                values["damaged_at"] = values["damaged_at"] or self._now
            else:
                raise Behind
            if copy is not None:
                updates.append({"flipped": copy[0].id, **{f"new_{name}": value for name, value in values.items()}})
            else:
                inserts.append(values)
            placed.append(tuple(values[name] for name in names))
        if updates:
            self._tx.execute(_PLACE, updates)
        if inserts:
            self._tx.execute(sa.insert(blobs), inserts)
        return placed

    def _here(self, rows: Sequence[Row]) -> dict[tuple[int, str], tuple[BlobRecord, int | None]]:
        names = [column.name for column in blobs.c]
        storage, digest = names.index("storage_id"), names.index("digest")
        found = {}
        for storage_id in {row[storage] for row in rows}:
            digests = [row[digest] for row in rows if row[storage] == storage_id]
            for row in self._tx.execute(_COPIES, {"of_storage": storage_id, "digests": digests}):
                found[storage_id, row.digest] = (record(row), row.verified_at)
        return found


def _raise_sequence(tx: Connection, table: str, last: int) -> None:
    """Give no id up to `last` to a new row. PostgreSQL does not undo this with the transaction: it may skip ids."""
    if last == 0:
        return
    if tx.dialect.name == "postgresql":
        sequence = "pg_get_serial_sequence(:name, 'id')::regclass"
        tx.execute(
            sa.text(f"SELECT setval({sequence}, greatest(:last, coalesce(pg_sequence_last_value({sequence}), 0)))"),
            {"name": table, "last": last},
        )
        return
    values = {"name": table, "last": last}
    if tx.execute(sa.text("UPDATE sqlite_sequence SET seq = max(seq, :last) WHERE name = :name"), values).rowcount == 0:
        tx.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)


# --- the marker --------------------------------------------------------------------------------------------------


def mark(tx: Connection, found: Mapping[str, Tally]) -> None:
    """Note what the move left here, so that the next one sees whether anybody else has written since."""
    tx.execute(_DROP_MARKER)
    holder = json.dumps({name: [found[name].count, f"{found[name].total:x}"] for name in sorted(_watched(found))})
    tx.execute(sa.insert(leases).values(name=_MARKER, holder=holder, expires_at=0))


def is_untouched(tx: Connection) -> bool:
    """Whether nothing but a move has written here: it is empty, or exactly as the last move left it."""
    holder = tx.execute(_READ_MARKER).scalar_one_or_none()
    found = tally(tx, _watched(copied_tables()))
    if holder is None:
        return all(each.count == 0 for each in found.values())
    return bool(json.loads(holder) == {name: [each.count, f"{each.total:x}"] for name, each in found.items()})


def _watched(tables: Collection[str]) -> set[str]:
    """Not blobs: an interrupted move has added some."""
    return {table for table in tables if FATES[table] is Fate.COPIED}
