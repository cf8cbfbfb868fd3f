"""`sluice migrate`: the database's schema to this version's, apart from the start of a server."""

import click

from gateway.cli.help import Command
from gateway.cli.options import with_settings
from gateway.cli.session import perform, require_installation
from gateway.config import Settings
from storage import SqliteDatabase


@click.command("migrate", cls=Command)
@with_settings
def command(*, settings: Settings) -> None:
    """Bring the database to this version; all or nothing. A server does the same when it starts.

    Make a backup first: there is no way back.

    Examples:
      sluice migrate --data /var/lib/sluice
    """
    require_installation(settings)

    async def work() -> None:
        async with SqliteDatabase(settings.storage.database_file) as database:
            before = await database.revision()
            await database.migrate()
            after = await database.revision()
        came_from = "it had already" if before == after else f"before it had {before or 'none'}"
        click.echo(f"the database has schema {after}; {came_from}")

    perform(work)
