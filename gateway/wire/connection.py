"""One accepted connection, guarded: whatever happens in it ends with it. Hypercorn's worker calls `attend`.

It stands in for Hypercorn's `TCPServer` (the name in `hypercorn.trio.run`, see `worker.py`), so none of Hypercorn's
HTTP/1.1, HTTP/2 and WebSocket code is reachable for a stranger.
"""

import math
from contextlib import suppress
from typing import Final

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, LifespanState

from gateway.logs import get_logger
from gateway.wire.exchange import AnswerCut
from gateway.wire.http1 import Http1, Service
from gateway.wire.peer import Peer, PeerGone
from gateway.wire.refusals import refusal

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_TURN_AWAY_S: Final = 1.0
"""To write 200 bytes into an empty socket buffer; more only where the peer plays games."""

_log = get_logger(__name__)


class WireConfig(Config):
    """Hypercorn's configuration with our service in it: the one value that Hypercorn hands on to each connection."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self.service = service
        self.certfile = str(settings.tls_certificate) if settings.tls_certificate else None
        self.keyfile = str(settings.tls_key) if settings.tls_key else None
        self.alpn_protocols = ["http/1.1"]  # HTTP/2 through Hypercorn buffers whole downloads (H5 to H9, H14, H15)
        self.graceful_timeout = settings.drain_timeout_s
        self.shutdown_timeout = settings.shutdown_timeout_s
        self.startup_timeout = math.inf  # migrations may take their time; who waits is the operator
        self.include_server_header = False
        self.accesslog = None
        self.errorlog = None  # the gateway logs by itself


async def attend(
    app: AppWrapper,  # noqa: ARG001  # the service has the application without Hypercorn's wrapping
    config: WireConfig,
    context: WorkerContext,  # noqa: ARG001  # the census knows when to stop
    state: LifespanState,
    stream: Stream,
) -> None:
    """Serve one connection until it ends and close it. Raises nothing but cancellation."""
    service = config.service
    if not service.census.admit():
        await _turn_away(stream)
        return
    peer = Peer(stream, send_idle_s=service.settings.send_idle_timeout_s)
    try:
        await _serve(peer, service, dict(state))
    except* (PeerGone, AnswerCut):
        pass  # the client left or was cut off; the application has logged what there is to say
    except* Exception as failures:  # noqa: BLE001  # it ends here, or it would end the worker
        _log.exception("connection_failed", exc_info=failures)
    finally:
        service.census.leave()
        if peer.stalled:
            service.census.note_stalled()
            peer.reset()
        await trio.aclose_forcefully(stream)


async def _serve(peer: Peer, service: Service, state: LifespanState) -> None:
    with trio.move_on_after(service.settings.header_timeout_s) as patience:
        await peer.handshake()
    if not patience.cancelled_caught:
        await Http1(peer, service, state=state).run()


async def _turn_away(stream: Stream) -> None:
    """Refuse aloud when the worker is full. Over TLS that would cost a handshake, so there it just closes."""
    with trio.move_on_after(_TURN_AWAY_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        if isinstance(stream, trio.SocketStream):
            await stream.send_all(refusal(503, "too many connections: retry shortly"))
    await trio.aclose_forcefully(stream)
