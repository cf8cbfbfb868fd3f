"""The command `sluice`: one file per command. Commands print for people; they decide nothing."""

import click

from gateway.cli.serve import serve


@click.group()
@click.version_option(package_name="sluice-gateway", prog_name="sluice")
def main() -> None:
    """Sluice, a container registry."""


main.add_command(serve)
