"""Scripted servers, and clients of them, that end with the test."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from storage.transfer import Client, FileSpan, Payload, Stream
from tests.storage.transfer.requests import LARGE, endless
from tests.storage.transfer.scripted import (
    Script,
    ScriptedServer,
    Serve,
    patient_clock,
    server_context,
    trusting_context,
)


@pytest.fixture
def autojump_clock() -> MockClock:
    """In place of the ready-made one: these tests wait for the kernel, too."""
    return patient_clock()


@pytest.fixture
async def serve(nursery: trio.Nursery) -> AsyncIterator[Serve]:
    """Starts servers on loopback, one script per connection; what scripts found wrong fails the test."""
    servers: list[ScriptedServer] = []

    async def start(*scripts: Script, **how: Any) -> ScriptedServer:
        servers.append(ScriptedServer(*scripts, **how))
        return await servers[-1].listen(nursery)

    yield start
    assert [failure for server in servers for failure in server.failures] == []


@pytest.fixture(params=["plain", "tls"])
async def serve_both(request: pytest.FixtureRequest, serve: Serve) -> Serve:
    """As `serve`, once over plain TCP and once over TLS."""

    async def start(*scripts: Script) -> ScriptedServer:
        return await serve(*scripts, tls=server_context() if request.param == "tls" else None)

    return start


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client that believes the servers of `serve`, with short patience."""
    made = Client(tls=trusting_context(), connections=8, idle_s=10)
    yield made
    await made.aclose()


@pytest.fixture(scope="session")
def large_file() -> Iterator[int]:
    """A file that takes several turns to send; sparse, for nobody looks at it."""
    with tempfile.TemporaryFile() as opened:
        opened.truncate(LARGE)
        yield opened.fileno()


@pytest.fixture(params=["bytes", "file", "stream"])
def large(request: pytest.FixtureRequest, large_file: int) -> Payload:
    """A payload of each kind that takes its time to send."""
    match request.param:
        case "bytes":
            return bytes(LARGE)
        case "file":
            return FileSpan(large_file, 0, LARGE)
        case _:
            return Stream(LARGE, endless())
