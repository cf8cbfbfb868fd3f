"""A report on a terminal: a table per group of cases, the losses with the rest, then what became of the targets."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.baseline import Comparison
from bench.records import Report
from bench.report import words
from bench.report.summary import groups, is_ours
from bench.targets import Verdict, verdicts

_PAPER_COLUMNS = 180


def console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for the tables where there is none."""
    made = Console()
    return made if made.is_terminal else Console(width=_PAPER_COLUMNS)


def show(report: Report, console: Console) -> None:
    """Print all of it."""
    for group in groups(report):
        table = Table(title=group.title, title_justify="left", title_style="bold", pad_edge=False)
        for column in words.COLUMNS:
            table.add_column(column, justify="left" if column in {"case", "contender", "against"} else "right")
        for section in group.sections:
            for line in section.lines:
                table.add_row(
                    *map(escape, words.cells(section, line)), style="bold" if is_ours(line.contender) else None
                )
            table.add_section()
        console.print(table)
        for section in group.sections:
            for name, by_contender in section.extras.items():
                shown = ", ".join(f"{who} {words.of_the_case(name, each.median)}" for who, each in by_contender.items())
                console.print(Text(f"{section.case}, {name}: {shown}", style="dim"))
    console.print(Text(words.LEGEND, style="dim"))
    console.print(targets(verdicts(report)))
    for note in report.notes:
        console.print(Text(f"note: {note}", style="yellow"))


def targets(judged: Sequence[Verdict]) -> RenderableType:
    """What became of the targets; those that were not measured only by name."""
    table = Table(title="Targets", title_justify="left", title_style="bold", pad_edge=False)
    for column in ("case", "contender", "figure", "target", "measured", "outcome"):
        table.add_column(column)
    for verdict in judged:
        if verdict.met is not None:
            target = verdict.target
            outcome = Text(words.outcome(verdict), style="green" if verdict.met else "red")
            named = (target.case, target.contender, words.figure_of(target), words.bound(target))
            table.add_row(*map(escape, named), words.reached(verdict), outcome)
    rest = dict.fromkeys(each.target.case for each in judged if each.met is None)
    lacking = Text(f"not measured: {', '.join(rest)}" if rest else "", style="dim")
    return Group(table, Text(words.counted(judged)), lacking)


def comparisons(compared: Sequence[Comparison]) -> RenderableType:
    """A run beside its baseline."""
    table = Table(title="Against the baseline", title_justify="left", title_style="bold", pad_edge=False)
    for column in ("case", "figure", "ratio", "accepted", "now", "worse from", "outcome"):
        table.add_column(column)
    for each in compared:
        entry = each.entry
        now = words.share(each.now) if each.now else "not measured"
        outcome = Text("worse" if each.worse else "good", style="red" if each.worse else "green")
        if each.errors:
            outcome.append(f" ({each.errors} errors)")
        ratio = f"{entry.contender} / {entry.peer}"
        numbers = (f"{entry.ratio:.4g} ±{entry.noise:.0%}", now, f"{each.allowed:.4g}")
        table.add_row(entry.case, entry.figure, ratio, *numbers, outcome)
    return table
