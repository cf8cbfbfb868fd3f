"""The runner: rounds are interleaved, servers shared and stopped, and what breaks is told and left out."""

import os
import signal
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from bench.cases.blob_get import put_warm, warm_shots
from bench.cases.case import Case, Outcome, Stand
from bench.cases.traffic import Repeated
from bench.contenders.contender import ContenderFailed, Server, Setting, Start, Trait
from bench.contenders.nginx import Nginx
from bench.content import MIB, Layer
from bench.records import Unit
from bench.run import Plan, Step, run

pytestmark = pytest.mark.slow

LAYER = Layer("run", MIB)
SMALL = Repeated(
    "small",
    "A small blob, for a moment",
    Unit.GIB,
    connections=2,
    seconds=0.02,
    put=partial(put_warm, layer=LAYER),
    shots=partial(warm_shots, layer=LAYER),
)
A, B, C = Nginx("a"), Nginx("b"), Nginx("c")


@pytest.fixture(autouse=True)
def nginx() -> None:
    """Nothing works without it here."""
    if why := A.missing():
        pytest.skip(why)


@dataclass(frozen=True)
class Unwilling:
    """A contender that does not start."""

    name: str = "unwilling"
    traits: frozenset[Trait] = frozenset()

    def missing(self) -> str | None:
        """Its program is there."""
        return None

    def start(self, how: Start) -> Server:
        """But it says no."""
        raise ContenderFailed(f"out of order in {how.directory.name}")


@dataclass(frozen=True)
class Killing:
    """A case that kills the server of one contender in its second round."""

    victim: str
    name: str = "killing"
    summary: str = ""
    unit: Unit = Unit.GIB
    setting: Setting = field(default_factory=Setting)
    needs: frozenset[Trait] = frozenset()
    only: frozenset[str] = frozenset()
    cores: int = 1
    pids: list[int] = field(default_factory=list)

    def prepare(self, stand: Stand) -> None:
        """As ever."""
        SMALL.prepare(stand)
        assert stand.server.processes is not None
        self.pids.extend(stand.server.processes.pids())

    def measure(self, stand: Stand) -> Outcome:
        """With an accident."""
        if stand.contender.name == self.victim and stand.round == 2:
            assert stand.server.processes is not None
            stand.server.processes.stop()
        return SMALL.measure(stand)


def test_rounds_are_interleaved_and_counted(tmp_path: Path) -> None:
    """Each round begins with another contender, steps add up, and all that servers wrote is gone afterwards."""
    steps: list[Step] = []
    report = run(Plan([SMALL], [A, B, C], 3, tmp_path), steps.append)
    order = [(each.round, each.contender) for each in report.measurements]
    assert order == [(1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c"), (2, "a"), (3, "c"), (3, "a"), (3, "b")]
    assert all(each.errors == 0 and each.requests > 0 for each in report.measurements)
    assert not report.notes
    assert set(report.contenders) == {"a", "b", "c"}
    assert report.rounds == 3
    ended = [step for step in steps if step.measurement is not None]
    assert [step.measurement for step in ended] == list(report.measurements)
    assert [step.done for step in ended] == list(range(4, 13))
    assert {step.of for step in steps} == {12}
    assert list(tmp_path.iterdir()) == []


def test_a_contender_that_does_not_start_is_left_out(tmp_path: Path) -> None:
    """The others are measured, and a note says why one is missing."""
    steps: list[Step] = []
    report = run(Plan([SMALL], [Unwilling(), A], 2, tmp_path), steps.append)
    assert [each.contender for each in report.measurements] == ["a", "a"]
    assert len(report.notes) == 1
    assert "out of order" in report.notes[0]
    assert steps[-1].done == steps[-1].of == 6


def test_a_server_that_dies_is_left_out_of_the_case_only(tmp_path: Path) -> None:
    """What it gave before stays, the next case starts it anew, and no process outlives the run."""
    case = Killing("a")
    report = run(Plan([case, SMALL], [A, B], 2, tmp_path), lambda _: None)
    given = [(each.case, each.contender) for each in report.measurements]
    assert given.count(("killing", "a")) == 1
    assert given.count(("killing", "b")) == 2
    assert given.count(("small", "a")) == given.count(("small", "b")) == 2
    assert any("a is left out of killing" in note for note in report.notes)
    assert not any(Path(f"/proc/{pid}").exists() for pid in case.pids)


def test_fresh_servers_share_nothing(tmp_path: Path) -> None:
    """A case that wants fresh servers gets a new one in each round; others share one."""
    shared, fresh = Killing(""), Killing("", setting=Setting(fresh=True))
    run(Plan([shared], [A], 2, tmp_path), lambda _: None)
    run(Plan([fresh], [A], 2, tmp_path), lambda _: None)
    assert len(fresh.pids) == 2 * len(shared.pids)
    assert len(set(fresh.pids)) == len(fresh.pids)


def test_a_case_for_more_cores_is_left_out(tmp_path: Path) -> None:
    """On a machine that is too small a case is skipped with a note, not measured wrongly."""
    wide: Case = replace(SMALL, name="wide", cores=100_000)
    report = run(Plan([wide, SMALL], [A], 1, tmp_path), lambda _: None)
    assert [each.case for each in report.measurements] == ["small"]
    assert "wide wants 100000 cores" in report.notes[0]


def test_sigterm_stops_the_servers(tmp_path: Path) -> None:
    """Being told to end in the middle of a run leaves no server and no directory behind, and signals as before."""
    case = Killing("")
    before = signal.getsignal(signal.SIGTERM)

    def end(step: Step) -> None:
        if step.measurement is not None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        run(Plan([case], [A, B], 3, tmp_path), end)
    assert len(case.pids) >= 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in case.pids)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before
