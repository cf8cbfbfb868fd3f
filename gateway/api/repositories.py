"""Repositories: made, listed, changed and removed. Their images are the registry API's business."""

from typing import Annotated, Literal, Self

from pydantic import Field

from gateway.access.actions import Action
from gateway.access.principal import Principal
from gateway.access.rights import is_admin, manages_project
from gateway.api.errors import denied, invalid, not_found
from gateway.api.fields import Body, Globs, Moment, Name, Prefix, Text, View, moment
from gateway.api.listing import Page, shown, visible_repositories
from gateway.api.needs import sees_project
from gateway.api.services import Ask, Reply
from gateway.config import S3Storage
from storage import RepositoryRecord, Transaction
from storage.metadata import projects, repositories

# Both reach beyond the project: they decide where names lead that other projects' people use.
_FOR_ADMINS = ("flat_alias_prefix", "is_catch_all")
_WHY = "only admins may change where names outside the project lead"


class RepositoryCreate(Body):
    """A repository to make."""

    project: Name
    name: Name
    format: Literal["docker"] = "docker"
    repository_type: Literal["hosted"] = "hosted"
    description: Text = ""
    storage: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="Named storage; null: the configured default."
    )
    flat_alias_prefix: Prefix | None = Field(
        None, description="Names below this prefix lead here, such as `team-a/app` for prefix `team-a`. For admins."
    )
    is_catch_all: bool = Field(
        default=False, description="Names that no other repository serves lead here. For admins."
    )
    anonymous_read: bool = Field(default=False, description="Everybody may pull, without an account.")
    immutable_tags: Globs = Field(
        default_factory=list, description="A tag that one of these globs fits is never moved or deleted."
    )
    redirect_pulls: bool = Field(
        default=False,
        description="Clients in the storage's `redirect_networks` fetch blobs from its bucket; for buckets only.",
    )


class RepositoryChange(Body):
    """What to change; what is left out stays. Name, project, type and storage stay for good."""

    description: Text = ""
    flat_alias_prefix: Prefix | None = None
    is_catch_all: bool = False
    anonymous_read: bool = False
    immutable_tags: Globs = Field(default_factory=list)
    redirect_pulls: bool = False


class RepositoryView(View):
    """A repository."""

    project: str
    name: str
    format: str
    repository_type: str
    description: str
    storage: str
    flat_alias_prefix: str | None
    is_catch_all: bool
    anonymous_read: bool
    immutable_tags: list[str]
    redirect_pulls: bool
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, record: RepositoryRecord) -> Self:
        """The record as clients see it."""
        return cls(
            project=record.project,
            name=record.name,
            format=record.format,
            repository_type=record.repository_type,
            description=record.description,
            storage=record.storage,
            flat_alias_prefix=record.flat_alias_prefix,
            is_catch_all=record.is_catch_all,
            anonymous_read=record.anonymous_read,
            immutable_tags=list(record.immutable_tags),
            redirect_pulls=record.redirect_pulls,
            created_at=moment(record.created_at),
            updated_at=moment(record.updated_at),
        )


class RepositoryList(View):
    """A page of repositories."""

    items: list[RepositoryView]
    next: str | None = Field(description="`after` for the next page; null on the last.")


class RepositoryPage(Page):
    """Which repositories to list."""

    project: Name | None = None


async def list_all(ask: Ask) -> Reply:
    """Those that the caller can read, by full name."""
    page = ask.parameters(RepositoryPage)
    found = await ask.api.database.survey(
        visible_repositories, ask.principal, project=page.project, after=page.after, limit=page.limit + 1
    )
    items, following = shown(found, page.limit, lambda record: record.full_name)
    return Reply(RepositoryList(items=[RepositoryView.of(each) for each in items], next=following))


async def get(ask: Ask) -> Reply:
    """One repository."""
    return Reply(RepositoryView.of(ask.subject.repository))


async def create(ask: Ask) -> Reply:
    """A new one, in a project that the caller maintains."""
    body = ask.given(RepositoryCreate)
    storage_id = _storage_id(ask, body.storage)
    if body.redirect_pulls:
        _require_redirects(ask, body.storage or ask.api.settings.storage.default)
    record = await ask.api.database.transaction(_create, ask.principal, body, storage_id, ask.api.now())
    location = f"/api/v1/repos/{record.project}/{record.name}"
    return Reply(RepositoryView.of(record), concerns=record.full_name, headers={"Location": location})


def _storage_id(ask: Ask, name: str | None) -> int:
    name = name or ask.api.settings.storage.default
    try:
        return ask.api.content.storage_id(name)
    except KeyError:
        known = ", ".join(sorted(ask.api.settings.storage.storages))
        raise invalid("storage", f"is not configured; known: {known}") from None


def _require_redirects(ask: Ask, storage: str) -> None:
    """Refuse redirects to where nobody but us can read."""
    if not isinstance(ask.api.settings.storage.storages.get(storage), S3Storage):
        raise invalid("redirect_pulls", f"is for repositories in a bucket; the storage {storage} is none")


def _create(
    tx: Transaction, principal: Principal, body: RepositoryCreate, storage_id: int, now: int
) -> RepositoryRecord:
    project = projects.find(tx, body.project)
    if project is None or not sees_project(tx, principal, project):
        raise invalid("project", "there is no such project, or none that you may see")
    if not manages_project(tx, principal, project, action=Action.CONFIGURE):
        raise denied("this is for maintainers of the project", "project")
    _require_admin(principal, [field for field in _FOR_ADMINS if getattr(body, field)])
    return repositories.create(
        tx,
        project_id=project.id,
        name=body.name,
        description=body.description,
        format=body.format,
        repository_type=body.repository_type,
        storage_id=storage_id,
        flat_alias_prefix=body.flat_alias_prefix,
        is_catch_all=body.is_catch_all,
        anonymous_read=body.anonymous_read,
        immutable_tags=body.immutable_tags,
        redirect_pulls=body.redirect_pulls,
        now=now,
    )


def _require_admin(principal: Principal, fields: list[str]) -> None:
    if fields and not is_admin(principal):
        raise denied(_WHY, fields[0])


async def change(ask: Ask) -> Reply:
    """Other settings; at once, everywhere."""
    body, before = ask.given(RepositoryChange), ask.subject.repository
    changes = body.model_dump(exclude_unset=True)
    moved = [each for each in _FOR_ADMINS if each in changes and changes[each] != getattr(before, each)]
    _require_admin(ask.principal, moved)
    if changes.get("redirect_pulls"):
        _require_redirects(ask, before.storage)
    after = await ask.api.database.transaction(repositories.update, before.id, now=ask.api.now(), **changes)
    if after is None:
        raise not_found()
    return Reply(RepositoryView.of(after), concerns=after.full_name)


async def delete(ask: Ask) -> Reply:
    """Remove it with its images, sessions and roles; blobs that nothing else needs go with the next sweeps."""
    if not await ask.api.database.transaction(repositories.delete, ask.subject.repository.id):
        raise not_found()
    return Reply(concerns=ask.subject.repository.full_name)
