"""A report arranged for readers: groups of cases, per case one line per contender, ratios to peers, verdicts.

Values only; `bench.report.words` makes text of them. Tables, plots and pages all show this, so that they agree.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench import figures
from bench.figures import Ratio, Spread
from bench.records import Report, Unit
from bench.targets import Verdict, verdicts

OURS: Final = "sluice"

_GROUPS: Final[tuple[tuple[str, str], ...]] = (
    (r"manifest-beside|mixed", "Small requests beside bulk"),
    (r"blob-get", "Whole blobs"),
    (r"manifest|blob-head|range|connect", "Small answers"),
    (r"push", "Pushes"),
    (r"idle|slow|rest", "Memory per client"),
    (r"s3-push", "Pushes into a bucket"),
    (r"s3-pull", "Pulls from a bucket"),
    (r"", "Fleets, lists and housekeeping"),
)
"""How names of cases begin -> the group's title; the first that fits."""
_NAMED_ELSEWHERE: Final = frozenset({figures.RSS_PER_CONNECTION})


@dataclass(frozen=True, slots=True)
class Line:
    """One contender in one case. What was not measured is None."""

    contender: str
    primary: Spread | None
    """Server CPU seconds per unit of work, or bytes per connection."""
    wall: Spread | None
    client_cpu: Spread | None
    rss: Spread | None
    whole_p50: Spread | None
    whole_p99: Spread | None
    errors: int
    ratios: Mapping[str, Ratio]
    """Peer -> our primary figure over the peer's; empty for peers."""


@dataclass(frozen=True, slots=True)
class Section:
    """One case."""

    case: str
    summary: str
    unit: Unit
    lines: Sequence[Line]
    extras: Mapping[str, Mapping[str, Spread]]
    """What only this case knows: its name -> contender -> figure."""
    verdicts: Sequence[Verdict]


@dataclass(frozen=True, slots=True)
class Group:
    """Cases of a kind."""

    title: str
    sections: Sequence[Section]


def is_ours(contender: str) -> bool:
    """Whether a contender is a sluice; the others are peers."""
    return contender == OURS or contender.startswith(f"{OURS}-")


def contenders(report: Report) -> list[str]:
    """All that were measured, ours first, else in the report's order."""
    measured = dict.fromkeys([*report.contenders, *(each.contender for each in report.measurements)])
    present = {each.contender for each in report.measurements}
    return sorted((name for name in measured if name in present), key=lambda name: not is_ours(name))


def groups(report: Report) -> list[Group]:
    """The cases of a report by group, each in the order in which it was run."""
    cases = dict.fromkeys(each.case for each in report.measurements)
    judged = verdicts(report)
    by_title: dict[str, list[Section]] = {title: [] for _, title in _GROUPS}
    for case in cases:
        by_title[_title(case)].append(_section(report, case, [each for each in judged if each.target.case == case]))
    order = [title for pattern, title in (*_GROUPS[1:-1], _GROUPS[0], _GROUPS[-1])]
    return [Group(title, by_title[title]) for title in order if by_title[title]]


def _title(case: str) -> str:
    return next(title for pattern, title in _GROUPS if re.match(pattern, case))


def _section(report: Report, case: str, judged: Sequence[Verdict]) -> Section:
    mine = [each for each in report.measurements if each.case == case]
    names = [name for name in contenders(report) if any(each.contender == name for each in mine)]
    extras = dict.fromkeys(key for each in mine for key in each.extra if key not in _NAMED_ELSEWHERE)
    return Section(
        case=case,
        summary=report.cases.get(case, ""),
        unit=mine[0].unit,
        lines=[_line(report, case, name, names) for name in names],
        extras={
            key: {name: found for name in names if (found := figures.spread(report, case, name, key))} for key in extras
        },
        verdicts=judged,
    )


def _line(report: Report, case: str, contender: str, names: Sequence[str]) -> Line:
    def spread(figure: str) -> Spread | None:
        return figures.spread(report, case, contender, figure)

    peers = [name for name in names if not is_ours(name)] if is_ours(contender) else []
    if contender.startswith(f"{OURS}-"):
        peers.insert(0, OURS)  # how many workers compare with one
    found = {peer: figures.ratio(report, case, figures.CPU, contender, peer) for peer in peers}
    return Line(
        contender=contender,
        primary=spread(figures.CPU),
        wall=spread(figures.WALL),
        client_cpu=spread(figures.CLIENT_CPU),
        rss=spread(figures.RSS),
        whole_p50=spread("whole.p50_ms"),
        whole_p99=spread("whole.p99_ms"),
        errors=figures.errors(report, case, contender),
        ratios={peer: each for peer, each in found.items() if each is not None},
    )
