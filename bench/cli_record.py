"""`sluice bench record`: an access log becomes a trace that can be given away."""

from pathlib import Path

import click

from bench import trace
from bench.trace import TraceInvalid


@click.command("record")
@click.argument("access_log", type=click.Path(path_type=Path, dir_okay=False), metavar="ACCESS_LOG")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="TRACE", help="Where to."
)
@click.option("--keep-names", is_flag=True, help="Keep repository names, tags and digests; else all are replaced.")
def command(*, access_log: Path, output: Path, keep_names: bool) -> None:
    """Turn an access log (setting logs.access) into a trace without secrets: times, sizes and who shares what.

    \b
    Examples:
      sluice bench record access.log -o monday.trace
      sluice bench record access.log -o monday.trace --keep-names
    """  # noqa: D301  # click's mark
    try:
        with access_log.open(encoding="utf-8", errors="replace") as lines:
            recorded = trace.record(lines, keep_names=keep_names)
    except (TraceInvalid, OSError) as error:
        raise click.ClickException(str(error)) from error
    trace.write(recorded, output)
    clients = len({visit.client for visit in recorded.visits})
    click.echo(f"{len(recorded.visits)} requests of {clients} clients in {recorded.length_s:.0f} s")
    for why, count in recorded.left_out.items():
        click.echo(f"left out: {count} {why}", err=True)
