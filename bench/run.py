"""Runs cases against contenders, interleaved, and gives measurements as they come.

Round 1 goes A, B, C, round 2 goes B, C, A: what the machine does meanwhile hits all alike. Each server runs from its
first case to its last and is stopped whatever happens. Blocking; knows nothing of reports.
"""

import datetime as dt
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from bench import loads
from bench.cases.case import Case, Outcome, suits
from bench.contenders.contender import Contender, ContenderFailed, Server, Setting, Start
from bench.jobs import Job, LoadFailed
from bench.machine import this_machine
from bench.processes import Cores, ProcessFailed, pinned, split_cores
from bench.records import Measurement, Report

_FAILURES: Final = (ContenderFailed, LoadFailed, ProcessFailed, OSError)


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
    measurement: Measurement | None = None
    """What the step gave; None for a preparation, and when the step begins."""
    note: str = ""
    """Why something was left out or failed, for the report."""


Watcher = Callable[[Step], None]


def run(plan: Plan, watch: Watcher) -> Report:
    """Run a plan; `watch` hears of every step when it begins and when it has ended.

    A contender that cannot be started or that breaks is left out of the case, and the report's notes say so;
    the run goes on. KeyboardInterrupt stops all servers and is raised; SIGTERM does the same as SystemExit.
    """
    cores = split_cores()
    started_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    with (
        tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=plan.directory) as directory,
        pinned(cores.load),  # so that we do not disturb the servers
        _ending_on_sigterm(),
    ):
        work = _Run(plan, watch, cores, Path(directory))
        try:
            work.all()
        finally:
            work.stop_all()
    return Report(started_at, this_machine(), work.versions, plan.rounds, work.measurements, work.notes)


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Leave by the ordinary way out when we are told to end, so that no server outlives us."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return

    def leave(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(slots=True)
class _Stand:
    """See `bench.cases.case.Stand`."""

    server: Server
    contender: Contender
    cores: Cores
    round: int = 0

    def drive(self, *jobs: Job) -> Outcome:
        return loads.drive(jobs, tree=self.server.processes, cores=self.cores)


@dataclass(slots=True)
class _Run:
    """The state of one run: running servers, what came so far, what went wrong."""

    plan: Plan
    watch: Watcher
    cores: Cores
    directory: Path
    stands: dict[tuple[str, Setting], _Stand] = field(default_factory=dict)
    places: dict[tuple[str, Setting], Path] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    done: int = 0
    serial: int = 0

    def all(self) -> None:
        """Every case, one after the other."""
        for number, case in enumerate(self.plan.cases):
            if case.cores > this_machine().cores:
                self.notes.append(f"{case.name} wants {case.cores} cores and is left out here")
                self.done += self._steps(case)
            else:
                self._case(case)
            wanted = {each.setting for each in self.plan.cases[number + 1 :]}
            for key in [key for key in self.stands if key[1] not in wanted]:
                self._stop(key)

    def stop_all(self) -> None:
        """Stop every server that runs."""
        for key in list(self.stands):
            self._stop(key)

    def _case(self, case: Case) -> None:
        entrants = [each for each in self.plan.contenders if suits(case, each)]
        left = [each for each in entrants if self._attempt(case, each, 0)]
        for number in range(1, self.plan.rounds + 1):
            turn = (number - 1) % max(len(entrants), 1)
            for contender in (*entrants[turn:], *entrants[:turn]):
                if contender in left and not self._attempt(case, contender, number):
                    left.remove(contender)

    def _attempt(self, case: Case, contender: Contender, number: int) -> bool:
        """Prepare (round 0) or measure, and tell the watcher; whether the contender stays in the case."""
        self._tell(case, contender, number)
        try:
            measurement = self._measure(case, contender, number) if number else None
            if not number:
                self._prepare(case, contender)
        except _FAILURES as error:
            self._stop((contender.name, case.setting))
            self.done += self.plan.rounds - number + 1
            self._tell(case, contender, number, note=f"{contender.name} is left out of {case.name}: {error}")
            return False
        self.done += 1
        if measurement is not None:
            self.measurements.append(measurement)
        self._tell(case, contender, number, measurement)
        return True

    def _prepare(self, case: Case, contender: Contender) -> None:
        if why := contender.missing():
            raise ContenderFailed(why)
        if not case.setting.fresh:
            case.prepare(self._stand(case, contender))

    def _measure(self, case: Case, contender: Contender, number: int) -> Measurement:
        if case.setting.fresh:
            stand = self._start(case, contender)
            case.prepare(stand)
        else:
            stand = self._stand(case, contender)
        stand.round = number
        try:
            outcome = case.measure(stand)
        finally:
            if case.setting.fresh:
                self._stop((contender.name, case.setting))
        for complaint in outcome.complaints:
            self._tell(case, contender, number, note=f"{contender.name} in {case.name}: {complaint}")
        return Measurement(
            case=case.name,
            contender=contender.name,
            round=number,
            unit=case.unit,
            requests=outcome.requests,
            moved_bytes=outcome.moved_bytes,
            errors=outcome.errors,
            wall_s=outcome.wall_s,
            server_cpu_s=outcome.server_cpu_s,
            client_cpu_s=outcome.client_cpu_s,
            server_rss_bytes=outcome.server_rss_bytes,
            first_byte=outcome.first_byte,
            whole=outcome.whole,
            extra=outcome.extra,
        )

    def _stand(self, case: Case, contender: Contender) -> _Stand:
        """The running server for this setting; started when there is none."""
        stand = self.stands.get((contender.name, case.setting)) or self._start(case, contender)
        stand.round = 0
        return stand

    def _start(self, case: Case, contender: Contender) -> _Stand:
        self.serial += 1
        place = self.directory / f"{contender.name}-{self.serial}"
        place.mkdir()
        server = contender.start(Start(place, self.cores, case.setting))
        self.places[contender.name, case.setting] = place
        stand = self.stands[contender.name, case.setting] = _Stand(server, contender, self.cores)
        if contender.name not in self.versions:
            self.versions[contender.name] = server.version
        return stand

    def _stop(self, key: tuple[str, Setting]) -> None:
        if (stand := self.stands.pop(key, None)) is not None:
            stand.server.stop()
        if (place := self.places.pop(key, None)) is not None:
            shutil.rmtree(place, ignore_errors=True)

    def _steps(self, case: Case) -> int:
        return sum(suits(case, each) for each in self.plan.contenders) * (self.plan.rounds + 1)

    def _tell(
        self, case: Case, contender: Contender, number: int, measurement: Measurement | None = None, *, note: str = ""
    ) -> None:
        if note and note not in self.notes:
            self.notes.append(note)
        steps = sum(map(self._steps, self.plan.cases))
        self.watch(Step(self.done, steps, case.name, contender.name, number, measurement, note))
