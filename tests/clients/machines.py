"""Where the clients' programs run: on this machine as it is installed, or inside a folder that holds another one.

A `Machine` runs programs to their end and keeps daemons, with an environment of its own: a home folder of the test
run, the distribution's programs only, no proxies. Nothing that it starts outlives the process that runs the tests,
because the kernel ends it with its parent. Knows no client.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.system_packages import SEARCH_PATH

RUN_S: Final = 100.0
"""Seconds for one call of a client; below pytest's own limit so that the test fails with the client's output."""
READY_S: Final = 60.0
STOP_S: Final = 20.0
DIE_WITH_PARENT: Final = ("setpriv", "--pdeathsig", "TERM")


@dataclass(frozen=True, slots=True)
class Done:
    """A program that has ended."""

    command: tuple[str, ...]
    code: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        """Everything it printed, first what it said on standard output."""
        return f"{self.output}\n{self.errors}".strip()

    @property
    def succeeded(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0

    def lines(self) -> list[str]:
        """The lines of standard output that hold anything."""
        return [line.strip() for line in self.output.splitlines() if line.strip()]

    def __str__(self) -> str:
        return f"{' '.join(self.command)} ended with {self.code}:\n{self.text}"


@dataclass(frozen=True, slots=True)
class Machine:
    """A place to run programs. `work` is a folder of the test run that is the same path inside; `entry` leads in."""

    work: Path
    entry: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def variables(self, further: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of a program."""
        home = self.work / "home"
        home.mkdir(exist_ok=True, mode=0o700)
        own = {"PATH": SEARCH_PATH, "HOME": str(home), "LANG": "C.UTF-8", "TMPDIR": str(self.work)}
        return {**own, **self.environment, **further}

    def attempt(
        self, *command: str | Path, given: str | None = None, environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run a program to its end, whatever the end is. `given` is its standard input, else it has none."""
        words = tuple(str(word) for word in command)
        ended = subprocess.run(
            [*self.entry, *words],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=self.work,
            env=self.variables(environment or {}),
            timeout=RUN_S,
        )
        return Done(words, ended.returncode, ended.stdout, ended.stderr)

    def run(self, *command: str | Path, given: str | None = None, environment: Mapping[str, str] | None = None) -> Done:
        """Run a program that must succeed."""
        done = self.attempt(*command, given=given, environment=environment)
        assert done.succeeded, str(done)
        return done

    @contextlib.contextmanager
    def daemon(
        self, *command: str | Path, ready: Callable[[], bool], environment: Mapping[str, str] | None = None
    ) -> Iterator[Path]:
        """Keep a program running inside the block, from when `ready` says so; gives the file of what it prints.

        Stopped by its pid: asked first, killed after `STOP_S`. Fails with its output where it never gets ready.
        """
        words = [*self.entry, *DIE_WITH_PARENT, *(str(word) for word in command)]
        log = self.work / f"{Path(command[0]).name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.work,
                env=self.variables(environment or {}),
                start_new_session=True,
            )
        try:
            wait_until(lambda: process.poll() is not None or ready(), READY_S)
            if process.poll() is not None or not ready():
                pytest.fail(f"{words} did not get ready:\n{log.read_text(errors='replace')}")
            yield log
        finally:
            _stop(process)


def wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Ask again and again until the condition holds; whether it did in time. Only for what is outside this process."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)  # another process is being waited for, with a deadline
    return condition()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # a session of its own, so this is what it started and no more
        process.wait(STOP_S)
