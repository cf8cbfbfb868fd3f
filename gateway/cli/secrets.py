"""Personal tokens and robot keys on the command line: made, shown once, listed without their secret."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, TypeVar

import click

from gateway.access.accounts import MintedSecret
from gateway.access.actions import Action
from gateway.access.named_limits import project_names, repository_names
from gateway.access.principal import Limits
from gateway.access.secrets import SecretKind
from gateway.cli.options import FULL_NAME, SEGMENT
from gateway.cli.output import Listing, Row, moment
from gateway.cli.session import Session
from storage import CredentialRecord, Transaction
from storage.metadata import credentials

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_PAGE: Final = 1000
_DAY_S: Final = 86400
_COLUMNS: Final = ("id", "label", "actions", "repositories", "projects", "expires_at", "last_used_at")


class Narrowing(TypedDict):
    """What `narrowing_options` collect."""

    label: str
    days: int
    actions: tuple[str, ...]
    repos: tuple[str, ...]
    projects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A secret to make: what it is for, how long it lives, what it can do."""

    label: str
    lifetime_s: int
    limits: Limits


def narrowing_options(command: FunctionT) -> FunctionT:
    """Give a command that makes a secret its label, its life and what narrows it."""
    acts = click.Choice([action.value for action in Action])
    for option in (
        click.option("--project", "projects", type=SEGMENT, multiple=True, help="Only in this project; repeatable."),
        click.option("--repo", "repos", type=FULL_NAME, multiple=True, help="Only in this repository; repeatable."),
        click.option("--action", "actions", type=acts, multiple=True, help="Only this act; repeatable."),
        click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Days it lives."),
        click.option("--label", default="", metavar="TEXT", help="What it is for."),
    ):
        command = option(command)
    return command


async def wanted(session: Session, given: Narrowing) -> Wanted:
    """What the options ask for; `ClickException` for a place that does not exist."""
    repository_ids = [(await session.repository(name)).id for name in given["repos"]]
    project_ids = [(await session.project(name)).id for name in given["projects"]]
    limits = Limits(
        actions=frozenset(map(Action, given["actions"])) or None,
        repository_ids=frozenset(repository_ids) or None,
        project_ids=frozenset(project_ids) or None,
    )
    return Wanted(given["label"], given["days"] * _DAY_S, limits)


def show(minted: MintedSecret, what: str) -> None:
    """Print the secret alone to standard output, so that a script can take it, and the rest beside it."""
    until = moment(minted.credential.expires_at)
    click.echo(f"{what} has id {minted.credential.id} and lives until {until}; it is shown only now:", err=True)
    click.echo(minted.text)


async def print_secrets(session: Session, account_id: int, kind: SecretKind, *, as_json: bool) -> None:
    """All secrets of one account and kind, oldest first."""

    def page(tx: Transaction, after: int) -> Sequence[tuple[int, Row]]:
        found = credentials.of_account(tx, account_id, kind, after=after, limit=_PAGE)
        return [(each.id, _row(tx, each)) for each in found]

    with Listing(*_COLUMNS, as_json=as_json) as listing:
        after = 0
        while rows := await session.database.survey(page, after):
            listing.add([row for _, row in rows])
            after = rows[-1][0]


def _row(tx: Transaction, record: CredentialRecord) -> Row:
    limits = Limits.from_json(record.limits)
    return {
        "id": record.id,
        "label": record.label,
        "actions": None if limits.actions is None else sorted(limits.actions),
        "repositories": repository_names(tx, limits),
        "projects": project_names(tx, limits),
        "created_at": moment(record.created_at),
        "expires_at": moment(record.expires_at),
        "last_used_at": moment(record.last_used_at),
    }
