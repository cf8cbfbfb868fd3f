"""What a benchmark gives: measurements, and the report that holds them. Pure values with a JSON form.

One `Measurement` is one case driven against one contender in one round. The primary figure is the server's CPU time
(user + system, children included) per unit of work: it repeats on a busy machine where wall times do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Unit(StrEnum):
    """What a case counts its work in, and so what its primary figure is per."""

    GIB = "GiB"
    """Server CPU seconds per GiB moved."""
    KILO_REQUESTS = "1,000 requests"
    """Server CPU seconds per 1,000 answered requests."""
    CONNECTIONS = "connection"
    """Resident bytes of the server per connection."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Quantiles of one latency in milliseconds, free of coordinated omission: from the intended start of each act."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One case, one contender, one round. Times in seconds, sizes in bytes."""

    case: str
    contender: str
    round: int
    unit: Unit
    requests: int
    moved_bytes: int
    errors: int
    wall_s: float
    server_cpu_s: float | None
    """None when the server is not ours to look at (a URL)."""
    client_cpu_s: float
    server_rss_bytes: int | None
    """Sum over the server's processes (proportional set size where the kernel tells it) at the busiest look."""
    first_byte: Latencies | None = None
    whole: Latencies | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    """What only this case knows, named with its unit, such as `manifest_p99_ms` or `rss_bytes_per_connection`."""


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio that a case has to reach: figure of `contender` over figure of `peer`, or an absolute bound."""

    case: str
    contender: str
    figure: str
    """`cpu` (primary figure), `wall`, or a key of `Measurement.extra`."""
    peer: str | None
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured: what a reader needs to judge the figures, and nothing that names a person or place."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the suite."""

    started_at: str
    """UTC, ISO 8601."""
    machine: Machine
    contenders: Mapping[str, str]
    """Contender -> its version."""
    rounds: int
    measurements: Sequence[Measurement]
    notes: Sequence[str] = ()
    """What was left out or went wrong, and how it was run."""
    cases: Mapping[str, str] = field(default_factory=dict)
    """Case -> what it does, in a sentence."""
