"""The last accepted ratios, and whether a run is worse than they by more than its noise.

A baseline is a JSON file of ratios with the noise that the accepted run measured. Only ratios of one run are kept:
CPU seconds of another day or machine compare with nothing. A ratio is worse when it exceeds its baseline by more than
`ALLOWED_LEAST` or the noise of both runs together, whichever is more. The noise of a run is half of the 95 % interval
that its rounds give by resampling (`bench.figures.ratio`). Smaller is better for every figure kept here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from bench import figures
from bench.records import Machine, Report

DIRECTORY: Final = Path(__file__).parent / "baselines"
ALLOWED_LEAST: Final = 0.3
"""What five short rounds cannot see. Two runs of the same code on one quiet afternoon differed by 17 %, because the
peer moved; this is nearly twice as much."""


class BaselineInvalid(Exception):
    """The file is missing or is no baseline. The message says which."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted ratio."""

    case: str
    figure: str
    contender: str
    peer: str
    ratio: float
    noise: float
    """Relative; see `bench.figures.Ratio.noise`."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The accepted ratios of one run. Which ratios are compared is what stands here."""

    accepted_from: str
    """When the run began: UTC, ISO 8601."""
    machine: Machine
    rounds: int
    entries: tuple[Entry, ...]
    format: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """One ratio beside its baseline."""

    entry: Entry
    now: figures.Ratio | None
    """None when this run did not measure it, which counts as worse: nothing was shown."""
    errors: int

    @property
    def allowed(self) -> float:
        """The ratio from which on it is worse."""
        noise = self.now.noise if self.now else 0.0
        return self.entry.ratio * (1 + max(ALLOWED_LEAST, self.entry.noise + noise))

    @property
    def worse(self) -> bool:
        """Whether the run fails because of it."""
        return self.now is None or self.errors > 0 or self.now.ratio > self.allowed


def read(path: Path) -> Baseline:
    """A baseline from its file. Raises BaselineInvalid."""
    try:
        return TypeAdapter(Baseline).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BaselineInvalid(f"{path} does not exist; `sluice bench run --accept` writes it") from None
    except ValidationError as error:
        raise BaselineInvalid(f"{path} is no baseline: {error}") from error


def write(baseline: Baseline, path: Path) -> None:
    """Write it, for people to read as well."""
    path.write_bytes(TypeAdapter(Baseline).dump_json(baseline, indent=1) + b"\n")


def accept(report: Report, ratios: Sequence[tuple[str, str, str, str]]) -> Baseline:
    """A baseline of these ratios (case, figure, contender, peer) of a report; those not measured are left out."""
    entries = []
    for case, figure, contender, peer in ratios:
        now = figures.ratio(report, case, figure, contender, peer)
        if now is not None and not figures.errors(report, case, contender):
            entries.append(Entry(case, figure, contender, peer, round(now.ratio, 5), round(now.noise, 4)))
    return Baseline(report.started_at, report.machine, report.rounds, tuple(entries))


def compare(report: Report, baseline: Baseline) -> tuple[Comparison, ...]:
    """Every ratio of the baseline beside what the report has."""
    return tuple(
        Comparison(
            entry,
            figures.ratio(report, entry.case, entry.figure, entry.contender, entry.peer),
            figures.errors(report, entry.case, entry.contender),
        )
        for entry in baseline.entries
    )
