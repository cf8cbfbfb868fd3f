"""What virtual repositories are made of, in the order in which it is asked.

Knows which repository contains which, so that none contains itself; whom a member may serve is not decided here.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.errors import Conflict
from storage.metadata import repositories
from storage.metadata.prepared import Prepared
from storage.metadata.tables import projects, repository_members
from storage.metadata.tables import repositories as rows
from storage.records import MemberRecord, RepositoryRecord

MOST_MEMBERS: Final = 50
"""Each may have to be asked for a name that none has."""
MOST_LEVELS: Final = 5
"""So many virtual repositories inside each other, so that a search ends in bounded time."""

_OF = Prepared(
    repositories.SELECT.add_columns(
        repository_members.c.include, repository_members.c.exclude, repository_members.c.is_default
    )
    .join(repository_members, repository_members.c.member_id == rows.c.id)
    .where(repository_members.c.repository_id == bindparam("repository_id"))
    .order_by(repository_members.c.position)
)
_VIRTUALS_OF = (
    repositories.SELECT.join(repository_members, repository_members.c.repository_id == rows.c.id)
    .where(repository_members.c.member_id == bindparam("member_id"))
    .order_by(projects.c.name, rows.c.name)
)
_VIRTUALS = repositories.SELECT.where(rows.c.id.in_(sa.select(repository_members.c.repository_id))).order_by(
    projects.c.name, rows.c.name
)
_VIRTUALS_IN = (
    sa.select(repository_members.c.member_id)
    .distinct()
    .join(rows, rows.c.id == repository_members.c.member_id)
    .where(
        repository_members.c.repository_id.in_(bindparam("ids", expanding=True)), rows.c.repository_type == "virtual"
    )
)
_VIRTUALS_AROUND = (
    sa.select(repository_members.c.repository_id)
    .distinct()
    .where(repository_members.c.member_id.in_(bindparam("ids", expanding=True)))
)
_DROP = sa.delete(repository_members).where(repository_members.c.repository_id == bindparam("repository_id"))
_ADD = sa.insert(repository_members)
_TAKE_OUT = sa.delete(repository_members).where(
    repository_members.c.member_id == bindparam("member_id"),
    repository_members.c.repository_id.in_(bindparam("ids", expanding=True)),
)


@dataclass(frozen=True, slots=True)
class NewMember:
    """A member to be. `include`, `exclude`: globs over image names; an empty `include` is all."""

    member_id: int
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    is_default: bool = False


def of(tx: Connection, repository_id: int) -> list[MemberRecord]:
    """The members of a virtual repository in the order in which they are asked; [] of any other."""
    return [
        MemberRecord(
            repositories.record_of(row),
            tuple(json.loads(row[repositories.COLUMN_COUNT])),
            tuple(json.loads(row[repositories.COLUMN_COUNT + 1])),
            row[repositories.COLUMN_COUNT + 2],
        )
        for row in _OF.all(tx, {"repository_id": repository_id})
    ]


def virtuals_of(tx: Connection, member_id: int) -> list[RepositoryRecord]:
    """The virtual repositories that this one is directly a member of, by name."""
    return [repositories.record_of(row) for row in tx.execute(_VIRTUALS_OF, {"member_id": member_id})]


def virtuals(tx: Connection) -> list[RepositoryRecord]:
    """All virtual repositories that have members, by name."""
    return [repositories.record_of(row) for row in tx.execute(_VIRTUALS)]


def put(tx: Connection, repository_id: int, members: Sequence[NewMember]) -> None:
    """Let the virtual repository have exactly these members, in this order.

    `Conflict` says what is wrong: too many, one twice, one that does not exist, two defaults, one that contains the
    repository itself, more than `MOST_LEVELS` levels. The same again writes nothing: every change ends what is
    remembered of answers.
    """
    before = of(tx, repository_id)
    if [NewMember(each.repository.id, each.include, each.exclude, each.is_default) for each in before] == list(members):
        return
    if len(members) > MOST_MEMBERS:
        raise Conflict(f"a virtual repository can have {MOST_MEMBERS} members at most, not {len(members)}")
    if sum(member.is_default for member in members) > 1:
        raise Conflict("only one member can be the default, which pushes go to")
    known = [_known(tx, member.member_id) for member in members]
    for place, record in enumerate(known):
        if record in known[:place]:
            raise Conflict(f"repository {record.full_name} is a member twice")
        if any(repository_id in level for level in _levels(tx, _VIRTUALS_IN, record.id)):
            raise Conflict(f"repository {record.full_name} contains this one, or is it: none can contain itself")
    inside = max((_virtual_levels(tx, record) for record in known), default=0)
    levels = len(_levels(tx, _VIRTUALS_AROUND, repository_id)) + inside
    if levels > MOST_LEVELS:
        raise Conflict(f"virtual repositories can contain each other {MOST_LEVELS} levels deep, not {levels}")
    tx.execute(_DROP, {"repository_id": repository_id})
    if members:
        tx.execute(_ADD, [_row(repository_id, place, member) for place, member in enumerate(members)])


def take_out(tx: Connection, member_id: int, *, of: Collection[int]) -> None:
    """Let these virtual repositories be without that member; the others keep their order, and none is the new default.

    What it had there is then looked for in the members behind it.
    """
    if of:
        tx.execute(_TAKE_OUT, {"member_id": member_id, "ids": sorted(of)})


def _known(tx: Connection, repository_id: int) -> RepositoryRecord:
    record = repositories.get(tx, repository_id)
    if record is None:
        raise Conflict(f"repository {repository_id} does not exist")
    return record


def _virtual_levels(tx: Connection, record: RepositoryRecord) -> int:
    return len(_levels(tx, _VIRTUALS_IN, record.id)) if record.repository_type == "virtual" else 0


def _levels(tx: Connection, step: sa.Select[Any], repository_id: int) -> list[set[int]]:
    """The repository, then all that a step leads to from there, and so on; ends, as no repository contains itself."""
    levels = [{repository_id}]
    while found := set(tx.execute(step, {"ids": sorted(levels[-1])}).scalars()):
        levels.append(found)
    return levels


def _row(repository_id: int, position: int, member: NewMember) -> dict[str, object]:
    return {
        "repository_id": repository_id,
        "position": position,
        "member_id": member.member_id,
        "include": json.dumps(list(member.include)),
        "exclude": json.dumps(list(member.exclude)),
        "is_default": member.is_default,
    }
