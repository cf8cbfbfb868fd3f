"""A report as plots: medians as ticks, single rounds as dots, one colour per contender, axes with units.

Drawn once, given as PNG (on white) or as SVG for a page, whose text and lines take the page's own colours.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench import figures
from bench.figures import Spread
from bench.records import Report, Target, Unit
from bench.report import words
from bench.report.summary import Group, Section, contenders, groups
from bench.targets import BUCKET_TARGETS, TARGETS

_INK: Final = "#1b2430"
_GRID: Final = "#d5dae1"
_COLOURS: Final = {
    "sluice": "#0a7cff",
    "sluice-2-workers": "#7a4dff",
    "docker-registry": "#e2592b",
    "docker-registry-open": "#e8a33d",
    "nginx": "#1f9d61",
    "url": "#c2379b",
}
_OTHERS: Final = ("#00a3ad", "#8c6d46", "#a0285a", "#5f7a1f")
_WIDTH_IN: Final = 9.0
_ROW_IN: Final = 0.2  # per contender of a case
_AROUND_IN: Final = 1.1  # title, axis and legend
_LEAST_SPAN: Final = 8.0
"""From the left end of an axis to the right, as a factor."""
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text
    "font.size": 9.0,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
"""For `mpl.rc_context`, whose own type lists every key there is."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot. `name` is fit for a file."""

    name: str
    title: str
    figure: Figure

    def png(self) -> bytes:
        """As a picture on white."""
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):
            self.figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
        return buffer.getvalue()

    def svg(self) -> str:
        """As an element for a page: no references, `currentColor` for text, `var(--grid)` for lines behind."""
        buffer = io.StringIO()
        with mpl.rc_context({**_STYLE, "svg.hashsalt": self.name}):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        drawn = buffer.getvalue()
        drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
        drawn = re.sub(r'\b(id="|url\(#|href="#)', rf"\1{self.name}-", drawn)  # several share one page
        return drawn.replace(_INK, "currentColor").replace(_GRID, "var(--grid)")


@dataclass(frozen=True, slots=True)
class _Row:
    """One contender of a case on a plot."""

    label: str
    contender: str
    spread: Spread


def draw(report: Report) -> list[Plot]:
    """Ratios first, then per group the primary figures and the latencies. What was not measured is not drawn."""
    names = contenders(report)
    colours = _colours(names)
    with mpl.rc_context(_STYLE):
        found = [*_ratios(groups(report), colours)]
        for group in groups(report):
            for unit in Unit:
                found += _primary(group, unit, colours)
            found += _latencies(group, colours)
    return found


