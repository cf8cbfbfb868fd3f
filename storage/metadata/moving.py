"""Rows of one installation for another: read page by page out of one snapshot, written in one transaction.

What was there of an earlier move is taken away before, in small transactions: undoing a large one is kept in memory by
SQLite. A marker tells meanwhile that the installation is not whole (`require_whole`).

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
    "repository_addresses": Fate.COPIED,
    "repository_members": Fate.COPIED,
    "upstream_credentials": Fate.COPIED,
    "tag_checks": Fate.COPIED,
    "manifest_pulls": Fate.COPIED,
    "blob_aliases": Fate.COPIED,
    "storages": Fate.MATCHED,
    "blobs": Fate.MATCHED,
    "uploads": Fate.LEFT,  # their bytes lie in staging areas of the old store; clients begin such pushes anew
    "stagings": Fate.LEFT,
    "staging_segments": Fate.LEFT,
    "removals": Fate.LEFT,  # keys of one store
    "leases": Fate.LEFT,
    "upstream_budgets": Fate.LEFT,  # the next answer of the upstream says it anew
    "warm_ups": Fate.LEFT,  # the workers of the old installation are at them
    "changes": Fate.LEFT,  # triggers write it
}
"""Every table by name."""

_ROWS: Final = 500
# A manifest may have 4 MiB, so a page of these has 32 MiB at most.
_ROWS_WITH_BYTES: Final = 8
# Rows taken away at once: a commit each, and what SQLite keeps of them in memory until then.
_CLEARED: Final = 5000
_CLEARED_WITH_BYTES: Final = 250
# In place of a table of its own for one row: a lease that nobody asks for.
_MARKER: Final = "migration"
_UNDERWAY: Final = "underway"
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
    bound: sa.Select[Any]  # the key of the last row that is cleared at once
    clear: sa.Delete  # up to that key


def _reading(table: sa.Table) -> _Reading:
    key = list(table.primary_key.columns)
    has_bytes = any(isinstance(column.type, sa.LargeBinary) for column in table.c)
    page = sa.select(table).order_by(*key).limit(_ROWS_WITH_BYTES if has_bytes else _ROWS)
    after = [bindparam(f"after_{column.name}", type_=column.type) for column in key]
    place = key[0] if len(key) == 1 else sa.tuple_(*key)
    mark = after[0] if len(key) == 1 else sa.tuple_(*after)
    cleared = _CLEARED_WITH_BYTES if has_bytes else _CLEARED
    names = [column.name for column in table.c]
    return _Reading(
        page,
        page.where(place > mark),
        tuple(names.index(column.name) for column in key),
        sa.select(*key).order_by(*key).limit(1).offset(cleared - 1),
        sa.delete(table).where(place <= mark),
    )


def _storage_columns(table: sa.Table) -> tuple[int, ...]:
    return tuple(place for place, column in enumerate(table.c) if column.references(storages.c.id))


_ORDER: Final = tuple(metadata.sorted_tables)
_READINGS: Final = {table.name: _reading(table) for table in _ORDER}
_STORAGE_COLUMNS: Final = {table.name: _storage_columns(table) for table in _ORDER}
_COUNTED: Final = tuple(
    table.name for table in _ORDER if table.autoincrement_column is not None and "id" in table.primary_key.columns
)
_COPIES: Final = sa.select(blobs).where(
    blobs.c.storage_id == bindparam("of_storage"), blobs.c.digest.in_(bindparam("digests", expanding=True))
)
_OF_IDS: Final = sa.select(blobs.c.id, blobs.c.storage_id, blobs.c.digest).where(
    blobs.c.id.in_(bindparam("ids", expanding=True))
)
_FLIP: Final = sa.update(blobs).values(id=-blobs.c.id)
_FLIP_STRANGERS: Final = _FLIP.where(
    blobs.c.id > bindparam("after"),
    blobs.c.id <= bindparam("last"),
    blobs.c.id.not_in(bindparam("known", expanding=True)),
)
_FLIP_SOME: Final = _FLIP.where(blobs.c.id.in_(bindparam("flipped_ids", expanding=True)))
_FLIP_REST: Final = _FLIP.where(blobs.c.id > bindparam("after"))
_TAKE_ID: Final = sa.update(blobs).where(blobs.c.id == bindparam("given")).values(id=bindparam("wanted"))
_ID_TAKEN: Final = sa.select(blobs.c.id).where(blobs.c.id == bindparam("wanted"))
_PLACE: Final = (
    sa.update(blobs)
    .where(blobs.c.id == bindparam("flipped"))
    .values({column.name: bindparam(f"new_{column.name}") for column in blobs.c})
)
_LOOSE: Final = sa.select(blobs.c.id, blobs.c.storage_id, blobs.c.key).where(blobs.c.id < 0).limit(_ROWS)
_OF_THE_COPY: Final = ("key", "encoding", "stored_bytes", "verified_at", "damaged_at")
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
    found = [_record(row) for row in tx.execute(_COPIES, {"of_storage": storage_id, "digests": list(digests)})]
    return {str(blob.stored.digest): blob for blob in found}


def _record(row: sa.Row[Any]) -> BlobRecord:
    return record([getattr(row, column.name) for column in COLUMNS])


def take_id(tx: Connection, given: int, wanted: int) -> None:
    """Give a blob row that nothing refers to yet the id that it had elsewhere, if that is free."""
    if given != wanted and tx.execute(_ID_TAKEN, {"wanted": wanted}).first() is None:
        tx.execute(_TAKE_ID, {"given": given, "wanted": wanted})
        _raise_sequence(tx, "blobs", wanted)  # PostgreSQL would give that id to another row some time


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
        self._last_blob = 0
        self._written: dict[str, Tally] = {}

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
        self._tx.execute(_FLIP_REST, {"after": self._last_blob})
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
        """Give blob rows that are here the ids of the old ones; gives the rows as they are then.

        Whoever has one of these ids and is another blob makes room under a negative id, until its own page comes.
        """
        names = [column.name for column in blobs.c]
        wanted = [dict(zip(names, row, strict=True)) for row in rows]
        self._make_room(wanted)
        here = self._here(wanted)
        updates, inserts = [], []
        for values in wanted:
            copy = here.get((values["storage_id"], values["digest"]))
            if copy is not None and copy["damaged_at"] is None:
                values |= {name: copy[name] for name in _OF_THE_COPY}
            elif values["id"] in self._lost:
                values["damaged_at"] = values["damaged_at"] or self._now
            else:
                raise Behind
            if copy is None:
                inserts.append(values)
            elif copy != values:
                updates.append({"flipped": copy["id"], **{f"new_{name}": value for name, value in values.items()}})
        if updates:
            self._tx.execute(_PLACE, updates)
        if inserts:
            self._tx.execute(sa.insert(blobs), inserts)
        return [tuple(values[name] for name in names) for values in wanted]

    def _make_room(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        ids = {values["id"]: (values["storage_id"], values["digest"]) for values in wanted}
        last = max(ids)
        self._tx.execute(_FLIP_STRANGERS, {"after": self._last_blob, "last": last, "known": list(ids)})
        self._last_blob = last
        taken = [row.id for row in self._tx.execute(_OF_IDS, {"ids": list(ids)}) if ids[row.id] != tuple(row[1:])]
        if taken:
            self._tx.execute(_FLIP_SOME, {"flipped_ids": taken})

    def _here(self, wanted: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], dict[str, Any]]:
        found = {}
        for storage_id in {values["storage_id"] for values in wanted}:
            digests = [values["digest"] for values in wanted if values["storage_id"] == storage_id]
            for row in self._tx.execute(_COPIES, {"of_storage": storage_id, "digests": digests}):
                found[storage_id, row.digest] = {column.name: getattr(row, column.name) for column in blobs.c}
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


def begin(tx: Connection) -> None:
    """Note that a move to here is underway: nobody may use the installation before it has ended."""
    tx.execute(_DROP_MARKER)
    tx.execute(sa.insert(leases).values(name=_MARKER, holder=_UNDERWAY, expires_at=0))


def clear_some(tx: Connection, tables: Collection[str]) -> bool:
    """Take away some rows of what will come anew, those that refer to others first; False if there are none."""
    for table in reversed(_ORDER):
        if (FATES[table.name] is Fate.COPIED and table.name in tables) or table.name == "uploads":
            reading = _READINGS[table.name]
            bound = tx.execute(reading.bound).first()
            if bound is not None:
                values = {f"after_{column.name}": value for column, value in zip(table.primary_key, bound, strict=True)}
                tx.execute(reading.clear, values)
                return True
            if tx.execute(sa.delete(table)).rowcount > 0:
                return True
    return False


def mark(tx: Connection, found: Mapping[str, Tally]) -> None:
    """Note what the move left here, so that the next one sees whether anybody else has written since."""
    tx.execute(_DROP_MARKER)
    holder = json.dumps({name: [found[name].count, f"{found[name].total:x}"] for name in sorted(_watched(found))})
    tx.execute(sa.insert(leases).values(name=_MARKER, holder=holder, expires_at=0))


def is_untouched(tx: Connection) -> bool:
    """Whether nothing but a move has written here: it is empty, or as the last move left it, or one is underway."""
    holder = tx.execute(_READ_MARKER).scalar_one_or_none()
    if holder == _UNDERWAY:
        return True
    found = tally(tx, _watched(copied_tables()))
    if holder is None:
        return all(each.count == 0 for each in found.values())
    return bool(json.loads(holder) == {name: [each.count, f"{each.total:x}"] for name, each in found.items()})


def require_whole(tx: Connection) -> None:
    """Raise `Conflict` while a move to this installation has not ended."""
    if tx.execute(_READ_MARKER).scalar_one_or_none() == _UNDERWAY:
        raise Conflict(
            "a move to this installation has begun and not ended: run `sluice migrate --to` again, and use it then"
        )


def _watched(tables: Collection[str]) -> set[str]:
    """Not blobs: an interrupted move has added some."""
    return {table for table in tables if FATES[table] is Fate.COPIED}
