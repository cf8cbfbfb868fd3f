"""A report as one HTML page that needs nothing else: no scripts, no network, plots within. The losses stand first.

Works printed, in the dark and on a small screen. Every text that came from outside is escaped.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from bench.records import Report
from bench.report import words
from bench.report.plots import Plot
from bench.report.summary import Group, groups, is_ours
from bench.targets import Verdict, verdicts

_STYLE: Final = """\
:root { color-scheme: light dark; --back: #fff; --ink: #1b2430; --soft: #5b6675; --grid: #d5dae1; --good: #14804a;
  --bad: #c22f12; --ours: #eef5ff; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14181e; --ink: #e3e8ef; --soft: #98a4b3; --grid: #343c47; --good: #4fc98a; --bad: #ff7d61;
    --ours: #1a2738; } }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { margin: 2.4rem 0 .5rem; font-size: 1.25rem }
p, li { max-width: 60rem } .soft { color: var(--soft); font-size: .9rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid) }
th { color: var(--soft); font-weight: 500; vertical-align: bottom } .text { text-align: left }
tr.ours td { background: var(--ours); font-weight: 600 } td.case { font-weight: 600 } tr.about td { white-space: normal;
  color: var(--soft); text-align: left; border-bottom: 0; padding-top: .8rem }
.met { color: var(--good) } .missed { color: var(--bad); font-weight: 700 }
figure { margin: 1.2rem 0; overflow-x: auto } figure svg { max-width: 100%; height: auto; min-width: 34rem }
"""
_TEXT_COLUMNS: Final = frozenset({"case", "contender", "against"})
_MARK: Final = {True: "met", False: "missed", None: ""}


def render(report: Report, plots: Sequence[Plot]) -> str:
    """The whole page."""
    judged = verdicts(report)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Sluice: benchmarks of {escape(report.started_at)}</title><style>{_STYLE}</style></head><body>",
        "<h1>Sluice beside its peers</h1>",
        *_opening(report, judged),
        *_targets(judged),
        *(f"<figure>{plot.svg()}</figure>" for plot in plots if plot.name == "ratios"),
        *(line for group in groups(report) for line in _group(group, plots)),
        "<h2>Notes</h2>",
        _list(report.notes) if report.notes else "<p>None.</p>",
        f'<p class="soft">{escape(words.LEGEND)}</p>',
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _opening(report: Report, judged: Sequence[Verdict]) -> Iterable[str]:
    versions = ", ".join(f"{name} ({version})" if version else name for name, version in report.contenders.items())
    yield f"<p><strong>{escape(words.counted(judged))}.</strong> {_losses(judged)}</p>"
    yield (
        f'<p class="soft">Begun {escape(report.started_at)}, {report.rounds} rounds, contenders interleaved, medians. '
        f"{escape(words.machine(report.machine))}. {escape(versions)}.</p>"
    )
    yield (
        "<p>The figure to decide on is the server's CPU time per unit of work; compare it only within this page. "
        "Wall times depend on what else the machine did.</p>"
    )


def _losses(judged: Sequence[Verdict]) -> str:
    missed = [verdict for verdict in judged if verdict.met is False]
    if not missed:
        return "No measured target was missed."
    told = [f"{verdict.target.case} ({words.figure_of(verdict.target)})" for verdict in missed]
    return f'<span class="missed">Missed:</span> {escape(", ".join(told))}.'


def _targets(judged: Sequence[Verdict]) -> Iterable[str]:
    yield '<h2>Targets</h2><div class="wide"><table>'
    yield _header(
        ("case", "contender", "figure", "target", "measured", "outcome"), text=frozenset({"case", "contender"})
    )
    order = sorted(judged, key=lambda verdict: {False: 0, True: 1, None: 2}[verdict.met])
    for verdict in order:
        target = verdict.target
        named = [(target.case, "text case"), (target.contender, "text"), (words.figure_of(target), "")]
        told = [(words.bound(target), ""), (words.reached(verdict), "")]
        yield _row([*named, *told, (words.outcome(verdict), _MARK[verdict.met])])
    yield "</table></div>"


def _group(group: Group, plots: Sequence[Plot]) -> Iterable[str]:
    yield f"<h2>{escape(group.title)}</h2>"
    yield from (f"<figure>{plot.svg()}</figure>" for plot in plots if plot.title.startswith(f"{group.title}:"))
    yield f'<div class="wide"><table>{_header(words.COLUMNS, text=_TEXT_COLUMNS)}'
    for section in group.sections:
        about = escape(section.summary) or "&nbsp;"
        yield f'<tr class="about"><td colspan="{len(words.COLUMNS)}">{about}</td></tr>'
        for line in section.lines:
            kinds = ["text case", "text", *[""] * (len(words.COLUMNS) - 3), "text"]
            yield _row(zip(words.cells(section, line), kinds, strict=True), "ours" if is_ours(line.contender) else "")
        for name, by_contender in section.extras.items():
            told = ", ".join(f"{who} {words.of_the_case(name, each.median)}" for who, each in by_contender.items())
            yield f'<tr class="about"><td colspan="{len(words.COLUMNS)}">{escape(f"{name}: {told}")}</td></tr>'
    yield "</table></div>"


def _header(columns: Sequence[str], *, text: frozenset[str]) -> str:
    cells = (f'<th class="{"text" if column in text else ""}">{escape(column)}</th>' for column in columns)
    return f"<tr>{''.join(cells)}</tr>"


def _row(cells: Iterable[tuple[str, str]], kind: str = "") -> str:
    told = "".join(f'<td class="{how}">{escape(text)}</td>' for text, how in cells)
    return f'<tr class="{kind}">{told}</tr>'


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
