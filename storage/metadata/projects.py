"""Projects: what repositories and robots belong to."""

from collections.abc import Sequence
from typing import TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.errors import Conflict
from storage.metadata import grants
from storage.metadata.tables import projects, repositories
from storage.records import ProjectRecord


class ProjectChanges(TypedDict, total=False):
    """What may change in a project; what is not named stays. Its name stays: clients have it in their image names."""

    description: str


_COLUMNS = (projects.c.id, projects.c.name, projects.c.description, projects.c.created_at)
_GET = sa.select(*_COLUMNS).where(projects.c.id == bindparam("project_id"))
_FIND = sa.select(*_COLUMNS).where(projects.c.name == bindparam("name"))
_PAGE = (
    sa.select(*_COLUMNS).where(projects.c.name > bindparam("after")).order_by(projects.c.name).limit(bindparam("limit"))
)
_PAGE_READABLE = _PAGE.where(projects.c.id.in_(grants.readable_projects(bindparam("readable_by"))))
_INSERT = sa.insert(projects).returning(*_COLUMNS)
_UPDATE = sa.update(projects).where(projects.c.id == bindparam("project_id")).returning(*_COLUMNS)
_DELETE = sa.delete(projects).where(projects.c.id == bindparam("project_id"))
_REPOSITORY = sa.select(repositories.c.name).where(repositories.c.project_id == bindparam("project_id")).limit(1)


def create(tx: Connection, *, name: str, description: str, now: int) -> ProjectRecord:
    """A new project without repositories. `Conflict` if the name is taken."""
    if find(tx, name) is not None:
        raise Conflict(f"project {name} exists already")
    return _record(tx.execute(_INSERT, {"name": name, "description": description, "created_at": now}).one())


def find(tx: Connection, name: str) -> ProjectRecord | None:
    """The project of that name."""
    row = tx.execute(_FIND, {"name": name}).one_or_none()
    return None if row is None else _record(row)


def get(tx: Connection, project_id: int) -> ProjectRecord | None:
    """The project of that id."""
    row = tx.execute(_GET, {"project_id": project_id}).one_or_none()
    return None if row is None else _record(row)


def page(tx: Connection, *, after: str, limit: int, readable_by: int | None) -> list[ProjectRecord]:
    """The next `limit` projects by name beyond `after` (empty: from the start).

    `readable_by` is the account that must have a role on them or be able to read something in them: 0, who has no
    grants, stands for everybody; None leaves nothing out.
    """
    values: dict[str, object] = {"after": after, "limit": limit}
    if readable_by is None:
        return [_record(row) for row in tx.execute(_PAGE, values)]
    return [_record(row) for row in tx.execute(_PAGE_READABLE, {**values, "readable_by": readable_by})]


def update(tx: Connection, project_id: int, **changes: Unpack[ProjectChanges]) -> ProjectRecord | None:
    """Change a project and give its new record; None if there is none."""
    if not changes:
        return get(tx, project_id)
    row = tx.execute(_UPDATE.values(dict(changes)), {"project_id": project_id}).one_or_none()
    return None if row is None else _record(row)


def delete(tx: Connection, project_id: int) -> bool:
    """Remove an empty project with its robots and grants; False if there is none.

    `Conflict` names a repository that it still has. The id is never used again.
    """
    repository = tx.execute(_REPOSITORY, {"project_id": project_id}).scalar_one_or_none()
    if repository is not None:
        raise Conflict(f"the project still has repositories, {repository} among them: delete these first")
    return tx.execute(_DELETE, {"project_id": project_id}).rowcount > 0


def _record(row: Sequence[object]) -> ProjectRecord:
    return ProjectRecord(*row)  # type: ignore[arg-type]  # a row is untyped; _COLUMNS says what it holds
