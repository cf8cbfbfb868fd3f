"""What all commands take: where the data is and which file configures it; and how settings are loaded from that."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from gateway.config import ConfigInvalid, Settings, load

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data directory; default ./data. The setting is storage.data.",
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Configuration file (TOML); see docs/configuration.md.",
)


def load_settings(
    data: Path | None, config: Path | None, overrides: Mapping[str, tuple[str, object]] | None = None
) -> Settings:
    """The settings for a command; all mistakes at once, as a usage error (exit 2)."""
    given = {"storage.data": ("--data", str(data) if data else None), **(overrides or {})}
    try:
        return load(file=config, environ=os.environ, overrides=given)
    except ConfigInvalid as error:
        raise click.UsageError(f"the configuration has mistakes:\n{error}") from error
