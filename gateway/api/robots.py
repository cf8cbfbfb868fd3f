"""Robots: accounts of machines, with keys in place of a password. A robot of a project has roles there only."""

from typing import Annotated, Any, Self

from pydantic import Field

from gateway.access.account_names import ROBOT
from gateway.access.actions import Action
from gateway.access.principal import Principal
from gateway.access.rights import is_admin, is_auditor, manages_project
from gateway.access.secrets import SecretKind
from gateway.api.errors import denied, invalid, not_found
from gateway.api.fields import Body, Moment, Name, Text, View, moment, moment_or_none
from gateway.api.listing import Page, shown
from gateway.api.needs import sees_project
from gateway.api.secret_views import SecretCreate, limits_of
from gateway.api.services import Ask, Reply
from gateway.api.tokens import new_secret, secret_cursor, secret_id, secrets_of
from gateway.api.users import future
from gateway.oci.listing import cursor
from storage import AccountRecord, ProjectRecord, Transaction
from storage.metadata import accounts, credentials, projects


class RobotCreate(Body):
    """A robot to make, without keys and roles."""

    name: Annotated[str, Field(max_length=100, examples=["sa$ci", "ci"])]
    project: Name | None = Field(None, description="Null: for the whole installation, which takes an admin.")
    description: Text = ""
    expires_at: Moment | None = None


class RobotChange(Body):
    """What to change; what is left out stays."""

    description: Text = ""
    is_enabled: bool = True
    expires_at: Moment | None = None


class RobotView(View):
    """A robot, without any secret."""

    name: str
    project: str | None
    description: str
    is_enabled: bool
    expires_at: Moment | None
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, record: AccountRecord, project: ProjectRecord | None) -> Self:
        """The record as clients see it."""
        return cls(
            name=record.name,
            project=None if project is None else project.name,
            description=record.description,
            is_enabled=record.is_enabled,
            expires_at=moment_or_none(record.expires_at),
            created_at=moment(record.created_at),
            updated_at=moment(record.updated_at),
        )


class RobotList(View):
    """A page of robots."""

    items: list[RobotView]
    next: str | None = Field(description="`after` for the next page; null on the last.")


class RobotPage(Page):
    """Which robots to list."""

    project: Name | None = Field(None, description="Only those of this project; needed unless you see all robots.")


async def list_all(ask: Ask) -> Reply:
    """By name; those of one project for its admins, all for admins and auditors."""
    return Reply(await ask.api.database.survey(_list, ask.principal, ask.parameters(RobotPage)))


def _list(tx: Transaction, principal: Principal, page: RobotPage) -> RobotList:
    project = None
    if page.project is None:
        if not is_auditor(principal):
            raise denied("name a project that you administer; all robots are for auditors and admins", "project")
    else:
        project = projects.find(tx, page.project)
        if project is None or not sees_project(tx, principal, project):
            raise not_found()
        if not is_auditor(principal):
            _require_manager(tx, principal, project)
    project_id = None if project is None else project.id
    found = accounts.page(tx, after=cursor(page.after), limit=page.limit + 1, kind=ROBOT, project_id=project_id)
    items, following = shown(found, page.limit, lambda record: record.name)
    return RobotList(items=[RobotView.of(each, _home(tx, each)) for each in items], next=following)


def _home(tx: Transaction, robot: AccountRecord) -> ProjectRecord | None:
    return None if robot.project_id is None else projects.get(tx, robot.project_id)


def _require_manager(tx: Transaction, principal: Principal, project: ProjectRecord) -> None:
    if not manages_project(tx, principal, project, action=Action.GRANT):
        raise denied("robots of a project are for its admins", "project")


async def get(ask: Ask) -> Reply:
    """One robot."""
    return Reply(RobotView.of(ask.subject.account, ask.subject.project_found))


async def create(ask: Ask) -> Reply:
    """A new one; give it roles and a key next."""
    body = ask.given(RobotCreate)
    project = await ask.api.database.read(_place_for, ask.principal, body)
    record = await ask.api.accounts.create_robot(
        body.name,
        project_id=None if project is None else project.id,
        description=body.description,
        expires_at=future(ask, body.expires_at),
    )
    location = f"/api/v1/robots/{record.name}"
    return Reply(RobotView.of(record, project), concerns=record.name, headers={"Location": location})


def _place_for(tx: Transaction, principal: Principal, body: RobotCreate) -> ProjectRecord | None:
    """The project that a new robot belongs to, if the caller may make robots there."""
    if body.project is None:
        if not is_admin(principal):
            raise denied("name a project that you administer; other robots are for admins", "project")
        return None
    project = projects.find(tx, body.project)
    if project is None or not sees_project(tx, principal, project):
        raise invalid("project", "there is no such project, or none that you may see")
    _require_manager(tx, principal, project)
    return project


async def change(ask: Ask) -> Reply:
    """Description, expiry, and whether it may be used at all."""
    body = ask.given(RobotChange)
    changes: dict[str, Any] = body.model_dump(exclude_unset=True)
    if "expires_at" in changes:
        changes["expires_at"] = future(ask, body.expires_at)
    robot = await ask.api.accounts.update(ask.subject.account.id, **changes) if changes else ask.subject.account
    return Reply(RobotView.of(robot, ask.subject.project_found), concerns=robot.name)


async def delete(ask: Ask) -> Reply:
    """Remove a robot with its keys and roles."""
    await ask.api.accounts.delete(ask.subject.account.id)
    return Reply(concerns=ask.subject.account.name)


async def list_keys(ask: Ask) -> Reply:
    """Its keys, oldest first, without their secrets."""
    page, robot = ask.parameters(Page), ask.subject.account
    after = secret_cursor(page.after)
    return Reply(await ask.api.database.survey(secrets_of, robot, SecretKind.ROBOT, after=after, limit=page.limit))


async def create_key(ask: Ask) -> Reply:
    """A new key; its secret is in this answer and never shown again. A robot has two at most, for rotation."""
    body, robot = ask.given(SecretCreate), ask.subject.account
    limits = await ask.api.database.read(limits_of, ask.principal, body)
    minted = await ask.api.accounts.issue_key(robot.id, label=body.label, limits=limits, lifetime_s=body.lifetime_s)
    return await new_secret(ask, minted, concerns=f"{robot.name}:{minted.credential.id}")


async def delete_key(ask: Ask) -> Reply:
    """End a key and what was made through it; at once, everywhere."""
    number, robot = secret_id(ask.path["key"]), ask.subject.account

    def find(tx: Transaction) -> bool:
        credential = credentials.get(tx, number)
        return credential is not None and credential.account_id == robot.id and credential.kind == SecretKind.ROBOT

    if not await ask.api.database.read(find):  # of another robot: as if it did not exist (security row A21)
        raise not_found()
    await ask.api.accounts.revoke(robot.id, number)
    return Reply(concerns=f"{robot.name}:{number}")
