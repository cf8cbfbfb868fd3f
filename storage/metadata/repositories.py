"""Repositories and their settings, and the way from an image name to the repository that serves it.

Names never contain `/`; a full name is `project/repository`. Image names are not looked at beyond their segments.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from storage.errors import Conflict
from storage.metadata import grants
from storage.metadata.prepared import Prepared
from storage.metadata.tables import projects, repositories, repository_addresses, repository_members, storages
from storage.records import FRONT_DOOR, AddressKind, Door, RepositoryRecord


class RepositoryChanges(TypedDict, total=False):
    """What may change in a repository; what is not named stays. Its type and storage stay: its blobs lie there.

    `settings`: a JSON object in place of the one before; what `redirect_pulls` says is kept, or given beside it.
    """

    description: str
    flat_alias_prefix: str | None
    is_catch_all: bool
    anonymous_read: bool
    immutable_tags: Sequence[str]
    redirect_pulls: bool
    settings: str


_REDIRECT_PULLS = "redirect_pulls"  # in the column of settings, where a version that does not know it leaves it alone
SELECT = (
    sa.select(
        repositories.c.id,
        repositories.c.project_id,
        projects.c.name.label("project"),
        repositories.c.name,
        repositories.c.description,
        repositories.c.format,
        repositories.c.repository_type,
        repositories.c.storage_id,
        storages.c.name.label("storage"),
        repositories.c.flat_alias_prefix,
        repositories.c.is_catch_all,
        repositories.c.anonymous_read,
        repositories.c.immutable_tags,
        repositories.c.created_at,
        repositories.c.updated_at,
        repositories.c.settings,
    )
    .join(projects, projects.c.id == repositories.c.project_id)
    .join(storages, storages.c.id == repositories.c.storage_id)
)
COLUMN_COUNT = len(SELECT.selected_columns)
_NAMED = projects.alias("named")
_IS_CATCH_ALL = repositories.c.is_catch_all.is_(sa.true())
_HAS_ALIAS = repositories.c.flat_alias_prefix.in_(bindparam("prefixes", expanding=True))
_GET = Prepared(SELECT.where(repositories.c.id == bindparam("repository_id")))
_FIND = Prepared(SELECT.where(projects.c.name == bindparam("project"), repositories.c.name == bindparam("name")))
_BY_ALIAS = Prepared(SELECT.where(_HAS_ALIAS))
_CATCH_ALL = Prepared(SELECT.where(_IS_CATCH_ALL))
_BY_ADDRESS = Prepared(
    SELECT.add_columns(repository_addresses.c.kind)
    .join(repository_addresses, repository_addresses.c.repository_id == repositories.c.id)
    .where(
        repository_addresses.c.kind.in_(bindparam("kinds", expanding=True)),
        repository_addresses.c.name == bindparam("name"),
    )
)
# A project's names are its own: the catch-all never serves what begins with an existing project, or whoever may push
# to the catch-all could put images under names that belong to others.
_NO_SUCH_PROJECT = ~sa.exists(sa.select(sa.literal(1)).where(_NAMED.c.name == bindparam("project")))
_ALIAS_OR_CATCH_ALL = Prepared(SELECT.where(_HAS_ALIAS | (_IS_CATCH_ALL & _NO_SUCH_PROJECT)))
_PROJECT_EXISTS = Prepared(sa.select(projects.c.id).where(projects.c.name == bindparam("project")))
# The first condition lets the index of project names find the place; the second is the exact one.
_PAGE = (
    SELECT.where(
        projects.c.name >= bindparam("after_project"),
        (projects.c.name > bindparam("after_project")) | (repositories.c.name > bindparam("after_name")),
    )
    .order_by(projects.c.name, repositories.c.name)
    .limit(bindparam("limit"))
)
_PAGE_OF = _PAGE.where(projects.c.name == bindparam("project"))
_READABLE = repositories.c.id.in_(grants.readable_repositories(bindparam("readable_by")))
_PAGE_READABLE = _PAGE.where(_READABLE)
_PAGE_OF_READABLE = _PAGE_OF.where(_READABLE)
_INSERT = sa.insert(repositories).returning(repositories.c.id)
_UPDATE = sa.update(repositories).where(repositories.c.id == bindparam("repository_id"))
_SETTINGS = sa.select(repositories.c.settings).where(repositories.c.id == bindparam("repository_id"))
_DELETE = sa.delete(repositories).where(repositories.c.id == bindparam("repository_id"))
_VIRTUAL_OF = (
    sa.select(projects.c.name, repositories.c.name)
    .select_from(repository_members)
    .join(repositories, repositories.c.id == repository_members.c.repository_id)
    .join(projects, projects.c.id == repositories.c.project_id)
    .where(repository_members.c.member_id == bindparam("repository_id"))
    .order_by(projects.c.name, repositories.c.name)
    .limit(1)
)
_PROJECT = sa.select(projects.c.name).where(projects.c.id == bindparam("project_id"))


def create(
    tx: Connection,
    *,
    project_id: int,
    name: str,
    description: str,
    format: str,  # noqa: A002 - the word of the API
    repository_type: str,
    storage_id: int,
    flat_alias_prefix: str | None,
    is_catch_all: bool,
    anonymous_read: bool,
    immutable_tags: Sequence[str],
    redirect_pulls: bool = False,
    settings: str = "{}",
    now: int,
) -> RepositoryRecord:
    """A new, empty repository. `Conflict` names what is taken: the name, the alias, the place of the catch-all.

    `repository_type`: hosted, proxy or virtual. `settings`: a JSON object that whoever serves the type understands.
    """
    project = tx.execute(_PROJECT, {"project_id": project_id}).scalar_one_or_none()
    if project is None:
        raise Conflict(f"project {project_id} does not exist")
    if find(tx, project, name) is not None:
        raise Conflict(f"repository {project}/{name} exists already")
    _require_free(tx, None, flat_alias_prefix=flat_alias_prefix, is_catch_all=is_catch_all)
    values = {
        "project_id": project_id,
        "name": name,
        "description": description,
        "format": format,
        "repository_type": repository_type,
        "storage_id": storage_id,
        "flat_alias_prefix": flat_alias_prefix,
        "is_catch_all": is_catch_all,
        "anonymous_read": anonymous_read,
        "immutable_tags": json.dumps(list(immutable_tags)),
        "settings": _settings(settings, redirect_pulls=redirect_pulls),
        "created_at": now,
        "updated_at": now,
    }
    return _one(tx, tx.execute(_INSERT, values).scalar_one())


def find(tx: Connection, project: str, name: str) -> RepositoryRecord | None:
    """The repository of that name in that project."""
    return _record(_FIND.one(tx, {"project": project, "name": name}))


def get(tx: Connection, repository_id: int) -> RepositoryRecord | None:
    """The repository of that id."""
    return _record(_GET.one(tx, {"repository_id": repository_id}))


def page(
    tx: Connection, *, project: str | None, after: str, limit: int, readable_by: int | None
) -> list[RepositoryRecord]:
    """The next `limit` repositories by project, then name, beyond the full name `after` (empty: from the start).

    `project` narrows to one project. `readable_by` is the account that must be able to read them: 0, who has no
    grants, stands for everybody; None leaves nothing out.
    """
    after_project, _, after_name = after.partition("/")
    values: dict[str, object] = {"after_project": after_project, "after_name": after_name, "limit": limit}
    if project is not None:
        values["project"] = project
    if readable_by is None:
        statement = _PAGE if project is None else _PAGE_OF
    else:
        values["readable_by"] = readable_by
        statement = _PAGE_READABLE if project is None else _PAGE_OF_READABLE
    return [record_of(row) for row in tx.execute(statement, values)]


def update(
    tx: Connection, repository_id: int, *, now: int, **changes: Unpack[RepositoryChanges]
) -> RepositoryRecord | None:
    """Change settings and give the new record; None if there is no such repository. `Conflict` as in `create`."""
    _require_free(
        tx,
        repository_id,
        flat_alias_prefix=changes.get("flat_alias_prefix"),
        is_catch_all=changes.get("is_catch_all", False),
    )
    values: dict[str, object] = {**changes, "updated_at": now}
    if "immutable_tags" in changes:
        values["immutable_tags"] = json.dumps(list(changes["immutable_tags"]))
    if "redirect_pulls" in values or "settings" in values:
        before = tx.execute(_SETTINGS, {"repository_id": repository_id}).scalar() or "{}"
        redirect_pulls = bool(values.pop("redirect_pulls", _may_redirect(before)))
        values["settings"] = _settings(changes.get("settings", before), redirect_pulls=redirect_pulls)
    tx.execute(_UPDATE.values(values), {"repository_id": repository_id})
    return get(tx, repository_id)


def delete(tx: Connection, repository_id: int) -> bool:
    """Remove a repository with its images, upload sessions, grants and addresses; False if there is none.

    Its id is never used again. Blobs stay until garbage collection finds that nothing links them. `Conflict` names a
    virtual repository that it is a member of: without it, names there would come from another member.
    """
    virtual = tx.execute(_VIRTUAL_OF, {"repository_id": repository_id}).one_or_none()
    if virtual is not None:
        raise Conflict(f"it is a member of the virtual repository {virtual[0]}/{virtual[1]}: take it out there first")
    return tx.execute(_DELETE, {"repository_id": repository_id}).rowcount > 0


# --- routing -----------------------------------------------------------------------------------------------------


def by_alias(tx: Connection, prefixes: Sequence[str]) -> RepositoryRecord | None:
    """The repository whose flat alias prefix is the longest of `prefixes`."""
    return _longest(_BY_ALIAS.all(tx, {"prefixes": list(prefixes)}), prefixes) if prefixes else None


def catch_all(tx: Connection) -> RepositoryRecord | None:
    """The repository that serves every name which no other one does."""
    return _record(_CATCH_ALL.one(tx, {}))


def by_address(tx: Connection, kind: AddressKind, name: str) -> RepositoryRecord | None:
    """The repository that has this address."""
    return _by_address(tx, (kind,), name).get(kind)


def _by_address(tx: Connection, kinds: Sequence[AddressKind], name: str) -> dict[AddressKind, RepositoryRecord]:
    rows = _BY_ADDRESS.all(tx, {"kinds": [str(kind) for kind in kinds], "name": name})
    return {AddressKind(row[COLUMN_COUNT]): record_of(row) for row in rows}


def route(tx: Connection, name: str, door: Door = FRONT_DOOR) -> tuple[RepositoryRecord, str] | None:
    """The repository that serves the image `name`, and the name that the image has inside it; None: nobody does.

    A door that leads to one repository decides alone, in this order: a namespace, which is that of a mirror or of
    nobody; a path; a host of its own. Else: `project/repository/image`; the longest flat alias prefix of whole segments
    with at least one segment after it; the catch-all of the host, or else of all, unless the name begins with an
    existing project. One statement, or two where a full path might have been meant but was not, and one for a host.
    """
    if door.namespace is not None:
        return _inside(by_address(tx, AddressKind.NAMESPACE, door.namespace), name)
    if door.repository is not None:
        project, _, repository = door.repository.partition("/")
        return _inside(find(tx, project, repository), name)
    of_host = {} if door.host is None else _by_address(tx, (AddressKind.HOST, AddressKind.CATCH_ALL), door.host)
    if own := of_host.get(AddressKind.HOST):
        return own, name
    return _by_name(tx, name, of_host.get(AddressKind.CATCH_ALL))


def _inside(record: RepositoryRecord | None, name: str) -> tuple[RepositoryRecord, str] | None:
    return None if record is None else (record, name)


def _by_name(tx: Connection, name: str, of_host: RepositoryRecord | None) -> tuple[RepositoryRecord, str] | None:
    project, *rest = name.split("/")
    if len(rest) > 1 and (record := find(tx, project, rest[0])):
        return record, "/".join(rest[1:])
    if not rest:
        return _inside(of_host or catch_all(tx), name)
    prefixes = ["/".join((project, *rest[:count])) for count in range(len(rest))]
    record = _longest(_ALIAS_OR_CATCH_ALL.all(tx, {"prefixes": prefixes, "project": project}), prefixes)
    prefix = None if record is None else record.flat_alias_prefix
    if record is not None and prefix is not None and prefix in prefixes:
        return record, name[len(prefix) + 1 :]
    if of_host is not None and _PROJECT_EXISTS.one(tx, {"project": project}) is None:
        return of_host, name
    return _inside(record, name)


def _longest(rows: Iterable[Sequence[object]], prefixes: Sequence[str]) -> RepositoryRecord | None:
    """Of the rows the one with the longest of the prefixes, before the one without (a catch-all)."""
    records = (record_of(row) for row in rows)
    return max(records, key=lambda record: _length(record.flat_alias_prefix, prefixes), default=None)


def _length(prefix: str | None, prefixes: Sequence[str]) -> int:
    return len(prefix) if prefix is not None and prefix in prefixes else -1


# --- rows --------------------------------------------------------------------------------------------------------


def _require_free(
    tx: Connection, repository_id: int | None, *, flat_alias_prefix: str | None, is_catch_all: bool
) -> None:
    """Raise `Conflict` if another repository has the alias, or the place of the catch-all."""
    if flat_alias_prefix is not None:
        holder = by_alias(tx, [flat_alias_prefix])
        if holder is not None and holder.id != repository_id:
            raise Conflict(f"flat alias prefix {flat_alias_prefix} belongs to repository {holder.full_name}")
    if is_catch_all:
        holder = catch_all(tx)
        if holder is not None and holder.id != repository_id:
            raise Conflict(f"repository {holder.full_name} is the catch-all already; there can be one")


def _one(tx: Connection, repository_id: int) -> RepositoryRecord:
    return record_of(_GET.all(tx, {"repository_id": repository_id})[0])


def _record(row: Sequence[object] | None) -> RepositoryRecord | None:
    return None if row is None else record_of(row)


def _settings(text: str, *, redirect_pulls: bool) -> str:
    """The text for the row: what only some types have, and what all have."""
    settings = json.loads(text)
    settings.pop(_REDIRECT_PULLS, None)
    return json.dumps({**settings, _REDIRECT_PULLS: True} if redirect_pulls else settings)


def _may_redirect(settings: str) -> bool:
    return settings != "{}" and json.loads(settings).get(_REDIRECT_PULLS) is True


def record_of(row: Sequence[object]) -> RepositoryRecord:
    """A row of `SELECT` (and perhaps more columns) as a record."""
    *values, immutable_tags, created_at, updated_at, settings = row[:COLUMN_COUNT]
    values += [tuple(json.loads(str(immutable_tags))), created_at, updated_at]
    values += [_may_redirect(str(settings)), settings]
    return RepositoryRecord(*values)  # type: ignore[arg-type]  # a row is untyped; `SELECT` says what it holds
