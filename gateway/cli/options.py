"""What all commands take: where the data is and which file configures it; and how settings are loaded from that."""

import functools
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from gateway.config import ConfigInvalid, Settings, load
from gateway.logs import configure
from gateway.policy import naming

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data directory; default ./data. The setting is storage.data.",
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SLUICE_CONFIG",
    metavar="FILE",
    help="Configuration file (TOML), also from SLUICE_CONFIG; see docs/configuration.md.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask whether you are sure.")


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--data` and `--config`, and call it with the `settings` that they lead to."""

    @data_option
    @config_option
    @functools.wraps(command)
    def called(*args: Any, data: Path | None, config: Path | None, **given: Any) -> None:
        settings = load_settings(data, config)
        # Standard output is for what was asked; only what went wrong is worth a line beside it.
        configure(level="error" if settings.logs.level == "error" else "warning", form=settings.logs.format)
        command(*args, settings=settings, **given)

    return called


def load_settings(
    data: Path | None, config: Path | None, overrides: Mapping[str, tuple[str, object]] | None = None
) -> Settings:
    """The settings for a command; all mistakes at once, as a usage error (exit 2)."""
    given = {"storage.data": ("--data", str(data) if data else None), **(overrides or {})}
    try:
        return load(file=config, environ=os.environ, overrides=given)
    except ConfigInvalid as error:
        raise click.UsageError(f"the configuration has mistakes:\n{error}") from error


class Named(click.ParamType[str]):
    """An argument that a function of `gateway.policy.naming` checks."""

    def __init__(self, name: str, check: Callable[[str], str]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value, or a usage error that says what is allowed."""
        try:
            return self._check(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


SEGMENT: Final = Named("NAME", naming.segment)
FULL_NAME: Final = Named("PROJECT/REPOSITORY", naming.full_name)
PREFIX: Final = Named("PREFIX", naming.alias_prefix)
GLOB: Final = Named("GLOB", naming.tag_glob)
TEXT: Final = Named("TEXT", naming.description)


def day(context: click.Context, parameter: click.Parameter, value: datetime | None) -> int | None:  # noqa: ARG001  # click's signature
    """A day in UTC as Unix seconds, for an option of type `click.DateTime`."""
    return None if value is None else int(value.replace(tzinfo=UTC).timestamp())


expires_option = click.option(
    "--expires",
    "expires_at",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=day,
    metavar="YYYY-MM-DD",
    help="The account works until this day (UTC).",
)
description_option = click.option("--description", type=TEXT, help="A text for people.")
