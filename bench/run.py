"""Runs cases against contenders, interleaved, and gives measurements as they come.

Round 1 goes A, B, C, round 2 goes B, C, A: what the machine does meanwhile hits all alike. Each server runs from its
first case to its last and is stopped whatever happens. Blocking; knows nothing of reports.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cases.case import Case
from bench.contenders.contender import Contender
from bench.records import Measurement, Report


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    cases: Sequence[Case]
    contenders: Sequence[Contender]
    rounds: int = 5
    directory: Path | None = None
    """Where servers keep their data; None: a temporary directory, gone afterwards. Wants some GiB."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run is."""

    done: int
    """Steps that are over; a step is one case, contender and round (the preparation is round 0)."""
    of: int
    case: str
    contender: str
    round: int
    measurement: Measurement | None
    """What the step gave; None for a preparation, and when the step begins."""
    note: str = ""
    """Why something was left out or failed, for the report."""


Watcher = Callable[[Step], None]


def run(plan: Plan, watch: Watcher) -> Report:
    """Run a plan; `watch` hears of every step when it begins and when it has ended.

    A contender that cannot be started or that breaks is left out of the case, and the report's notes say so;
    the run goes on. KeyboardInterrupt stops all servers and is raised.
    """
    raise NotImplementedError
