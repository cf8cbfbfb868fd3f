"""What a case is, and the stand on which it is driven. Cases know no contender by type, only by its traits.

How to write one: a frozen dataclass with the attributes of `Case`; `prepare` puts content, `measure` drives load
processes through `Stand.drive` and gives an `Outcome` (most cases return what `drive` gave). The module ends with
`def cases(scale: Scale) -> tuple[Case, ...]`, which `bench.cases.catalog` collects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from bench.contenders.contender import Contender, Server, Setting, Trait
from bench.histograms import Recording
from bench.jobs import Job
from bench.processes import Cores
from bench.records import Latencies, Unit


class Scale(StrEnum):
    """How much work a round does: `full` for figures to publish, `quick` for a smoke test of seconds per case."""

    FULL = "full"
    QUICK = "quick"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One measured interval: the fields of `bench.records.Measurement` that a case fills."""

    requests: int
    moved_bytes: int
    errors: int
    wall_s: float
    server_cpu_s: float | None
    client_cpu_s: float
    server_rss_bytes: int | None
    first_byte: Latencies | None = None
    whole: Latencies | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    recordings: Mapping[str, Recording] = field(default_factory=dict)
    """Every latency that the jobs recorded, by name, for a case that reports more of them in `extra`."""
    complaints: Sequence[str] = ()
    """The first few errors, in words."""


class Stand(Protocol):
    """A running server and the means to load it."""

    @property
    def server(self) -> Server:
        """The server under test."""

    @property
    def contender(self) -> Contender:
        """Its recipe."""

    @property
    def cores(self) -> Cores:
        """Which cores the server and the load have."""

    @property
    def round(self) -> int:
        """The round that is measured, from 1; 0 while preparing and warming up."""

    def drive(self, *jobs: Job) -> Outcome:
        """Run one load process per job, at once, and measure the server around exactly that interval.

        Processes start, prepare and warm up; then CPU is read, all get the word to go, and CPU is read again when the
        last job that is not `background` has ended. Requests, bytes, errors and latencies are of all jobs
        that are not background, client CPU is of all. Raises bench.jobs.LoadFailed when a process breaks down;
        failed requests are counted in `errors`, never raised.
        """


class Case(Protocol):
    """One kind of traffic."""

    @property
    def name(self) -> str:
        """How reports call it, lower case with hyphens, such as `blob-get-warm-8`."""

    @property
    def summary(self) -> str:
        """One sentence for a reader of the report."""

    @property
    def unit(self) -> Unit:
        """What its primary figure is per."""

    @property
    def setting(self) -> Setting:
        """How its servers are started."""

    @property
    def needs(self) -> frozenset[Trait]:
        """Traits without which a contender makes no sense here."""

    @property
    def only(self) -> frozenset[str]:
        """The names of the only contenders it is about; empty: any that has what it needs.

        A contender with Trait.MANY_CORES is taken only when it is named here, one with Trait.BUCKET or Trait.PROXY also
        when the case needs that.
        """

    @property
    def cores(self) -> int:
        """How many cores the machine must have for a figure that means something; 1 for most."""

    def prepare(self, stand: Stand) -> None:
        """Put the content; called once per server before its first round. Raises ContenderFailed."""

    def measure(self, stand: Stand) -> Outcome:
        """One round."""


def suits(case: Case, contender: Contender) -> bool:
    """Whether a contender makes sense for a case."""
    if case.only:
        return contender.name in case.only
    apart = {Trait.MANY_CORES, Trait.BUCKET, Trait.PROXY} - case.needs
    return case.needs <= contender.traits and not apart & contender.traits
