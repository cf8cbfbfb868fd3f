"""`sluice user`: people, their passwords and the roles of all accounts."""

from collections.abc import Awaitable, Callable

import click

from gateway.access.account_names import USER
from gateway.access.actions import Role
from gateway.cli.help import Group
from gateway.cli.options import (
    description_option,
    expires_option,
    json_option,
    with_settings,
    yes_option,
)
from gateway.cli.output import Listing, Row, moment
from gateway.cli.passwords import ask_password, stdin_option
from gateway.cli.session import Session, run
from gateway.config import Settings
from storage import AccountRecord, GrantRecord, Transaction
from storage.metadata import accounts, grants, projects, repositories

_PAGE = 1000


@click.group("user", cls=Group)
def command() -> None:
    """People: add, list, change, give roles.

    Examples:
      sluice user add ada                           # asks for the password
      sluice user grant ada writer team-a/images
      sluice user list --json
    """


@command.command()
@click.argument("name")
@click.option("--admin", "is_admin", is_flag=True, help="May do everything.")
@click.option("--auditor", "is_auditor", is_flag=True, help="Sees everything but secrets, changes nothing.")
@click.option("--no-password", is_flag=True, help="Make the account usable by personal tokens only.")
@description_option
@expires_option
@stdin_option
@with_settings
def add(
    name: str,
    *,
    is_admin: bool,
    is_auditor: bool,
    no_password: bool,
    description: str | None,
    expires_at: int | None,
    from_stdin: bool,
    settings: Settings,
) -> None:
    """Add a user.

    Examples:
      sluice user add ada
      sluice user add ada --admin --password-stdin < password.txt
      SLUICE_PASSWORD=... sluice user add ada --expires 2027-01-31
      sluice user add watcher --auditor --no-password
    """
    password = None if no_password else ask_password(from_stdin=from_stdin)

    async def work(session: Session) -> None:
        made = await session.accounts.create_user(
            name,
            password,
            description=description or "",
            is_admin=is_admin,
            is_auditor=is_auditor,
            expires_at=expires_at,
        )
        click.echo(f"added user {made.name}; next: sluice user grant {made.name} writer PROJECT")

    run(settings, work)


@command.command("list")
@json_option
@with_settings
def list_all(*, as_json: bool, settings: Settings) -> None:
    """List users by name.

    Examples:
      sluice user list
      sluice user list --json | jq -r '.[] | select(.is_admin) | .name'
    """

    async def work(session: Session) -> None:
        with Listing(
            "name", "is_admin", "is_auditor", "is_enabled", "expires_at", "description", as_json=as_json
        ) as listing:
            after = ""
            while page := await session.database.survey(accounts.page, after=after, limit=_PAGE, kind=USER):
                listing.add([_row(each) for each in page])
                after = page[-1].name

    run(settings, work)


def _row(record: AccountRecord) -> Row:
    return {
        "name": record.name,
        "description": record.description,
        "is_admin": record.is_admin,
        "is_auditor": record.is_auditor,
        "is_enabled": record.is_enabled,
        "expires_at": moment(record.expires_at),
        "created_at": moment(record.created_at),
    }


@command.command()
@click.argument("name")
@stdin_option
@with_settings
def passwd(name: str, *, from_stdin: bool, settings: Settings) -> None:
    """Give a user another password; logins made with the old one end.

    Examples:
      sluice user passwd ada
      sluice user passwd ada --password-stdin < password.txt
    """
    password = ask_password(from_stdin=from_stdin)

    async def work(session: Session) -> None:
        user = await session.account(name, USER)
        await session.accounts.set_password(user.id, password)
        click.echo(f"changed the password of {name}; personal tokens go on")

    run(settings, work)


@command.command()
@click.argument("name")
@with_settings
def disable(name: str, *, settings: Settings) -> None:
    """Refuse an account, user or robot, in every way until it is enabled.

    Examples:
      sluice user disable ada
      sluice user disable 'sa$ci'
    """
    _on_account(name, settings, _disable)


async def _disable(session: Session, account: AccountRecord) -> None:
    await session.accounts.disable(account.id)
    click.echo(f"disabled {account.name}")


