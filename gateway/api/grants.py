"""Roles of accounts on a project or on one repository."""

from typing import Self

from pydantic import Field

from gateway.access.actions import Role
from gateway.api.errors import invalid, not_found
from gateway.api.fields import Body, Moment, View, moment
from gateway.api.listing import Page, shown
from gateway.api.services import Ask, Reply, Subject
from storage import AccountRecord, GrantRecord, Transaction
from storage.metadata import accounts, grants


class GrantPut(Body):
    """The role to give, in place of the one the account has there."""

    role: Role


class GrantView(View):
    """A role of an account."""

    account: str
    role: str
    created_at: Moment

    @classmethod
    def of(cls, record: GrantRecord, account: AccountRecord) -> Self:
        """The record as clients see it."""
        return cls(account=account.name, role=record.role, created_at=moment(record.created_at))


class GrantList(View):
    """A page of roles."""

    items: list[GrantView]
    next: str | None = Field(description="`after` for the next page; null on the last.")


async def list_all(ask: Ask) -> Reply:
    """Those given at this very place, by account; a repository's page does not hold those of its project."""
    return Reply(await ask.api.database.survey(_list, ask.subject, ask.parameters(Page)))


def _list(tx: Transaction, place: Subject, page: Page) -> GrantList:
    given = ((record, accounts.get(tx, record.account_id)) for record in _there(tx, place))
    views = [GrantView.of(record, account) for record, account in given if account is not None]
    found = sorted((view for view in views if view.account > page.after), key=lambda view: view.account)
    items, following = shown(found, page.limit, lambda view: view.account)
    return GrantList(items=list(items), next=following)


async def put(ask: Ask) -> Reply:
    """Give a role; at once, everywhere."""
    role = ask.given(GrantPut).role
    account = await ask.api.database.read(accounts.find, ask.path["account"])
    if account is None:
        raise invalid("account", "there is no such account")
    place = ask.subject
    if place.repository_found is None:
        record = await ask.api.accounts.put_grant(account.id, role, project_id=place.project.id)
    else:
        record = await ask.api.accounts.put_grant(account.id, role, repository_id=place.repository.id)
    return Reply(GrantView.of(record, account), concerns=f"{_name(place)}:{account.name}={role}")


async def delete(ask: Ask) -> Reply:
    """Take a role away; at once, everywhere."""

    def find(tx: Transaction) -> GrantRecord:
        account = accounts.find(tx, ask.path["account"])
        for record in _there(tx, ask.subject):
            if account is not None and record.account_id == account.id:
                return record
        raise not_found()

    record = await ask.api.database.read(find)
    await ask.api.accounts.remove_grant(record.id)
    return Reply(concerns=f"{_name(ask.subject)}:{ask.path['account']}")


def _there(tx: Transaction, place: Subject) -> list[GrantRecord]:
    if place.repository_found is not None:
        return grants.on_repository(tx, place.repository.id)
    return grants.on_project(tx, place.project.id)


def _name(place: Subject) -> str:
    return place.project.name if place.repository_found is None else place.repository.full_name
