"""`sluice robot`: accounts of machines and their keys."""

from typing import Unpack

import click

from gateway.access.account_names import ROBOT, parse_robot_name
from gateway.access.errors import InvalidField
from gateway.access.secrets import SecretKind
from gateway.cli.help import Group
from gateway.cli.options import (
    SEGMENT,
    Named,
    description_option,
    expires_option,
    json_option,
    with_settings,
    yes_option,
)
from gateway.cli.output import Listing, Row, moment
from gateway.cli.secrets import Narrowing, narrowing_options, print_secrets, show, wanted
from gateway.cli.session import Session, run
from gateway.config import Settings
from storage import AccountRecord, Transaction
from storage.metadata import accounts, projects

_PAGE = 1000


def _full_name(text: str) -> str:
    try:
        return parse_robot_name(text)
    except InvalidField as error:
        raise ValueError(error.reason) from error


_name_argument = click.argument("name", type=Named("NAME", _full_name))


@click.group("robot", cls=Group)
def command() -> None:
    """Machines: add, list, make and end keys.

    A robot is called sa$NAME; commands take it with and without the sa$.

    Examples:
      sluice robot add ci --project team-a
      sluice user grant 'sa$ci' writer team-a
      sluice robot key ci --days 90 > key.txt
    """


@command.command()
@_name_argument
@click.option("--project", type=SEGMENT, help="The project it belongs to; it can have roles only there.")
@description_option
@expires_option
@with_settings
def add(name: str, *, project: str | None, description: str | None, expires_at: int | None, settings: Settings) -> None:
    """Add a robot, without keys and roles.

    Examples:
      sluice robot add ci --project team-a --description "builds of team A"
      sluice robot add mirror --expires 2027-01-31
    """

    async def work(session: Session) -> None:
        home = None if project is None else (await session.project(project)).id
        made = await session.accounts.create_robot(
            name, project_id=home, description=description or "", expires_at=expires_at
        )
        click.echo(f"added robot {made.name}; next: sluice robot key '{made.name}'")

    run(settings, work)


@command.command("list")
@click.option("--project", type=SEGMENT, help="Only robots of this project.")
@json_option
@with_settings
def list_all(*, project: str | None, as_json: bool, settings: Settings) -> None:
    """List robots by name.

    Examples:
      sluice robot list
      sluice robot list --project team-a --json
    """

    async def work(session: Session) -> None:
        home = None if project is None else (await session.project(project)).id

        def page(tx: Transaction, after: str) -> list[Row]:
            found = accounts.page(tx, after=after, limit=_PAGE, kind=ROBOT, project_id=home)
            return [_row(tx, each) for each in found]

        with Listing("name", "project", "is_enabled", "expires_at", "description", as_json=as_json) as listing:
            after = ""
            while rows := await session.database.survey(page, after):
                listing.add(rows)
                after = str(rows[-1]["name"])

    run(settings, work)


def _row(tx: Transaction, record: AccountRecord) -> Row:
    project = None if record.project_id is None else projects.get(tx, record.project_id)
    return {
        "name": record.name,
        "project": None if project is None else project.name,
        "description": record.description,
        "is_enabled": record.is_enabled,
        "expires_at": moment(record.expires_at),
        "created_at": moment(record.created_at),
    }


@command.command()
@_name_argument
@narrowing_options
@with_settings
def key(name: str, *, settings: Settings, **given: Unpack[Narrowing]) -> None:
    """Make a key and print it; a robot has two at most, the one in use and the next.

    Examples:
      sluice robot key ci > key.txt
      sluice robot key ci --label runner-7 --days 30 --action pull
      docker login registry.example -u 'sa$ci' --password-stdin < key.txt
    """

    async def work(session: Session) -> None:
        robot = await session.account(name, ROBOT)
        want = await wanted(session, given)
        minted = await session.accounts.issue_key(
            robot.id, label=want.label, limits=want.limits, lifetime_s=want.lifetime_s
        )
        show(minted, f"the key of {robot.name}")

    run(settings, work)


@command.command()
@_name_argument
@json_option
@with_settings
def keys(name: str, *, as_json: bool, settings: Settings) -> None:
    """List the keys of a robot, without their secrets.

    Examples:
      sluice robot keys ci
    """

    async def work(session: Session) -> None:
        robot = await session.account(name, ROBOT)
        await print_secrets(session, robot.id, SecretKind.ROBOT, as_json=as_json)

    run(settings, work)


@command.command("revoke-key")
@_name_argument
@click.argument("key_id", metavar="ID", type=click.IntRange(min=1))
@with_settings
def revoke_key(name: str, key_id: int, *, settings: Settings) -> None:
    """End a key at once.

    Examples:
      sluice robot keys ci                          # shows the ids
      sluice robot revoke-key ci 17
    """

    async def work(session: Session) -> None:
        robot = await session.account(name, ROBOT)
        await session.accounts.revoke(robot.id, key_id)
        click.echo(f"ended key {key_id} of {robot.name}")

    run(settings, work)


@command.command()
@_name_argument
@yes_option
@with_settings
def delete(name: str, *, yes: bool, settings: Settings) -> None:
    """Remove a robot with its keys and roles; what it pushed stays.

    Examples:
      sluice robot delete ci --yes
    """
    if not yes:
        click.confirm(f"Remove the robot {name} with its keys and roles?", abort=True)

    async def work(session: Session) -> None:
        robot = await session.account(name, ROBOT)
        await session.accounts.delete(robot.id)
        click.echo(f"deleted robot {robot.name}")

    run(settings, work)
