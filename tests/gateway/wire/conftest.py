"""Fixtures that start the served test application as a real process."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
import structlog
from trio.testing import MockClock

from tests.gateway.wire.loopback import patient_clock
from tests.gateway.wire.raw_client import Answer, RawClient

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What this process logs, for tests that look at it; nothing is printed."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def autojump_clock() -> MockClock:
    """In place of the ready-made one: these tests wait for the kernel, too."""
    return patient_clock()


@dataclass
class Served:
    """A running server: where it listens, its process, and what it wrote to standard error."""

    port: int
    process: subprocess.Popen[str]
    log: Path
    clients: list[RawClient] = field(default_factory=list)

    def connect(self, **how: Any) -> RawClient:
        """A new connection; closed with the server at the latest."""
        self.clients.append(RawClient(self.port, **how))
        return self.clients[-1]

    def disconnect(self) -> None:
        """Close every connection that a test has left open."""
        for client in self.clients:
            client.sock.close()

    def get(self, path: str) -> Answer:
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.request("GET", path, "Connection: close").answer()

    def state(self) -> dict[str, Any]:
        """What the process tells about itself."""
        state: dict[str, Any] = self.get("/state").json()
        return state

    def is_well(self) -> bool:
        """Whether the same process still serves others."""
        return self.process.poll() is None and self.get("/hello").body == b"hello"


@contextmanager
def running(log: Path, **options: Any) -> Iterator[Served]:
    """A server with these settings; stopped (or killed) at the end."""
    command = [sys.executable, "-m", "tests.gateway.wire.served", json.dumps(options)]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
    try:
        with ExitStack() as stack, _reading(process) as output:
            words = output.readline().split()
            assert words[:1] == ["READY"], log.read_text()
            server = Served(int(words[1].rpartition(":")[2]), process, log)
            stack.callback(server.disconnect)
            yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _reading(process: subprocess.Popen[str]) -> Iterator[IO[str]]:
    assert process.stdout is not None
    with process.stdout as output:
        yield output


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests that leave it as it was."""
    with running(tmp_path_factory.mktemp("wire") / "log") as server:
        yield server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start servers with settings of their own; all are stopped at the end of the test."""
    with ExitStack() as stack:
        count = iter(range(100))
        yield lambda **options: stack.enter_context(running(tmp_path / f"log{next(count)}", **options))
