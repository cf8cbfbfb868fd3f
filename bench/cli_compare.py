"""`sluice bench compare`: a report against the last accepted ratios; and how ratios are accepted."""

from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench import baseline
from bench.baseline import BaselineInvalid
from bench.contenders.catalog import all_contenders
from bench.records import Report
from bench.report import document, table
from bench.report.document import ReportInvalid
from bench.sets import SMOKE_RATIOS, CaseSet, full_ratios

NAMES: Final = [CaseSet.SMOKE.value, CaseSet.FIGURES.value]
"""The baselines that there are; each is a file in bench/baselines."""


@click.command("compare")
@click.argument("source", metavar="REPORT", type=click.Path(path_type=Path), default=Path("bench-report"))
@click.option("--baseline", "name", type=click.Choice(NAMES), default=NAMES[0], show_default=True, help="Which one.")
@click.option("--accept", is_flag=True, help="Make this report's ratios the baseline instead.")
def command(*, source: Path, name: str, accept: bool) -> None:
    """Hold a report against the last accepted ratios; exit code 1 when one is worse than the noise explains.

    \b
    Examples:
      sluice bench compare bench-report
      sluice bench compare bench-report --baseline figures --accept
    """  # noqa: D301  # click's mark
    try:
        report = document.read(source)
    except ReportInvalid as error:
        raise click.ClickException(str(error)) from error
    if accept:
        accept_ratios(report, name)
    elif worse_cases(report, name, table.console()):
        raise click.ClickException("a ratio is worse than its baseline")


def worse_cases(report: Report, name: str, console: Console, *, only: frozenset[str] | None = None) -> frozenset[str]:
    """Print the comparison; the cases with a ratio that is worse. Raises click.ClickException without a baseline.

    Ratios to peers that are not installed here are left out, and told; `only` leaves out other cases.
    """
    try:
        compared = baseline.compare(report, baseline.read(_path(name)))
    except BaselineInvalid as error:
        raise click.ClickException(str(error)) from error
    absent = {each.name: why for each in all_contenders() if (why := each.missing())}
    here = [each for each in compared if each.entry.peer not in absent and (only is None or each.entry.case in only)]
    console.print(table.comparisons(here))
    for peer in sorted({each.entry.peer for each in compared} & absent.keys()):
        console.print(f"not compared with {peer}: {absent[peer]}", style="yellow", highlight=False, markup=False)
    return frozenset(each.entry.case for each in here if each.worse)


def accept_ratios(report: Report, name: str) -> None:
    """Make the ratios of a report the baseline of that name. Raises click.ClickException when it lacks one."""
    wanted = SMOKE_RATIOS if name == CaseSet.SMOKE else full_ratios()
    made = baseline.accept(report, wanted)
    have = {(each.case, each.figure, each.contender, each.peer) for each in made.entries}
    lacking = [" ".join(each) for each in wanted if each not in have]
    if name == CaseSet.SMOKE and lacking:
        raise click.ClickException(f"not accepted: not measured, or with errors: {'; '.join(lacking)}")
    baseline.write(made, _path(name))
    click.echo(f"accepted {len(made.entries)} ratios as {_path(name).name}")
    for each in lacking:
        click.echo(f"left out, since it was not measured or had errors: {each}", err=True)


def _path(name: str) -> Path:
    return baseline.DIRECTORY / f"{name}.json"
