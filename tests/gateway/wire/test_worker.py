"""One worker: start, serve, stop. And the parts of Hypercorn that it leans on, held by their source."""

import hashlib
import inspect
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn import app_wrappers, utils
from hypercorn.trio import lifespan

from gateway.wire.sockets import open_listeners, reserve
from gateway.wire.worker import serve, stop_on_signals
from tests.gateway.wire.conftest import Served
from tests.gateway.wire.loopback import SETTINGS
from tests.gateway.wire.raw_client import Cut, eventually, lasting

LEANED_ON: dict[Callable[..., Any], str] = {
    lifespan.Lifespan: "7c58a46fd071744280113d8af1448b72347441bfe0c359a7f68e94c791db9412",
    app_wrappers.ASGIWrapper: "8670a23eb46059a3790a04b4860a137a3b92f0cdab91988e6c64761872af487c",
    utils.repr_socket_addr: "b034ae7c8345cd49a9420266786f0c5d7556495645d07439745ca8ca062e5aac",
}
"""What `worker.py` calls -> SHA-256 of its source."""


def test_hypercorn_is_the_version_that_was_read() -> None:
    """After an upgrade somebody has to read these functions again before the hashes are renewed."""
    assert version("hypercorn").startswith("0.18.")
    found = {each.__qualname__: hashlib.sha256(inspect.getsource(each).encode()).hexdigest() for each in LEANED_ON}

    assert found == {each.__qualname__: digest for each, digest in LEANED_ON.items()}


class Lifecycle:
    """An application that tells what of its life it has seen."""

    def __init__(self, *, fail: bool = False) -> None:
        self.seen: list[str] = []
        self.fail = fail

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{phase}"
                self.seen.append(phase)
                await send({"type": f"lifespan.{phase}.{'failed' if self.fail else 'complete'}", "message": "no"})
        else:
            self.seen.append(scope["path"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def listeners() -> Any:
    """Listening sockets on a free port."""
    with ExitStack() as held:
        reserved = [held.enter_context(sock) for sock in reserve("127.0.0.1:0")]
        yield [held.enter_context(sock) for sock in open_listeners(reserved, user_timeout_s=5)]


async def test_a_worker_starts_serves_and_stops(nursery: trio.Nursery, listeners: list[socket.socket]) -> None:
    """Startup, readiness with the real address, requests, listeners closed, shutdown, in this order."""
    app, stop, ready, ended = Lifecycle(), trio.Event(), trio.Event(), trio.Event()
    addresses: list[str] = []
    port = listeners[0].getsockname()[1]

    def on_ready(found: Any) -> None:
        addresses.extend(found)
        ready.set()

    async def run_and_tell() -> None:
        await serve(app, settings=SETTINGS, sockets=listeners, stop=stop, on_ready=on_ready)
        ended.set()

    nursery.start_soon(run_and_tell)
    await ready.wait()
    async with await trio.open_tcp_stream("127.0.0.1", port) as client:
        await client.send_all(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 204 ")
    stop.set()
    await ended.wait()
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)

    assert addresses == [f"http://127.0.0.1:{port}"]
    assert app.seen == ["startup", "/x", "shutdown"]


async def test_a_failing_startup_is_raised(listeners: list[socket.socket]) -> None:
    """An application that cannot start ends the worker with its reason, and nothing was served."""
    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="startup"), flatten_subgroups=True):
        await serve(Lifecycle(fail=True), settings=SETTINGS, sockets=listeners, stop=trio.Event())


async def test_signals_stop_once_and_repeat_in_vain() -> None:
    """SIGTERM sets the event; a second signal changes nothing and kills nobody."""
    async with stop_on_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        await stop.wait()
        signal.raise_signal(signal.SIGINT)
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.slow
def test_sigterm_lets_a_running_download_finish(serve: Callable[..., Served]) -> None:
    """New connections are refused at once, the running answer is completed, exit status 0."""
    served = serve(drain_timeout_s=90, send_idle_timeout_s=90)
    with served.connect() as client, served.connect() as resting:
        resting.request("GET", "/hello").answer()
        client.request("GET", f"/blob/{32 << 20}").take(1000)
        served.process.terminate()
        eventually(lambda: refuses(served.port))  # while the answer, more than all buffers hold, waits for its reader
        client.buffer = b""
        assert len(client.rest()) > 31 << 20
        assert resting.closed()

    assert served.process.wait(60) == 0


@pytest.mark.slow
def test_h13_sigterm_with_a_stalled_client_ends_in_bounded_time(serve: Callable[..., Served]) -> None:
    """H13: a reader that takes nothing and an upload that sends nothing hold the stop only until its deadline."""
    served = serve(drain_timeout_s=0.7, send_idle_timeout_s=60)
    with served.connect(receive_buffer=4096) as stalled, served.connect() as silent:
        stalled.request("GET", f"/blob/{64 << 20}")
        silent.request("PUT", "/sink?idle=60", "Content-Length: 5")
        eventually(lambda: served.state()["open"] == 3)
        with lasting(at_least_s=0.4, at_most_s=30):
            served.process.terminate()
            assert served.process.wait(30) == 0
        with pytest.raises(Cut):
            stalled.answer()


@pytest.mark.slow
def test_sigterm_without_work_is_quick(serve: Callable[..., Served]) -> None:
    """Resting connections do not hold the stop."""
    served = serve(idle_timeout_s=90, drain_timeout_s=90)
    clients = [served.connect() for _ in range(20)]
    for client in clients:
        client.request("GET", "/hello").answer()
    served.process.send_signal(signal.SIGINT)
    with lasting(at_most_s=30):
        assert served.process.wait(30) == 0
    assert all(client.closed() for client in clients)


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


async def test_tls_settings_make_tls_listeners(listeners: list[socket.socket], tmp_path: Path) -> None:
    """A certificate that cannot be read is an error at the start, not a silent fall back to plain HTTP."""
    missing = replace(SETTINGS, tls_certificate=tmp_path / "none", tls_key=tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        await serve(Lifecycle(), settings=missing, sockets=listeners, stop=trio.Event())
