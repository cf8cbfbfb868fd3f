"""`sluice bench run`: choose, measure with progress bars, write the report, and say with the exit code how it went."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.cases.case import Scale
from bench.cli_compare import accept_ratios, worse_cases
from bench.contenders.url import Url
from bench.figures import CPU, value
from bench.machine import this_machine
from bench.records import Measurement, Report
from bench.report import table
from bench.report.words import primary
from bench.run import Plan, Step, run
from bench.sets import CaseSet, NothingToRun, Part, left_out, parts

_USER, _PASSWORD = "BENCH_USER", "BENCH_PASSWORD"


@click.command("run")
@click.option(
    "--set",
    "set_name",
    type=click.Choice([each.value for each in CaseSet]),
    default=CaseSet.FIGURES.value,
    show_default=True,
    help="Which cases.",
)
@click.option("--case", "patterns", multiple=True, metavar="GLOB", help="Only such cases, of all; may be repeated.")
@click.option("--contender", "--peer", "names", multiple=True, metavar="NAME", help="Only these; may be repeated.")
@click.option("--url", metavar="URL", help=f"A registry that runs already; log-in from {_USER} and {_PASSWORD}.")
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Interleaved; medians count."
)
@click.option("--quick", is_flag=True, help="Small blobs and short rounds: a look, no figures to publish.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bench-report"),
    show_default=True,
    metavar="DIR",
    help="Where JSON, plots and the page go.",
)
@click.option("--plots/--no-plots", default=True, help="With or without PNG and HTML.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Where servers keep their data meanwhile (some GiB); default: the system's temporary directory.",
)
@click.option("--check", is_flag=True, help="Fail when a ratio is worse than the baseline, twice.")
@click.option("--accept", is_flag=True, help="Make the ratios the baseline of the set.")
def command(
    *,
    set_name: str,
    patterns: Sequence[str],
    names: Sequence[str],
    url: str | None,
    rounds: int,
    quick: bool,
    output: Path,
    plots: bool,
    work: Path | None,
    check: bool,
    accept: bool,
) -> None:
    """Measure: drive cases against Sluice and its peers, which are started here on loopback, or against a URL.

    Exit code 0 means that everything was measured and every answer was right (and, with --check, that no ratio got
    worse); missed targets stand in the report.

    \b
    Examples:
      sluice bench run
      sluice bench run --quick --case 'blob-get-warm-*' --contender sluice --contender nginx
      sluice bench run --url https://registry.example --case manifest-get --rounds 3
      sluice bench run --set smoke --quick --check
      sluice bench run --set s3 --rounds 2 --output bench-s3
    """  # noqa: D301  # click's mark
    case_set = CaseSet(set_name)
    if (check or accept) and (patterns or names or url or case_set in {CaseSet.ALL, CaseSet.S3}):
        raise click.UsageError("--check and --accept are for a whole set: figures or smoke")
    there = Url(url, os.environ.get(_USER), os.environ.get(_PASSWORD)) if url else None
    scale = Scale.QUICK if quick else Scale.FULL
    try:
        chosen = parts(case_set, scale, patterns=patterns, names=names, url=there)
    except NothingToRun as error:
        raise click.UsageError(str(error)) from error
    notes = [f"scale {scale.value}, {rounds} rounds", *left_out([*names, *([url] if url else [])])]
    report, complete = _measured(chosen, rounds=rounds, work=work, notes=notes)
    console = table.console()
    table.show(report, console)
    _write(report, output, plots=plots)
    well = complete and not any(each.errors for each in report.measurements)
    if accept and well:
        accept_ratios(report, set_name)
    if check:
        worse = worse_cases(report, set_name, console)
        well = well and not (worse and _still_worse(chosen, worse, set_name, rounds=rounds, work=work, console=console))
    if not well:
        raise click.ClickException("something failed, was not measured or got worse; see above")


def _still_worse(
    chosen: Sequence[Part],
    worse: frozenset[str],
    set_name: str,
    *,
    rounds: int,
    work: Path | None,
    console: Console,
) -> bool:
    """Measure the worse cases once more: what was chance, or a busy machine, is seldom so twice."""
    again = [Part(tuple(case for case in part.cases if case.name in worse), part.contenders) for part in chosen]
    console.print(f"measuring again: {', '.join(sorted(worse))}", highlight=False)
    second, complete = _measured([part for part in again if part.cases], rounds=rounds, work=work, notes=())
    return bool(worse_cases(second, set_name, console, only=worse)) or not complete


def _write(report: Report, output: Path, *, plots: bool) -> None:
    from bench.report import directory  # noqa: PLC0415  # matplotlib takes a second, and is not always wanted

    written = directory.write(report, output) if plots else directory.write_json(report, output)
    click.echo(f"wrote {', '.join(str(path) for path in written)}", err=True)


def _measured(chosen: Sequence[Part], *, rounds: int, work: Path | None, notes: Sequence[str]) -> tuple[Report, bool]:
    """The report of all parts, and whether nothing went wrong. What was measured before Ctrl-C is kept."""
    with _progress() as progress:
        watcher = _Watcher(progress)
        reports: list[Report] = []
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            for part in chosen:
                watcher.begin()
                reports.append(run(Plan(part.cases, part.contenders, rounds, work), watcher))
        except KeyboardInterrupt:
            watcher.troubles.append("stopped early by the keyboard")
        versions = {name: version for each in reports for name, version in each.contenders.items()}
        seen = {each.contender for each in watcher.measurements}
        noted = [note for each in reports for note in each.notes]
        report = Report(
            started_at=reports[0].started_at if reports else started_at,
            machine=this_machine(),
            contenders={**dict.fromkeys(sorted(seen), ""), **versions},
            rounds=rounds,
            measurements=watcher.measurements,
            notes=list(dict.fromkeys([*notes, *noted, *watcher.troubles])),
            cases={case.name: case.summary for part in chosen for case in part.cases},
        )
    return report, not watcher.troubles


class _Watcher:
    """Moves the bar, prints each measurement, and keeps what came."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.measurements: list[Measurement] = []
        self.troubles: list[str] = []

    def begin(self) -> None:
        """The next part begins."""
        self._task = self._progress.add_task("starting", total=None)

    def __call__(self, step: Step) -> None:
        where = f"round {step.round}" if step.round else "preparing"
        words = f"{step.case}: {step.contender}, {where}"
        self._progress.update(self._task, total=step.of, completed=step.done, description=words)
        if step.measurement is not None:
            self.measurements.append(step.measurement)
            figure = value(step.measurement, CPU)
            shown = "no figure" if figure is None else primary(figure, step.measurement.unit)
            if not self._progress.console.is_terminal:
                self._progress.console.print(f"{words}: {shown}", highlight=False)
        if step.note:
            self.troubles.append(step.note)
            self._progress.console.print(f"trouble: {step.note}", style="red", highlight=False, markup=False)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
