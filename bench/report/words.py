"""Figures as people read them: three digits, a unit, and a ratio that says more or less than the peer."""

from collections.abc import Sequence
from typing import Final

from bench import figures
from bench.figures import Ratio, Spread
from bench.records import Machine, Target, Unit
from bench.report.summary import Line, Section
from bench.targets import Verdict

NONE: Final = "-"
TIMES: Final = "\u00d7"
COLUMNS: Final = (
    "case",
    "contender",
    "server",
    "rounds",
    "per CPU s",
    "wall",
    "p50 / p99 ms",
    "RSS",
    "load",
    "against",
)
"""The columns of every table of cases; `cells` fills them."""
LEGEND: Final = (
    "server: CPU seconds (user + system, children included) per GiB or per 1,000 requests, or memory per connection, "
    "median; rounds: least to greatest; per CPU s: what one second of server CPU does; wall: seconds per unit; "
    "p50 / p99: latency of a whole answer; RSS: of all server processes at the busiest; load: the load generator's own "
    "CPU per unit; against: our figure over the peer's in the same run (1/20 = a twentieth), ± noise."
)
_SHARE_BELOW: Final = 0.2
_STEP: Final = 1024


def cells(section: Section, line: Line) -> tuple[str, ...]:
    """One row under COLUMNS."""
    return (
        section.case,
        line.contender + (f" ({line.errors} errors)" if line.errors else ""),
        primary(line.primary.median, section.unit) if line.primary else NONE,
        between(line.primary, section.unit),
        throughput(line.primary, section.unit),
        per_unit(line.wall.median, section.unit) if line.wall and section.unit is not Unit.CONNECTIONS else NONE,
        latencies(line.whole_p50, line.whole_p99),
        size(line.rss.median) if line.rss else NONE,
        per_unit(line.client_cpu.median, section.unit)
        if line.client_cpu and section.unit is not Unit.CONNECTIONS
        else NONE,
        "; ".join(f"{share(each)} {TIMES} {peer}" for peer, each in line.ratios.items()) or NONE,
    )


def digits(number: float) -> str:
    """Three significant digits, without an exponent."""
    if number == 0:
        return "0"
    if abs(number) >= 100:
        return f"{number:,.0f}"
    text = f"{number:.3g}"
    return text if "e" not in text else f"{number:.6f}".rstrip("0")


def axis(unit: Unit) -> str:
    """What the primary figure is, for the axis of a plot."""
    return "memory per connection (bytes)" if unit is Unit.CONNECTIONS else f"server CPU seconds per {unit.value}"


def primary(amount: float, unit: Unit) -> str:
    """The primary figure."""
    return size(amount) if unit is Unit.CONNECTIONS else per_unit(amount, unit)


def per_unit(seconds: float, unit: Unit) -> str:
    """Seconds per unit of work."""
    return f"{digits(seconds)} s/{'GiB' if unit is Unit.GIB else '1,000'}"


def between(spread: Spread | None, unit: Unit) -> str:
    """From the least round to the greatest."""
    if spread is None:
        return NONE
    shown = size if unit is Unit.CONNECTIONS else digits
    return f"{shown(spread.low)} to {shown(spread.high)}"


def throughput(spread: Spread | None, unit: Unit) -> str:
    """What one second of server CPU does."""
    if spread is None or unit is Unit.CONNECTIONS or not spread.median:
        return NONE
    return (
        f"{digits(1 / spread.median)} GiB" if unit is Unit.GIB else f"{digits(float(round(1000 / spread.median)))} req"
    )


def latencies(middle: Spread | None, high: Spread | None) -> str:
    """Two quantiles in milliseconds."""
    return f"{digits(middle.median)} / {digits(high.median)}" if middle and high else NONE


def size(amount_bytes: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if amount_bytes < _STEP:
            return f"{digits(amount_bytes)} {unit}"
        amount_bytes /= _STEP
    return f"{digits(amount_bytes)} GiB"


def fraction(ratio: float) -> str:
    """A ratio: 0.31, 1.05, or 1/25 where it is small."""
    return f"1/{digits(1 / ratio)}" if 0 < ratio < _SHARE_BELOW else digits(ratio)


def share(ratio: Ratio) -> str:
    """A ratio with its noise."""
    return f"{fraction(ratio.ratio)} ±{ratio.noise:.0%}" if ratio.rounds > 1 else fraction(ratio.ratio)


def of_the_case(name: str, amount: float) -> str:
    """A figure that only one case knows; its name ends in its unit."""
    if name.endswith("bytes_per_s"):
        return f"{size(amount)}/s"
    return size(amount) if name.endswith(("_bytes", "bytes_per_connection")) else digits(amount)


def bound(target: Target) -> str:
    """What a target asks for."""
    parts = []
    for sign, limit in (("≤", target.at_most), ("≥", target.at_least)):
        if limit is not None:
            shown = f"{fraction(limit)} {TIMES} {target.peer}" if target.peer else absolute(target, limit)
            parts.append(f"{sign} {shown}")
    return " and ".join(parts)


def absolute(target: Target, amount: float) -> str:
    """A figure that is compared with nobody's."""
    if target.figure.endswith("_ms"):
        return f"{digits(amount)} ms"
    if target.figure == figures.CPU_PER_GIB:
        return per_unit(amount, Unit.GIB)
    return size(amount) if target.figure in {figures.CPU, figures.RSS} else digits(amount)


def reached(verdict: Verdict) -> str:
    """What was measured for a target."""
    if verdict.figure is None:
        return NONE
    shown = fraction if verdict.target.peer else lambda amount: absolute(verdict.target, amount)
    low, high = verdict.low, verdict.high
    rounds = "" if low is None or high is None or low == high else f" ({shown(low)} to {shown(high)})"
    return f"{shown(verdict.figure)}{rounds}"


def outcome(verdict: Verdict) -> str:
    """Met, missed or not measured."""
    return {True: "met", False: "missed", None: "not measured"}[verdict.met]


def figure_of(target: Target) -> str:
    """What a target is about."""
    known = {
        figures.CPU: "server CPU",
        figures.CPU_PER_GIB: "server CPU",
        figures.WALL: "wall time",
        figures.RSS: "memory of the server",
    }
    return "memory" if target.figure == figures.CPU and target.peer is None else known.get(target.figure, target.figure)


def machine(one: Machine) -> str:
    """Where it was measured."""
    return f"{one.cpu}, {one.cores} cores, {size(one.memory_bytes)}, {one.kernel}, {one.python}"


def counted(judged: Sequence[Verdict]) -> str:
    """How many targets were met."""
    seen = [each for each in judged if each.met is not None]
    return f"{sum(1 for each in seen if each.met)} of {len(seen)} targets met, {len(judged) - len(seen)} not measured"
