"""`sluice config`: what is in effect, whether it is right, and what there is to set."""

from pathlib import Path

import click

from gateway.cli.help import Group
from gateway.cli.options import with_settings
from gateway.config import Settings, reference, render


@click.group("config", cls=Group)
def command() -> None:
    """Show, check and explain the configuration.

    Examples:
      sluice config check --config /etc/sluice.toml
      sluice config show
    """


@command.command()
@with_settings
def show(*, settings: Settings) -> None:
    """Print the tree in effect as TOML, with secrets masked.

    Examples:
      sluice config show --config /etc/sluice.toml
      SLUICE_SERVER__WORKERS=4 sluice config show
    """
    click.echo(render(settings), nl=False)


@command.command()
@with_settings
def check(*, settings: Settings) -> None:
    """Say whether the configuration can be used; lists all mistakes at once and exits with 2 if there are any.

    Examples:
      sluice config check --config /etc/sluice.toml
    """
    names = ", ".join(sorted(settings.storage.storages))
    click.echo(f"the configuration is good: listens on {settings.server.listen}, storages {names}")


@command.command("reference")
@click.option("--write", "to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there.")
def print_reference(*, to: Path | None) -> None:
    """Print the page that explains every setting, as Markdown.

    Examples:
      sluice config reference | less
      sluice config reference --write docs/configuration.md
    """
    if to is None:
        click.echo(reference(), nl=False)
    else:
        to.write_text(reference(), encoding="utf-8")
