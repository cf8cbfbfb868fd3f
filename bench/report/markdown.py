"""A report as the generated parts of a Markdown page: between the marks of `docs/benchmarks.md`, and nowhere else.

The marks are `<!-- bench:begin NAME -->` and `<!-- bench:end -->`, with NAME one of `run`, `targets`, `tables`,
`plots`. Plots become PNG files in a directory beside the page that is called as the page is. A page may hold several
reports: then the names of a section's marks begin with its name and a hyphen, as in `s3-tables`.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from bench.records import Report
from bench.report import words
from bench.report.plots import Plot, draw
from bench.report.summary import Group, groups
from bench.targets import verdicts

_PLACE: Final = re.compile(r"(<!-- bench:begin ([\w-]+) -->\n).*?(<!-- bench:end -->)", re.DOTALL)


class NoPlace(Exception):
    """The page has no marks, or a mark of a name that is not known. The message says which."""


def fill(report: Report, page: Path, section: str = "") -> list[Path]:
    """Replace what stands between the marks of a page, or of one section of it; what was written. Raises NoPlace."""
    text = page.read_text(encoding="utf-8")
    names = [name for found in _PLACE.finditer(text) if (name := _within(found[2], section)) is not None]
    pictures = page.with_suffix("") / section if section else page.with_suffix("")
    drawn = draw(report) if "plots" in names else []
    made = parts(report, drawn, pictures.relative_to(page.parent).as_posix())
    if not names or (unknown := set(names) - made.keys()):
        raise NoPlace(f"{page}: no marks" if not names else f"{page}: nothing is called {', '.join(sorted(unknown))}")

    def filled(found: re.Match[str]) -> str:
        name = _within(found[2], section)
        return found[0] if name is None else f"{found[1]}\n{made[name]}\n{found[3]}"

    page.write_text(_PLACE.sub(filled, text), encoding="utf-8")
    return [page, *_pictures(drawn, pictures)]


def _within(mark: str, section: str) -> str | None:
    """The name of a part, if the mark is the section's; marks of no section have no hyphen."""
    found, _, name = mark.rpartition("-")
    return name if found == section else None


def parts(report: Report, plots: Sequence[Plot], directory: str) -> dict[str, str]:
    """The text of each part by its name; `directory` is where the plots lie, seen from the page."""
    return {
        "run": "\n".join(_run(report)) + "\n",
        "targets": "\n".join(_targets(report)) + "\n",
        "tables": "\n".join(line for group in groups(report) for line in _group(group)),
        "plots": "\n".join(f"![{plot.title}]({directory}/{plot.name}.png)\n" for plot in plots),
    }


def _pictures(plots: Sequence[Plot], directory: Path) -> list[Path]:
    if plots:
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob("*.png"):
            stale.unlink()  # plots of cases that are no more
    written = []
    for plot in plots:
        path = directory / f"{plot.name}.png"
        path.write_bytes(plot.png())
        written.append(path)
    return written


def _run(report: Report) -> Iterable[str]:
    yield f"Begun {report.started_at}, {report.rounds} rounds. {words.machine(report.machine)}."
    yield ""
    yield from (f"- {name}: {version}" if version else f"- {name}" for name, version in report.contenders.items())
    if report.notes:
        yield ""
        yield "Notes of the run:"
        yield ""
        yield from (f"- {' '.join(note.split())}" for note in report.notes)


def _targets(report: Report) -> Iterable[str]:
    judged = verdicts(report)
    yield f"{words.counted(judged)}."
    yield ""
    yield from _header(("case", "contender", "figure", "target", "measured", "outcome"))
    for verdict in judged:
        target = verdict.target
        outcome = "**missed**" if verdict.met is False else words.outcome(verdict)
        named = (f"`{target.case}`", target.contender, words.figure_of(target))
        yield _row((*named, words.bound(target), words.reached(verdict), outcome))


def _group(group: Group) -> Iterable[str]:
    yield f"### {group.title}"
    yield ""
    yield from _header(words.COLUMNS)
    for section in group.sections:
        for line in section.lines:
            case, *rest = words.cells(section, line)
            yield _row((f"`{case}`", *rest))
    yield ""
    for section in group.sections:
        if section.summary:
            yield f"- `{section.case}`: {section.summary}."
        for name, by_contender in section.extras.items():
            told = ", ".join(f"{who} {words.of_the_case(name, each.median)}" for who, each in by_contender.items())
            yield f"  - {name}: {told}"
    yield ""


def _header(columns: Sequence[str]) -> Iterable[str]:
    yield _row(columns)
    yield "|" + "---|" * len(columns)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
