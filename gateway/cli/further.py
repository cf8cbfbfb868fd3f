"""Commands that other packages bring: entry points of the group `sluice.commands`. Knows none of them by name.

The load suite is one: it is a client of the product, so the product does not import it. An entry point leads to a click
command whose import is cheap. Looking for them reads the metadata of every installed package (about 20 ms), so it is
done only for the list of commands and for names that are not Sluice's own.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

GROUP: Final = "sluice.commands"


def names() -> list[str]:
    """What there is, by name."""
    return sorted({each.name for each in entry_points(group=GROUP)})


def find(name: str) -> click.Command | None:
    """The command; None when nobody brings one of that name.

    Raises click.ClickException when it is there but cannot be loaded, as when an extra was not installed.
    """
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    return None if found is None else _load(found)


def summary(name: str) -> str:
    """A line for the list of commands; says so when the command cannot be loaded."""
    try:
        found = find(name)
    except click.ClickException as error:
        return error.message
    return found.get_short_help_str(limit=100) if found else ""


def _load(entry: EntryPoint) -> click.Command:
    try:
        loaded = entry.load()
    except ImportError as error:
        raise click.ClickException(
            f"`sluice {entry.name}` is not complete: {error}. "
            f"It may need an extra: pip install 'sluice-gateway[{entry.name}]'"
        ) from error
    if not isinstance(loaded, click.Command):
        raise click.ClickException(f"{entry.value}, the entry point of `sluice {entry.name}`, is no click command")
    return loaded
