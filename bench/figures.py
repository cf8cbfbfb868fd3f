"""What is computed from measurements: figures, their spread over rounds, and ratios with the noise they have.

A figure is named by a word: `cpu` (the primary one: server CPU seconds per unit of work), `wall` (seconds per unit),
`client_cpu` (of the load, per unit), `rss` (bytes), `first_byte.p99_ms` and the like, or a key of `Measurement.extra`.
Smaller is better for the first four. Pure; knows neither how things were measured nor how they are shown.
"""

import statistics
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.records import Latencies, Measurement, Report, Unit

CPU: Final = "cpu"
CPU_PER_GIB: Final = "cpu_s_per_gib"
"""The same for bulk, as a bound that is compared with nobody's."""
WALL: Final = "wall"
CLIENT_CPU: Final = "client_cpu"
RSS: Final = "rss"
RSS_PER_CONNECTION: Final = "rss_bytes_per_connection"

_GIB: Final = 1 << 30
_RESAMPLES: Final = 1000
_SEED: Final = 2026
"""The same report always has the same interval."""
_TAIL: Final = 0.025
"""On either side, so that the interval holds the ratio in 95 of 100 cases; with five rounds that is their whole range,
almost."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """What is reported."""
        return statistics.median(self.rounds)

    @property
    def low(self) -> float:
        """The least round."""
        return min(self.rounds)

    @property
    def high(self) -> float:
        """The greatest round."""
        return max(self.rounds)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of one contender over the median of another, in the same run."""

    ratio: float
    low: float
    """The 95 % interval: rounds are drawn with replacement, both contenders' together, 1,000 times."""
    high: float
    rounds: int

    @property
    def noise(self) -> float:
        """Half of the interval, relative to the ratio: 0.1 means that it could as well be a tenth more or less."""
        return (self.high - self.low) / 2 / self.ratio if self.ratio else 0.0


def work(measurement: Measurement) -> float:
    """How many units of work it was: GiB, thousands of requests, or one (a figure per connection is complete)."""
    match measurement.unit:
        case Unit.GIB:
            return measurement.moved_bytes / _GIB
        case Unit.KILO_REQUESTS:
            return measurement.requests / 1000
        case Unit.CONNECTIONS:
            return 1.0


def value(measurement: Measurement, figure: str) -> float | None:
    """A figure of one measurement; None when it has none (no work was done, or the server is not ours to look at)."""
    match figure:
        case "cpu" if measurement.unit is Unit.CONNECTIONS:
            return measurement.extra.get(RSS_PER_CONNECTION)
        case "cpu" | "cpu_s_per_gib":
            return _per_unit(measurement.server_cpu_s, measurement)
        case "wall":
            return _per_unit(measurement.wall_s, measurement)
        case "client_cpu":
            return _per_unit(measurement.client_cpu_s, measurement)
        case "rss":
            return None if measurement.server_rss_bytes is None else float(measurement.server_rss_bytes)
        case _:
            return _named(measurement, figure)


def spread(report: Report, case: str, contender: str, figure: str = CPU) -> Spread | None:
    """A figure over all rounds of a contender in a case; None when it was not measured."""
    values = _by_round(report, case, contender, figure)
    return Spread(tuple(values.values())) if values else None


def ratio(report: Report, case: str, figure: str, contender: str, peer: str) -> Ratio | None:
    """How two contenders compare over the rounds that both have; None when there is none, or a zero to divide by."""
    ours, theirs = _by_round(report, case, contender, figure), _by_round(report, case, peer, figure)
    pairs = [(ours[number], theirs[number]) for number in ours if number in theirs]
    if not pairs or min(min(pair) for pair in pairs) <= 0:
        return None
    table = np.array(pairs)
    drawn = np.random.default_rng(_SEED).integers(len(pairs), size=(_RESAMPLES, len(pairs)))
    medians = np.median(table[drawn], axis=1)
    low, high = np.quantile(medians[:, 0] / medians[:, 1], [_TAIL, 1 - _TAIL])
    middle = np.median(table, axis=0)
    return Ratio(float(middle[0] / middle[1]), float(low), float(high), len(pairs))


def errors(report: Report, case: str, contender: str) -> int:
    """Failed requests over all rounds."""
    return sum(each.errors for each in report.measurements if (each.case, each.contender) == (case, contender))


def _by_round(report: Report, case: str, contender: str, figure: str) -> dict[int, float]:
    found = {
        each.round: value(each, figure)
        for each in report.measurements
        if (each.case, each.contender) == (case, contender)
    }
    return {number: one for number, one in found.items() if one is not None}


def _per_unit(amount: float | None, measurement: Measurement) -> float | None:
    units = work(measurement)
    return amount / units if amount is not None and units else None


def _named(measurement: Measurement, figure: str) -> float | None:
    kind, _, quantile = figure.partition(".")
    latencies: Latencies | None = {"first_byte": measurement.first_byte, "whole": measurement.whole}.get(kind)
    if quantile and latencies is not None and quantile in Latencies.__slots__:
        return float(getattr(latencies, quantile))
    return measurement.extra.get(figure)
