"""What a load process is told and what it answers: values with a JSON form, known to both sides of the pipe.

A job names a driver, a module of `bench.drivers` (or any module of the suite) with
`async def drive(load: Load, **arguments) -> None`, so that a case can bring traffic of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.contenders.contender import Endpoint
from bench.histograms import Recording


class LoadFailed(Exception):
    """A load process ended without a result; the message holds what it printed. Nothing was measured."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one load process does."""

    driver: str
    """Dotted module, such as `bench.drivers.repeat`."""
    endpoint: Endpoint
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of its `drive`; JSON values only."""
    background: bool = False
    """Runs until the other jobs have ended (`Load.stopped` tells it), and counts for nothing but client CPU."""
    deadline_s: float = 600.0
    """The process is killed and the round fails when it takes longer."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One request without body that a driver fires again and again, and what a right answer looks like."""

    path: str
    status: int
    size_bytes: int
    """What Content-Length says, and how long the body is unless the method is HEAD."""
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    """Of the body; checked once before the measurement, for the first answer to this shot."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one load process did between the word to go and its end."""

    requests: int
    moved_bytes: int
    errors: int
    wall_s: float
    cpu_s: float
    complaints: Sequence[str] = ()
    recordings: Mapping[str, Recording] = field(default_factory=dict)
    """Latencies by name; `first_byte` and `whole` go into the measurement."""
    extra: Mapping[str, float] = field(default_factory=dict)