def _colours(names: Sequence[str]) -> dict[str, str]:
    spare = iter(_OTHERS * (len(names) // len(_OTHERS) + 1))
    return {name: _COLOURS.get(name) or next(spare) for name in names}


def _primary(group: Group, unit: Unit, colours: dict[str, str]) -> Iterator[Plot]:
    rows = [
        [
            _Row(section.case, line.contender, line.primary)
            for line in section.lines
            if line.primary and line.primary.low > 0  # memory that shrank has no place on a logarithmic axis
        ]
        for section in group.sections
        if section.unit is unit
    ]
    rows = [each for each in rows if each]
    if rows:
        title = f"{group.title}: {'memory' if unit is Unit.CONNECTIONS else 'server CPU'}, less is better"
        yield _dots(_slug(f"{group.title} {unit.value}"), title, words.axis(unit), rows, colours)


def _latencies(group: Group, colours: dict[str, str]) -> Iterator[Plot]:
    rows = [
        [
            _Row(section.case, line.contender, line.whole_p99)
            for line in section.lines
            if line.whole_p99 and line.whole_p99.low > 0
        ]
        for section in group.sections
        if section.unit is not Unit.CONNECTIONS
    ]
    rows = [each for each in rows if each]
    if rows:
        title = f"{group.title}: slowest answer in a hundred, less is better"
        yield _dots(_slug(f"{group.title} p99"), title, "p99 latency of a whole answer (ms)", rows, colours)


def _dots(name: str, title: str, label: str, cases: list[list[_Row]], colours: dict[str, str]) -> Plot:
    """A band per case, in it a line per contender: its rounds as dots, its median as a tick with its value."""
    figure, axes = _canvas(title, sum(len(case) + 1 for case in cases))
    height, places, labels = 0.0, [], []
    for case in cases:
        places.append(height + (len(case) - 1) / 2)
        labels.append(case[0].label)
        for row in case:
            _dot_line(axes, height, row, colours[row.contender])
            height += 1
        axes.axhline(height, color=_GRID, linewidth=0.6)
        height += 1
    _finish(axes, label, places, labels, height)
    shown = dict.fromkeys(row.contender for case in cases for row in case)
    _legend(figure, [(name, colours[name]) for name in shown])
    return Plot(name, title, figure)


def _dot_line(axes: Axes, height: float, row: _Row, colour: str) -> None:
    rounds, median = row.spread.rounds, row.spread.median
    axes.plot([row.spread.low, row.spread.high], [height, height], color=colour, linewidth=1, alpha=0.5)
    axes.plot(rounds, [height] * len(rounds), "o", color=colour, markersize=3.5, alpha=0.55, markeredgewidth=0)
    axes.plot([median], [height], "|", color=colour, markersize=11, markeredgewidth=2.4)
    axes.annotate(
        words.digits(median), (row.spread.high, height), (6, 0), textcoords="offset points", va="center", fontsize=8
    )


def _ratios(found: Sequence[Group], colours: dict[str, str]) -> Iterator[Plot]:
    """Ours over each peer's, with the interval and, where there is one, the target."""
    sections = [section for group in found for section in group.sections if section.unit is not Unit.CONNECTIONS]
    rows = [
        (section, line.contender, peer, each)
        for section in sections
        for line in section.lines
        for peer, each in line.ratios.items()
    ]
    if not rows:
        return
    title = "Our server CPU over the peer's, same work in the same run: left of 1 we need less"
    figure, axes = _canvas(title, len(rows))
    labels = []
    for height, (section, contender, peer, each) in enumerate(rows):
        colour = colours.get(peer, _INK)
        axes.plot([each.low, each.high], [height, height], color=colour, linewidth=1.6, alpha=0.6)
        axes.plot([each.ratio], [height], "o", color=colour, markersize=6, markeredgewidth=0)
        axes.annotate(
            words.fraction(each.ratio),
            (1.0, height),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
        for bound in _bounds(section, contender, peer):
            axes.plot([bound], [height], "|", color=_INK, markersize=12, markeredgewidth=1.6)
        labels.append(section.case if contender == "sluice" else f"{section.case} ({contender})")
    axes.axvline(1.0, color=_INK, linewidth=1)
    _finish(axes, "ratio of server CPU per unit of work (logarithmic)", range(len(rows)), labels, len(rows))
    marks = [(f"against {peer}", colours.get(peer, _INK)) for peer in dict.fromkeys(row[2] for row in rows)]
    _legend(figure, marks, Line2D([], [], color=_INK, marker="|", linestyle="", markersize=10, label="target"))
    yield Plot("ratios", title, figure)


def _bounds(section: Section, contender: str, peer: str) -> list[float]:
    wanted: list[Target] = [
        each for each in (*TARGETS, *BUCKET_TARGETS) if (each.case, each.peer) == (section.case, peer)
    ]
    return [
        each.at_most
        for each in wanted
        if each.contender == contender and each.figure == figures.CPU and each.at_most is not None
    ]


def _canvas(title: str, rows: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_IN, _AROUND_IN + _ROW_IN * rows), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    return figure, axes


def _finish(axes: Axes, label: str, places: Sequence[float], labels: Sequence[str], height: float) -> None:
    axes.set_xscale("log")
    _widen(axes)
    axes.set_xlabel(label)
    axes.set_yticks(places, labels)
    axes.set_ylim(height - 0.4, -0.8)
    axes.tick_params(length=0)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: words.digits(number)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _widen(axes: Axes) -> None:
    """Room for values, and never so narrow that a difference of a tenth looks like one of ten times."""
    low, high = axes.dataLim.intervalx
    room = max(1.35, (_LEAST_SPAN * low / high) ** 0.5)
    axes.set_xlim(low / room, high * room)


def _legend(figure: Figure, marks: Sequence[tuple[str, str]], *more: Line2D) -> None:
    handles = [Line2D([], [], color=colour, marker="o", linestyle="", label=name) for name, colour in marks]
    figure.legend(
        handles=[*handles, *more], loc="outside lower left", ncols=len(handles) + len(more), frameon=False, fontsize=8
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
