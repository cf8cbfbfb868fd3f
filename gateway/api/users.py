"""Users: people with a password. Admins make and change them; a user may change its own password."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr

from gateway.access.account_names import USER
from gateway.access.errors import BadCredentials
from gateway.access.passwords import MAX_PASSWORD_BYTES
from gateway.access.rights import is_admin
from gateway.api.errors import denied, invalid
from gateway.api.fields import Body, Moment, Text, View, moment, moment_or_none
from gateway.api.listing import Page, shown
from gateway.api.services import Ask, Reply
from gateway.oci.listing import cursor
from storage import AccountRecord
from storage.metadata import accounts

Password = Annotated[SecretStr, Field(max_length=MAX_PASSWORD_BYTES, json_schema_extra={"minLength": 8})]
_FOR_ADMINS = ("is_admin", "is_auditor", "is_enabled", "expires_at")


class UserCreate(Body):
    """A user to make."""

    name: Annotated[str, Field(max_length=100, examples=["ada"])]
    password: Password | None = Field(None, description="Null: the user can log in by personal tokens only.")
    description: Text = ""
    is_admin: bool = False
    is_auditor: bool = Field(default=False, description="Sees everything but secrets, changes nothing.")
    expires_at: Moment | None = None


class UserChange(Body):
    """What to change; what is left out stays. Flags, expiry and other users' passwords are for admins."""

    description: Text = ""
    password: Password | None = None
    current_password: Password | None = Field(None, description="Needed to change one's own password.")
    is_admin: bool = False
    is_auditor: bool = False
    is_enabled: bool = True
    expires_at: Moment | None = None


class UserView(View):
    """A user, without any secret."""

    name: str
    description: str
    is_admin: bool
    is_auditor: bool
    is_enabled: bool
    expires_at: Moment | None
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, record: AccountRecord) -> Self:
        """The record as clients see it."""
        return cls(
            name=record.name,
            description=record.description,
            is_admin=record.is_admin,
            is_auditor=record.is_auditor,
            is_enabled=record.is_enabled,
            expires_at=moment_or_none(record.expires_at),
            created_at=moment(record.created_at),
            updated_at=moment(record.updated_at),
        )


class UserList(View):
    """A page of users."""

    items: list[UserView]
    next: str | None = Field(description="`after` for the next page; null on the last.")


async def list_all(ask: Ask) -> Reply:
    """All of them, by name."""
    page = ask.parameters(Page)
    found = await ask.api.database.survey(accounts.page, after=cursor(page.after), limit=page.limit + 1, kind=USER)
    items, following = shown(found, page.limit, lambda record: record.name)
    return Reply(UserList(items=[UserView.of(each) for each in items], next=following))


async def get(ask: Ask) -> Reply:
    """One user."""
    return Reply(UserView.of(ask.subject.account))


async def create(ask: Ask) -> Reply:
    """A new one, without roles."""
    body = ask.given(UserCreate)
    record = await ask.api.accounts.create_user(
        body.name,
        None if body.password is None else body.password.get_secret_value(),
        description=body.description,
        is_admin=body.is_admin,
        is_auditor=body.is_auditor,
        expires_at=future(ask, body.expires_at),
    )
    return Reply(UserView.of(record), concerns=record.name, headers={"Location": f"/api/v1/users/{record.name}"})


async def change(ask: Ask) -> Reply:
    """Flags, expiry, description; and the password, which ends all tokens made by the old one."""
    body, user = ask.given(UserChange), ask.subject.account
    changes: dict[str, Any] = body.model_dump(exclude_unset=True, exclude={"password", "current_password"})
    if not is_admin(ask.principal) and (refused := [field for field in _FOR_ADMINS if field in changes]):
        raise denied("this is for admins", refused[0])
    if "expires_at" in changes:
        changes["expires_at"] = future(ask, body.expires_at)
    await _require_current_password(ask, body)
    if changes:
        user = await ask.api.accounts.update(user.id, **changes)
    if body.password is not None:
        await ask.api.accounts.set_password(user.id, body.password.get_secret_value())
    return Reply(UserView.of(user), concerns=user.name)


async def _require_current_password(ask: Ask, body: UserChange) -> None:
    """Whoever changes the own password proves to know it: a stolen token must not take the account over."""
    user, me = ask.subject.account, ask.principal.account
    if body.password is None or me is None or me.id != user.id:
        return
    if body.current_password is None:
        raise invalid("current_password", "is required to change your own password")
    try:
        found = await ask.api.guard.by_password(user.name, body.current_password.get_secret_value())
    except BadCredentials:
        found = None
    if found is None or found.credential_id is not None or found.account is None or found.account.id != user.id:
        raise invalid("current_password", "is not your password")


async def delete(ask: Ask) -> Reply:
    """Remove a user with its tokens, roles and upload sessions; what it pushed stays."""
    await ask.api.accounts.delete(ask.subject.account.id)
    return Reply(concerns=ask.subject.account.name)


def future(ask: Ask, when: datetime | None) -> int | None:
    """A time of expiry as a row has it; `Refused` if it is over."""
    if when is None:
        return None
    seconds = int(when.timestamp())
    if seconds <= ask.api.now():
        raise invalid("expires_at", "must lie in the future")
    return seconds
