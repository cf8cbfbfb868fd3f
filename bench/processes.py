"""Servers as process trees: started on cores of their own, measured whole, stopped by pid. Linux; blocking.

CPU is user + system time of a process and all its descendants, the ended ones included, to the nanosecond for
the living (POSIX CPU clocks) and to the clock tick for the ended.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOG_TAIL_BYTES = 4000


class ProcessFailed(Exception):
    """A process ended early or did not come up; the message holds the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores a server and its load may use; empty: wherever the kernel likes."""

    server: frozenset[int]
    load: frozenset[int]


def split_cores(*, server_cores: int = 1, available: frozenset[int] | None = None) -> Cores:
    """The last core for the load, the first ones for the server; nobody is pinned where there is only one core.

    Where a server wants more cores than are free beside the load, it gets them all and shares the last.
    """
    mine = sorted(os.sched_getaffinity(0) if available is None else available)
    if len(mine) < 2:
        return Cores(frozenset(), frozenset())
    return Cores(frozenset(mine[:server_cores]), frozenset(mine[-1:]))


@dataclass(slots=True)
class ProcessTree:
    """A process that we started, and its descendants."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The root's."""
        return self.process.pid

    def pids(self) -> list[int]:
        """Everyone alive, the root first; empty once the root has ended."""
        return list(self._members())

    def cpu_s(self) -> float:
        """User + system seconds of the whole tree since it started."""
        return sum(_cpu_s(pid) for pid in self._members())

    def rss_bytes(self) -> int:
        """Resident memory of the whole tree: proportional set size, or RSS where the kernel does not tell."""
        return sum(_memory_bytes(pid) for pid in self._members())

    def log_tail(self) -> str:
        """The end of what it printed."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")

    def wait_until(self, ready: Callable[[], bool], *, deadline_s: float = 30.0) -> None:
        """Poll until `ready` (an OSError counts as no). Raises ProcessFailed when it ends or takes too long."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise ProcessFailed(f"ended with status {self.process.returncode}:\n{self.log_tail()}")
            with contextlib.suppress(OSError):
                if ready():
                    return
            time.sleep(0.02)
        raise ProcessFailed(f"did not answer within {deadline_s:g} s:\n{self.log_tail()}")

    def stop(self, *, deadline_s: float = 20.0) -> None:
        """SIGTERM, and SIGKILL for all that is left after the deadline. Does nothing when it has ended."""
        members = self._members_as_psutil()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(deadline_s)
        for each in members:
            with contextlib.suppress(psutil.Error):
                each.kill()  # psutil compares start times: a pid that is somebody else's by now is left alone
        self.process.wait(deadline_s)
        psutil.wait_procs(members, timeout=deadline_s)

    def kill(self, *, deadline_s: float = 20.0) -> None:
        """SIGKILL for all of it at once. Does nothing when it has ended."""
        members = self._members_as_psutil()
        for each in members:
            with contextlib.suppress(psutil.Error):
                each.kill()
        self.process.wait(deadline_s)
        psutil.wait_procs(members, timeout=deadline_s)

    def _members(self) -> Iterator[int]:
        for each in self._members_as_psutil():
            yield each.pid

    def _members_as_psutil(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def start(
    command: Sequence[str | Path],
    *,
    log: Path,
    cores: frozenset[int] = frozenset(),
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> ProcessTree:
    """Start a program pinned to `cores` (its children inherit that), its output in `log`, nothing on its input.

    `environment` replaces ours when given, `directory` is where it works. The caller stops it.
    """
    words = [str(word) for word in command]
    with log.open("ab") as output, pinned(cores):
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=directory
        )
    return ProcessTree(process, log)


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Keep this thread, and all that it starts meanwhile, to these cores only; empty: nothing changes."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_s(pid: int) -> float:
    try:
        own = time.clock_gettime((~pid << 3) | 2)  # how Linux names the CPU clock of a process: clock_getcpuclockid(3)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # ended meanwhile; its parent reports it from now on
    return own + (int(fields[13]) + int(fields[14])) / _TICKS_PER_S  # cutime, cstime: proc(5)


def _memory_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0
