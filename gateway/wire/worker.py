"""One worker: serve an ASGI application on listening sockets until told to stop. Runs inside the caller's `trio.run`.

Hypercorn does the application's lifespan. Its accept loop stays out: it wraps each connection into a stream, for a task
in a task, which costs connections that carry one request a fifth of their CPU.
"""

import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import LifespanState
from hypercorn.utils import repr_socket_addr

from gateway.logs import get_logger
from gateway.wire.accepting import accept_from
from gateway.wire.access_log import AccessLog
from gateway.wire.census import Census
from gateway.wire.connection import WireConfig, attend, tls_context
from gateway.wire.exchange import Application
from gateway.wire.http1 import Service
from gateway.wire.recall import Recall
from gateway.wire.settings import WireSettings
from gateway.wire.threads import Threads

_log = get_logger(__name__)


async def serve(
    app: Application,
    *,
    settings: WireSettings,
    sockets: Sequence[socket.socket],
    stop: trio.Event,
    on_ready: Callable[[Sequence[str]], None] = lambda _: None,
    census: Census | None = None,
    recall: Recall | None = None,
) -> None:
    """Serve `app` until `stop` is set, then drain and return.

    `sockets` listen already (`sockets.open_listeners`) and are closed here. `on_ready` is called once with the
    addresses, such as `http://127.0.0.1:8080`, after the application's startup. `census` is for the caller's metrics.
    `recall` is asked for answers before the application is.

    After `stop` the listeners close at once, resting connections after a last call, running requests may go on for
    `drain_timeout_s`, then they are cut; the application's shutdown gets `shutdown_timeout_s`. Cancelling cuts
    everything at once. Raises what the application's startup raised, in a group.
    """
    census = census or census_for(settings)
    tls = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        tls = tls_context(str(settings.tls_certificate), str(settings.tls_key))
    async with _access_log(settings.access_log) as access_log, trio.open_nursery() as nursery:
        config = WireConfig(Service(app, settings, census, recall, access_log), tls=tls)
        nursery.start_soon(census.watch)
        nursery.start_soon(_send_home, stop, census)
        async with _application(app, config) as state, trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                attend_one = partial(attend, config, state)
                for sock in sockets:
                    accepting.start_soon(accept_from, sock, connections, attend_one)
                on_ready([_address(sock, "https" if tls else "http") for sock in sockets])
                await stop.wait()
                accepting.cancel_scope.cancel()
            connections.cancel_scope.deadline = trio.current_time() + settings.drain_timeout_s
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _application(app: Application, config: WireConfig) -> AsyncIterator[LifespanState]:
    """The application between its startup and its shutdown, and the state that it gave; raises what these raise."""
    state: LifespanState = {}
    lifespan = Lifespan(ASGIWrapper(app), config, state)
    async with trio.open_nursery() as living:
        await living.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        yield state
        await lifespan.wait_for_shutdown()
        living.cancel_scope.cancel()


def _address(sock: socket.socket, scheme: str) -> str:
    return f"{scheme}://{repr_socket_addr(sock.family, sock.getsockname())}"


@asynccontextmanager
async def _access_log(path: Path | None) -> AsyncIterator[AccessLog | None]:
    """The log, open; what was noted is in the file afterwards."""
    if path is None:
        yield None
        return
    log = AccessLog(path)
    try:
        yield log
    finally:
        with trio.CancelScope(shield=True):  # bounded by the log itself
            await Threads(1).run(log.close)


def census_for(settings: WireSettings) -> Census:
    """A census with the limits of the settings."""
    return Census(
        settings.max_connections,
        max_per_address=settings.max_connections_per_address,
        unlimited=settings.is_unlimited,
    )


@asynccontextmanager
async def stop_on_signals() -> AsyncIterator[trio.Event]:
    """An event for `serve` that SIGTERM and SIGINT set.

    Repeated signals change nothing: a terminal or a service manager signals the whole group, the supervisor included,
    which forwards; and the drain is bounded anyway.
    """
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen_for, signals, stop)
            yield stop
            nursery.cancel_scope.cancel()


async def _listen_for(signals: AsyncIterator[int], stop: trio.Event) -> None:
    async for number in signals:
        if not stop.is_set():
            stop.set()
            _log.info("worker_stopping", signal=signal.Signals(number).name)


async def _send_home(stop: trio.Event, census: Census) -> None:
    await stop.wait()
    census.last_call()
