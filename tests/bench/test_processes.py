"""Servers as process trees: pinned, measured with all their children, and stopped whatever they do."""

import os
import sys
from pathlib import Path

import pytest

from bench.processes import ProcessFailed, ProcessTree, pinned, split_cores, start

pytestmark = pytest.mark.slow


def python(directory: Path, text: str, *, cores: frozenset[int] = frozenset()) -> ProcessTree:
    """A Python process that runs this text and says `ready` when it has come to its end."""
    return start([sys.executable, "-u", "-c", text], log=directory / "log", cores=cores)


WAIT = "import signal; print('ready'); signal.pause()"
BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def wait_ready(tree: ProcessTree) -> None:
    """Until the process says so."""
    tree.wait_until(lambda: "ready" in tree.log_tail())


def test_cpu_of_the_living_and_of_the_ended_counts(tmp_path: Path) -> None:
    """A tree's CPU holds its root, a child that runs and a child that has ended and was waited for."""
    child = f"import subprocess, sys; run = [sys.executable, '-c', {BURN!r}]; subprocess.run(run); "
    living = f"subprocess.Popen([sys.executable, '-c', {BURN + WAIT!r}]); "
    tree = python(tmp_path, child + living + "import signal; signal.pause()")
    try:
        wait_ready(tree)
        assert len(tree.pids()) == 2
        assert 0.6 <= tree.cpu_s() < 2
        assert tree.rss_bytes() > 1 << 20
    finally:
        tree.stop()
    assert tree.pids() == []


def test_a_process_keeps_to_its_cores(tmp_path: Path) -> None:
    """A started program may only use the cores it was given, and we may use ours again."""
    mine = os.sched_getaffinity(0)
    core = frozenset({min(mine)})
    tree = python(tmp_path, WAIT, cores=core)
    try:
        wait_ready(tree)
        assert os.sched_getaffinity(tree.pid) == core
        assert os.sched_getaffinity(0) == mine
    finally:
        tree.stop()


def test_pinning_to_no_core_changes_nothing() -> None:
    """On a machine with one core nobody is pinned."""
    mine = os.sched_getaffinity(0)
    with pinned(frozenset()):
        assert os.sched_getaffinity(0) == mine


def test_who_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    """Stopping ends the whole tree within the deadline, also one that does not want to."""
    deaf = "import subprocess, sys, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    child = f"subprocess.Popen([sys.executable, '-c', {WAIT!r}])\n"
    tree = python(tmp_path, f"{deaf}{child}while True: signal.pause()")
    wait_ready(tree)
    pids = tree.pids()
    assert len(pids) == 2
    tree.stop(deadline_s=0.3)
    assert not any(running(pid) for pid in pids)
    tree.stop()  # does nothing


def running(pid: int) -> bool:
    """Whether a process runs; one that is dead and only not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_program_that_ends_early_says_why(tmp_path: Path) -> None:
    """Waiting for a server that has given up raises with the end of what it printed."""
    tree = python(tmp_path, "raise SystemExit('no such thing')")
    with pytest.raises(ProcessFailed, match="no such thing"):
        tree.wait_until(lambda: False)


def test_waiting_has_an_end(tmp_path: Path) -> None:
    """A server that never answers is given up after the deadline; errors of the question count as no."""

    def ask() -> bool:
        raise ConnectionRefusedError

    tree = python(tmp_path, WAIT)
    try:
        with pytest.raises(ProcessFailed, match="did not answer"):
            tree.wait_until(ask, deadline_s=0.2)
    finally:
        tree.stop()


def test_cores_are_split() -> None:
    """The load has the last core for itself as long as there is one; a single core is left unpinned."""
    assert split_cores(available=frozenset({3})) == split_cores(available=frozenset())
    assert not split_cores(available=frozenset({3})).server
    two = split_cores(available=frozenset({0, 1}))
    assert (two.server, two.load) == (frozenset({0}), frozenset({1}))
    many = split_cores(server_cores=2, available=frozenset(range(8)))
    assert (many.server, many.load) == (frozenset({0, 1}), frozenset({7}))
