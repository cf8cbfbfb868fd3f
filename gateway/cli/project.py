"""`sluice project`: what repositories, robots and roles belong to."""

import click

from gateway.cli.help import Group
from gateway.cli.options import SEGMENT, description_option, json_option, with_settings, yes_option
from gateway.cli.output import Listing, moment
from gateway.cli.session import Session, run
from gateway.config import Settings
from storage import ProjectRecord, Transaction
from storage.metadata import projects

_PAGE = 1000


@click.group("project", cls=Group)
def command() -> None:
    """Projects: add, list, delete.

    Examples:
      sluice project add team-a
      sluice repo add team-a/images
    """


@command.command()
@click.argument("name", type=SEGMENT)
@description_option
@with_settings
def add(name: str, *, description: str | None, settings: Settings) -> None:
    """Add a project. Its name stays for good: clients have it in their image names.

    Examples:
      sluice project add team-a --description "images of team A"
    """

    async def work(session: Session) -> None:
        def create(tx: Transaction) -> ProjectRecord:
            return projects.create(tx, name=name, description=description or "", now=session.now())

        await session.database.transaction(create)
        click.echo(f"added project {name}; next: sluice repo add {name}/images")

    run(settings, work)


@command.command("list")
@json_option
@with_settings
def list_all(*, as_json: bool, settings: Settings) -> None:
    """List projects by name.

    Examples:
      sluice project list
      sluice project list --json
    """

    async def work(session: Session) -> None:
        with Listing("name", "description", "created_at", as_json=as_json) as listing:
            after = ""
            while page := await session.database.survey(projects.page, after=after, limit=_PAGE, readable_by=None):
                listing.add(
                    [
                        {"name": each.name, "description": each.description, "created_at": moment(each.created_at)}
                        for each in page
                    ]
                )
                after = page[-1].name

    run(settings, work)


@command.command()
@click.argument("name", type=SEGMENT)
@yes_option
@with_settings
def delete(name: str, *, yes: bool, settings: Settings) -> None:
    """Remove an empty project with its robots and roles.

    Examples:
      sluice project delete team-a
    """
    if not yes:
        click.confirm(f"Remove the project {name} with its robots and roles?", abort=True)

    async def work(session: Session) -> None:
        project = await session.project(name)
        await session.database.transaction(projects.delete, project.id)
        click.echo(f"deleted project {name}")

    run(settings, work)
