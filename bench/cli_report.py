"""`sluice bench report`: what was measured, shown again from its JSON."""

from pathlib import Path

import click

from bench.report import document, table
from bench.report.document import ReportInvalid


@click.command("report")
@click.argument("source", metavar="REPORT", type=click.Path(path_type=Path), default=Path("bench-report"))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write plots (PNG) and the page (HTML) there; else only the table is printed.",
)
@click.option(
    "--markdown",
    "page",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Fill the marked places of a Markdown page, such as docs/benchmarks.md, and put its plots beside it.",
)
@click.option("--section", default="", metavar="NAME", help="With --markdown: only the marks of that section, as s3.")
def command(*, source: Path, output: Path | None, page: Path | None, section: str) -> None:
    """Show a report again: REPORT is its JSON or the directory that `sluice bench run` wrote.

    \b
    Examples:
      sluice bench report bench-report
      sluice bench report bench-report --output pages
      sluice bench report bench-report --markdown docs/benchmarks.md
      sluice bench report bench-s3 --markdown docs/benchmarks.md --section s3
    """  # noqa: D301  # click's mark
    try:
        report = document.read(source)
    except ReportInvalid as error:
        raise click.ClickException(str(error)) from error
    if output is not None:
        from bench.report import directory  # noqa: PLC0415  # matplotlib takes a second

        for path in directory.write(report, output):
            click.echo(f"wrote {path}")
    if page is not None:
        from bench.report import markdown  # noqa: PLC0415  # as above

        try:
            written = markdown.fill(report, page, section)
        except markdown.NoPlace as error:
            raise click.ClickException(str(error)) from error
        for path in written:
            click.echo(f"wrote {path}")
    if output is None and page is None:
        table.show(report, table.console())
