"""Roles of accounts on projects and repositories, and what these make readable."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.metadata.prepared import Prepared
from storage.metadata.tables import grants, projects, repositories
from storage.records import GrantRecord

_COLUMNS = (
    grants.c.id,
    grants.c.account_id,
    grants.c.project_id,
    grants.c.repository_id,
    grants.c.role,
    grants.c.created_at,
)
_SELECT = sa.select(*_COLUMNS).order_by(grants.c.id)
_OF_ACCOUNT = grants.c.account_id == bindparam("account_id")
_ON_PROJECT = grants.c.project_id == bindparam("project_id")
_ON_REPOSITORY = grants.c.repository_id == bindparam("repository_id")
_BY_ACCOUNT = _SELECT.where(_OF_ACCOUNT)
_BY_PROJECT = _SELECT.where(_ON_PROJECT)
_BY_REPOSITORY = _SELECT.where(_ON_REPOSITORY)
# A union, not an OR: each half is one look into the unique index of its pair.
_ROLES = Prepared(
    sa.union_all(
        sa.select(grants.c.role).where(_OF_ACCOUNT, _ON_REPOSITORY),
        sa.select(grants.c.role).where(_OF_ACCOUNT, _ON_PROJECT),
    )
)
_SAME_PROJECT = _BY_PROJECT.where(_OF_ACCOUNT)
_SAME_REPOSITORY = _BY_REPOSITORY.where(_OF_ACCOUNT)
_INSERT = sa.insert(grants).returning(*_COLUMNS)
_UPDATE = (
    sa.update(grants)
    .where(grants.c.id == bindparam("grant_id"))
    .values(role=bindparam("new_role"))
    .returning(*_COLUMNS)
)
_DELETE = sa.delete(grants).where(grants.c.id == bindparam("grant_id"))


def readable_repositories(account_id: sa.BindParameter[int]) -> sa.Select[int]:
    """A subquery for listings: ids of the repositories that the account may read.

    Those with anonymous read, and those it has any role on, directly or by their project. For everybody, give an id
    that no account has: 0.
    """
    own = grants.alias("own")
    mine = own.c.account_id == account_id
    return sa.select(repositories.c.id).where(
        repositories.c.anonymous_read.is_(sa.true())
        | repositories.c.id.in_(sa.select(own.c.repository_id).where(mine, own.c.repository_id.is_not(None)))
        | repositories.c.project_id.in_(sa.select(own.c.project_id).where(mine, own.c.project_id.is_not(None)))
    )


def readable_projects(account_id: sa.BindParameter[int]) -> sa.Select[int]:
    """A subquery for listings: ids of the projects that the account has a role on, or may read something in."""
    own = grants.alias("own")
    inside = repositories.alias("inside")
    return sa.select(projects.c.id).where(
        projects.c.id.in_(
            sa.select(own.c.project_id).where(own.c.account_id == account_id, own.c.project_id.is_not(None))
        )
        | projects.c.id.in_(sa.select(inside.c.project_id).where(inside.c.id.in_(readable_repositories(account_id))))
    )


_READABLE_IDS = readable_repositories(bindparam("account_id"))


def readable_ids(tx: Connection, account_id: int) -> list[int]:
    """Ids of all repositories that the account may read; see `readable_repositories`. For a survey."""
    return list(tx.execute(_READABLE_IDS, {"account_id": account_id}).scalars())


def put(
    tx: Connection,
    *,
    account_id: int,
    project_id: int | None = None,
    repository_id: int | None = None,
    role: str,
    now: int,
) -> GrantRecord:
    """Give the account this role on one project or one repository (name one of the two), in place of an older role.

    `Conflict` if the account, project or repository does not exist, or if both or none is named.
    """
    same = _SAME_PROJECT if repository_id is None else _SAME_REPOSITORY
    values = {"account_id": account_id, "project_id": project_id, "repository_id": repository_id}
    existing = tx.execute(same, values).one_or_none()
    if existing is not None:
        return _record(tx.execute(_UPDATE, {"grant_id": existing.id, "new_role": role}).one())
    return _record(tx.execute(_INSERT, {**values, "role": role, "created_at": now}).one())


def remove(tx: Connection, grant_id: int) -> bool:
    """Take a role away; False if it was gone already."""
    return tx.execute(_DELETE, {"grant_id": grant_id}).rowcount > 0


def of_account(tx: Connection, account_id: int) -> list[GrantRecord]:
    """All roles of one account."""
    return [_record(row) for row in tx.execute(_BY_ACCOUNT, {"account_id": account_id})]


def on_project(tx: Connection, project_id: int) -> list[GrantRecord]:
    """All roles on one project; those on its repositories are not among them."""
    return [_record(row) for row in tx.execute(_BY_PROJECT, {"project_id": project_id})]


def on_repository(tx: Connection, repository_id: int) -> list[GrantRecord]:
    """All roles on one repository itself; those on its project are not among them."""
    return [_record(row) for row in tx.execute(_BY_REPOSITORY, {"repository_id": repository_id})]


def roles(tx: Connection, account_id: int, *, repository_id: int, project_id: int) -> tuple[str, ...]:
    """The account's roles on the repository and on its project: none, one or two."""
    values = {"account_id": account_id, "repository_id": repository_id, "project_id": project_id}
    return tuple(row[0] for row in _ROLES.all(tx, values))


def _record(row: Sequence[object]) -> GrantRecord:
    return GrantRecord(*row)  # type: ignore[arg-type]  # a row is untyped; _COLUMNS says what it holds
