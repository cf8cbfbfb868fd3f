"""The command `sluice`: one file per command, loaded when it is called. Commands print for people; they decide nothing.

Other packages may bring more commands (`gateway.cli.further`).
Exit codes: 0 good, 1 it did not work, 2 it was called wrongly. Secrets never stand in arguments, which every user of
the machine can read.
"""

import importlib
from collections.abc import Mapping
from typing import Final

import click

from gateway.cli import further
from gateway.cli.help import Group

_COMMANDS: Final[Mapping[str, str]] = {
    "serve": "Run the registry.",
    "user": "People: add, list, change, give roles.",
    "robot": "Machines: add, list, make and end keys.",
    "token": "Personal access tokens of users.",
    "project": "Projects: add, list, delete.",
    "repo": "Repositories: add, list, change, delete; restore a manifest.",
    "warm": "Pull images ahead through a gateway.",
    "gc": "Remove what nothing references any more.",
    "fsck": "Check every stored byte.",
    "migrate": "Bring the database to this version, or move all of it elsewhere.",
    "config": "Show, check and explain the configuration.",
}


class _Commands(Group):
    """Finds commands by name, so that `sluice user list` does not wait for the server to be imported (0.9 s)."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return [*_COMMANDS, *(name for name in further.names() if name not in _COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's too
        if cmd_name not in _COMMANDS:
            return further.find(cmd_name)
        found = importlib.import_module(f"gateway.cli.{cmd_name}").command
        assert isinstance(found, click.Command)  # noqa: S101  # each of those modules has one; a test calls them all
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _COMMANDS.get(name) or further.summary(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sluice-gateway", prog_name="sluice")
def main() -> None:
    """Sluice, a container registry.

    Examples:
      sluice serve --data ./data --listen 127.0.0.1:8080
      sluice user add ada --data ./data
      sluice repo list --data ./data
      sluice COMMAND --help                         # more examples for each

    Commands work on the data directory, also while the server runs; what they change holds at once.
    """
