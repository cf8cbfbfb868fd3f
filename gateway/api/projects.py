"""Projects: what repositories, robots and roles belong to; the first segment of full image names."""

from typing import Self

from pydantic import Field

from gateway.access.principal import Principal
from gateway.api.errors import not_found
from gateway.api.fields import Body, Moment, Name, Text, View, moment
from gateway.api.listing import Page, reach, shown
from gateway.api.needs import sees_project
from gateway.api.services import Ask, Reply
from gateway.oci.listing import cursor
from storage import ProjectRecord, Transaction
from storage.metadata import projects


class ProjectCreate(Body):
    """A project to make. Its name stays for good: clients have it in their image names."""

    name: Name
    description: Text = ""


class ProjectChange(Body):
    """What to change; what is left out stays."""

    description: Text = ""


class ProjectView(View):
    """A project."""

    name: str
    description: str
    created_at: Moment

    @classmethod
    def of(cls, record: ProjectRecord) -> Self:
        """The record as clients see it."""
        return cls(name=record.name, description=record.description, created_at=moment(record.created_at))


class ProjectList(View):
    """A page of projects."""

    items: list[ProjectView]
    next: str | None = Field(description="`after` for the next page; null on the last.")


async def list_all(ask: Ask) -> Reply:
    """Those that the caller has a role in or can read something of, by name."""
    page = ask.parameters(Page)
    found = await ask.api.database.survey(_visible, ask.principal, after=page.after, limit=page.limit + 1)
    items, following = shown(found, page.limit, lambda record: record.name)
    return Reply(ProjectList(items=[ProjectView.of(each) for each in items], next=following))


def _visible(tx: Transaction, principal: Principal, *, after: str, limit: int) -> list[ProjectRecord]:
    """As for repositories: SQL filters by account, and rows are checked only where something narrows the caller."""
    readable_by, is_narrowed = reach(principal)
    found: list[ProjectRecord] = []
    after = cursor(after)
    while batch := projects.page(tx, after=after, limit=limit, readable_by=readable_by):
        after = batch[-1].name
        found += [each for each in batch if not is_narrowed or sees_project(tx, principal, each)]
        if len(found) >= limit or len(batch) < limit:
            break
    return found[:limit]


async def get(ask: Ask) -> Reply:
    """One project."""
    return Reply(ProjectView.of(ask.subject.project))


async def create(ask: Ask) -> Reply:
    """A new one, without repositories and roles."""
    body = ask.given(ProjectCreate)

    def make(tx: Transaction) -> ProjectRecord:
        return projects.create(tx, name=body.name, description=body.description, now=ask.api.now())

    record = await ask.api.database.transaction(make)
    return Reply(ProjectView.of(record), concerns=record.name, headers={"Location": f"/api/v1/projects/{record.name}"})


async def change(ask: Ask) -> Reply:
    """Another description."""
    changes = ask.given(ProjectChange).model_dump(exclude_unset=True)
    after = await ask.api.database.transaction(projects.update, ask.subject.project.id, **changes)
    if after is None:
        raise not_found()
    return Reply(ProjectView.of(after), concerns=after.name)


async def delete(ask: Ask) -> Reply:
    """Remove an empty project with its robots and roles; 409 while it has repositories."""
    if not await ask.api.database.transaction(projects.delete, ask.subject.project.id):
        raise not_found()
    return Reply(concerns=ask.subject.project.name)
