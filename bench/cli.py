"""The command `sluice bench`, found by the entry point group `sluice.commands`. One module per kind of command.

Imports nothing but click by itself, so that `sluice --help` is quick and works where the extra `bench` is missing;
then each command says what to install.
"""

import importlib
from collections.abc import Mapping
from typing import Final

import click

_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("bench.cli_run", "Measure: drive cases against Sluice, its peers or a URL."),
    "list": ("bench.cli_list", "Show cases and contenders."),
    "report": ("bench.cli_report", "Show a report again, or make its plots and pages."),
    "compare": ("bench.cli_compare", "Hold a report against the last accepted ratios."),
    "record": ("bench.cli_record", "Turn an access log into a trace without secrets."),
    "replay": ("bench.cli_replay", "Drive a trace against a registry, at its pace or faster."),
}
_PARTS: Final = ("bench", "gateway", "storage")


class _Commands(click.Group):
    """Finds commands by name and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's too
        if cmd_name not in _COMMANDS:
            return None
        try:
            found = importlib.import_module(_COMMANDS[cmd_name][0]).command
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in _PARTS:
                raise
            raise click.ClickException(
                f"{error.name} is not installed; it comes with the extra: pip install 'sluice-gateway[bench]'"
            ) from error
        assert isinstance(found, click.Command)  # noqa: S101  # each of those modules has one; a test calls them all
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's too
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group("bench", cls=_Commands)
def bench() -> None:
    """Load tests: registries side by side, in CPU seconds per unit of work.

    Every figure is a ratio within one run on one machine. docs/benchmarks.md says how to read and to repeat them.

    \b
    Examples:
      sluice bench run
      sluice bench run --quick --case 'manifest-*'
      sluice bench report bench-report
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
