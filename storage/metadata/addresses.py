"""Further addresses of repositories: hosts of their own, hosts whose other names they serve, namespaces they mirror.

A table to look names up in, never something to dial. Names come in small letters; whoever enters one has checked it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.errors import Conflict
from storage.metadata import repositories
from storage.metadata.tables import repository_addresses
from storage.records import AddressKind, RepositoryRecord

_NAMES = sa.select(repository_addresses.c.kind, repository_addresses.c.name).where(
    repository_addresses.c.repository_id == bindparam("repository_id")
)
_INSERT = sa.insert(repository_addresses)
_DELETE = sa.delete(repository_addresses).where(
    repository_addresses.c.kind == bindparam("of_kind"), repository_addresses.c.name == bindparam("of_name")
)


def names_of(tx: Connection, repository_id: int) -> dict[AddressKind, tuple[str, ...]]:
    """The repository's addresses by kind, each kind with its names in order, also if it has none."""
    rows = sorted(tuple(row) for row in tx.execute(_NAMES, {"repository_id": repository_id}))
    return {kind: tuple(name for of_kind, name in rows if of_kind == kind) for kind in AddressKind}


def find(tx: Connection, kind: AddressKind, name: str) -> RepositoryRecord | None:
    """The repository that has this address."""
    return repositories.by_address(tx, kind, name)


def put(tx: Connection, repository_id: int, kind: AddressKind, names: Sequence[str]) -> None:
    """Give the repository exactly these addresses of this kind. `Conflict` names whoever has one of them already.

    What stays is not written again: every change ends what is remembered of answers.
    """
    before = set(names_of(tx, repository_id)[kind])
    for name in sorted(before - set(names)):
        tx.execute(_DELETE, {"of_kind": str(kind), "of_name": name})
    for name in sorted(set(names) - before):
        _require_free(tx, kind, name)
        tx.execute(_INSERT, {"kind": str(kind), "name": name, "repository_id": repository_id})


def _require_free(tx: Connection, kind: AddressKind, name: str) -> None:
    hosts = (AddressKind.HOST, AddressKind.CATCH_ALL)
    for each in hosts if kind in hosts else (kind,):
        if holder := find(tx, each, name):
            raise Conflict(f"{_WORDS[each]} {name} belongs to repository {holder.full_name}")


_WORDS = {
    AddressKind.HOST: "host",
    AddressKind.CATCH_ALL: "the catch-all of host",
    AddressKind.NAMESPACE: "namespace",
}
