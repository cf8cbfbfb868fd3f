"""One accepted connection, guarded: whatever happens in it ends with it. The accept loop (`accepting`) calls `attend`.

None of Hypercorn's HTTP/1.1, HTTP/2 and WebSocket code is reachable for a stranger.
"""

import math
import socket
import ssl
from contextlib import suppress
from typing import Final

import trio
from hypercorn.config import Config
from hypercorn.typing import LifespanState

from gateway.logs import get_logger
from gateway.wire.census import Guest
from gateway.wire.channel import Channel, PlainChannel, TlsChannel
from gateway.wire.exchange import AnswerCut
from gateway.wire.http1 import Http1, Service
from gateway.wire.peer import Peer, PeerGone
from gateway.wire.refusals import refusal

_TURN_AWAY_S: Final = 1.0
"""For a client's request to arrive, so that the refusal is not overtaken by a reset."""
_TURNED_AWAY_BYTES: Final = 16 * 1024

_log = get_logger(__name__)


class WireConfig(Config):
    """Hypercorn's configuration with our service in it: the one value that Hypercorn hands on to each connection."""

    def __init__(self, service: Service, *, tls: ssl.SSLContext | None = None) -> None:
        settings = service.settings
        self.service = service
        self.tls = tls
        self.graceful_timeout = settings.drain_timeout_s
        self.shutdown_timeout = settings.shutdown_timeout_s
        self.startup_timeout = math.inf  # migrations may take their time; who waits is the operator
        self.accesslog = None
        self.errorlog = None  # the gateway logs by itself


async def attend(config: WireConfig, state: LifespanState, sock: socket.socket, address: str) -> None:
    """Serve one connection, which does not block, until it ends and close it. Raises nothing but cancellation.

    `state` is the application's, as its lifespan left it.
    """
    census = config.service.census
    guest = census.admit(address)
    if guest is None:
        with census.refusing() as aloud:
            await _turn_away(sock, aloud=aloud and config.tls is None)
        return
    try:
        with guest.scope:
            await _serve_guarded(sock, config, guest, state)
    finally:
        census.leave(guest)


async def _serve_guarded(sock: socket.socket, config: WireConfig, guest: Guest, state: LifespanState) -> None:
    """Owns the socket from here on."""
    service = config.service
    try:
        channel: Channel = PlainChannel(sock) if config.tls is None else TlsChannel(sock, config.tls)
    except OSError:
        return
    peer = Peer(channel, send_idle_s=service.settings.send_idle_timeout_s)
    try:
        await _serve(peer, service, guest, state)
    except* (PeerGone, AnswerCut):
        pass  # the client left or was cut off; the application has logged what there is to say
    except* Exception as failures:  # noqa: BLE001  # it ends here, or it would end the worker
        _log.exception("connection_failed", exc_info=failures)
    finally:
        if peer.stalled:
            service.census.note_stalled()
            peer.reset()
        channel.close()


async def _serve(peer: Peer, service: Service, guest: Guest, state: LifespanState) -> None:
    if peer.channel.encrypted:
        with trio.move_on_after(service.settings.header_timeout_s) as patience:
            await peer.handshake()
        if patience.cancelled_caught:
            return
    await Http1(peer, service, guest, state=state).run()
    peer.channel.end_sending()


async def _turn_away(sock: socket.socket, *, aloud: bool) -> None:
    """Refuse who finds no room; aloud only over plain HTTP, as TLS would cost a handshake. Else it just closes."""
    try:
        if aloud:
            with trio.move_on_after(_TURN_AWAY_S), suppress(OSError):
                sock.send(refusal(503, "too many connections: retry shortly"))
                await trio.lowlevel.wait_readable(sock)
                sock.recv(_TURNED_AWAY_BYTES)
    finally:
        PlainChannel(sock).close()


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and 1.3, HTTP/1.1 only. Raises OSError (`ssl.SSLError` is one) when the files do not fit.

    Every cipher on offer is strong (AES-GCM, ChaCha20-Poly1305), so the client chooses: it knows what its processor
    does well. Clients in Go, as all that pull images are, ask for AES-128, which costs us 10 % less than AES-256.

    HTTP/2 is not offered: through Hypercorn it buffers whole downloads and costs four times the CPU of Go's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # for TLS 1.2; those of 1.3 are fixed
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    return context