@command.command()
@click.argument("name")
@with_settings
def enable(name: str, *, settings: Settings) -> None:
    """Let a disabled account in again.

    Examples:
      sluice user enable ada
    """
    _on_account(name, settings, _enable)


async def _enable(session: Session, account: AccountRecord) -> None:
    await session.accounts.update(account.id, is_enabled=True)
    click.echo(f"enabled {account.name}")


def _on_account(name: str, settings: Settings, act: Callable[[Session, AccountRecord], Awaitable[None]]) -> None:
    async def work(session: Session) -> None:
        await act(session, await session.account(name))

    run(settings, work)


@command.command()
@click.argument("name")
@yes_option
@with_settings
def delete(name: str, *, yes: bool, settings: Settings) -> None:
    """Remove a user with its tokens and roles; what it pushed stays.

    Examples:
      sluice user delete ada
      sluice user delete ada --yes
    """
    if not yes:
        click.confirm(f"Remove the user {name} with its tokens and roles?", abort=True)

    async def work(session: Session) -> None:
        user = await session.account(name, USER)
        await session.accounts.delete(user.id)
        click.echo(f"deleted user {name}")

    run(settings, work)


# --- roles -----------------------------------------------------------------------------------------------------------


@command.command()
@click.argument("name")
@click.argument("role", type=click.Choice([role.value for role in Role]))
@click.argument("place", metavar="PROJECT[/REPOSITORY]")
@with_settings
def grant(name: str, role: str, place: str, *, settings: Settings) -> None:
    """Give a user or robot a role, in place of the one it has there.

    Roles: reader (pull), writer (push too), maintainer (delete and settings too), admin (roles too).

    Examples:
      sluice user grant ada writer team-a
      sluice user grant 'sa$ci' reader team-a/images
    """

    async def work(session: Session) -> None:
        account = await session.account(name)
        project_id, repository_id = await _place(session, place)
        await session.accounts.put_grant(account.id, Role(role), project_id=project_id, repository_id=repository_id)
        click.echo(f"{account.name} is {role} of {place}")

    run(settings, work)


@command.command()
@click.argument("name")
@click.argument("place", metavar="PROJECT[/REPOSITORY]")
@with_settings
def revoke(name: str, place: str, *, settings: Settings) -> None:
    """Take the role away that a user or robot has on a project or repository.

    Examples:
      sluice user revoke ada team-a/images
    """

    async def work(session: Session) -> None:
        account = await session.account(name)
        project_id, repository_id = await _place(session, place)
        for each in await session.database.read(grants.of_account, account.id):
            if (each.project_id, each.repository_id) == (project_id, repository_id):
                await session.accounts.remove_grant(each.id)
                click.echo(f"{account.name} is no longer {each.role} of {place}")
                return
        raise click.ClickException(f"{account.name} has no role on {place}: see `sluice user roles {account.name}`")

    run(settings, work)


async def _place(session: Session, place: str) -> tuple[int | None, int | None]:
    """The ids of project and repository; one of them."""
    if "/" in place:
        return None, (await session.repository(place)).id
    return (await session.project(place)).id, None


@command.command()
@click.argument("name")
@json_option
@with_settings
def roles(name: str, *, as_json: bool, settings: Settings) -> None:
    """List the roles of a user or robot.

    Examples:
      sluice user roles ada
    """

    async def work(session: Session) -> None:
        account = await session.account(name)
        with Listing("place", "role", "created_at", as_json=as_json) as listing:
            listing.add(await session.database.survey(_roles, account.id))

    run(settings, work)


def _roles(tx: Transaction, account_id: int) -> list[Row]:
    return [
        {"place": _name_of(tx, each), "role": each.role, "created_at": moment(each.created_at)}
        for each in grants.of_account(tx, account_id)
    ]


def _name_of(tx: Transaction, grant: GrantRecord) -> str | None:
    if grant.repository_id is not None:
        repository = repositories.get(tx, grant.repository_id)
        return repository.full_name if repository is not None else None
    project = projects.get(tx, grant.project_id) if grant.project_id is not None else None
    return project.name if project is not None else None
