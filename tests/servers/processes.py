"""Server processes of the tests: started in the foreground, ended by the kernel with the tests, killed by their pid.

Knows no server. Everything blocks; nothing here is for use inside a Trio run.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.system_packages import SEARCH_PATH

READY_S: Final = 60.0
STOP_S: Final = 20.0
_TAIL: Final = 4_000


@dataclass(slots=True)
class Process:
    """A running server and the file that holds what it prints."""

    command: Sequence[str]
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def wait_ready(self, ready: Callable[[], bool]) -> None:
        """Return when `ready` says so; fail with what the server printed where it ends or takes over `READY_S`."""
        wait_until(lambda: not self.is_running or ready(), READY_S)
        if not self.is_running or not ready():
            raise AssertionError(f"{' '.join(self.command)} did not get ready:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines that it printed."""
        return self.log.read_text(errors="replace")[-_TAIL:]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and all its descendants, the oldest first."""
        for pid in (self.pid, *descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End it as kill -9 does, with all its descendants. May be called again."""
        if not self.is_running:
            return
        self.signal(signal.SIGKILL)
        self.popen.wait(STOP_S)


def start(
    command: Sequence[str | Path],
    log: Path,
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a server in the foreground, as `user` where one is named (root only), with a small environment.

    `KILL` reaches it when the thread that called this ends: nothing outlives the tests, however they end.
    """
    words = [str(word) for word in command]
    identity = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    with log.open("ab") as output:
        popen = subprocess.Popen(
            ["setpriv", *identity, "--pdeathsig", "KILL", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C", **(environment or {})},
            start_new_session=True,
        )
    return Process(words, log, popen)


def run(command: Sequence[str | Path], *, user: str | None = None, timeout_s: float = 60.0) -> str:
    """Run a program to its end and give what it printed; fail with its errors where it does not end with 0."""
    ended = subprocess.run(
        [str(word) for word in command],
        user=user,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",
        env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
        timeout=timeout_s,
        check=False,
    )
    assert ended.returncode == 0, f"{command} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def descendants(pid: int) -> list[int]:
    """The processes below this one, parents before their children; none where it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Ask again and again until the condition holds; whether it did in time. Only for what is outside this process."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)  # another process is being waited for, with a deadline
    return condition()
