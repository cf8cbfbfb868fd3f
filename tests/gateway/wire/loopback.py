"""Both ends of one TCP connection inside one event loop, and an HTTP server on one of them. Not a test."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio
from trio.testing import MockClock, open_stream_to_socket_listener

from gateway.wire.census import Census
from gateway.wire.channel import PlainChannel
from gateway.wire.connection import WireConfig, attend
from gateway.wire.exchange import Application
from gateway.wire.http1 import Service
from gateway.wire.peer import Peer
from gateway.wire.recall import Recall
from gateway.wire.settings import WireSettings

SETTINGS = WireSettings(
    header_timeout_s=10, idle_timeout_s=60, send_idle_timeout_s=30, drain_timeout_s=20, max_connections=3
)


def patient_clock() -> MockClock:
    """A clock that jumps to the next deadline when nothing happens, but gives the kernel time to deliver first."""
    return MockClock(autojump_threshold=0.01)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """The client's end and the server's end."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await open_stream_to_socket_listener(listener) as client, await listener.accept() as server:
        yield client, server


def bare(stream: trio.SocketStream) -> socket.socket:
    """The stream's socket as our accept loop gives it: without Trio around it and without its options."""
    inner = stream.socket
    sock = socket.socket(inner.family, inner.type, inner.proto, fileno=inner.detach())
    sock.settimeout(0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)
    return sock


@asynccontextmanager
async def connected_peer(*, send_idle_s: float) -> AsyncIterator[tuple[trio.SocketStream, Peer]]:
    """The client's end, and the server's view of it; both are closed at the end."""
    async with connected() as (client, server):
        peer = Peer(PlainChannel(bare(server)), send_idle_s=send_idle_s)
        try:
            yield client, peer
        finally:
            peer.channel.close()


class Gateway:
    """An application that is served on as many connections as a test opens."""

    def __init__(
        self,
        application: Application,
        nursery: trio.Nursery,
        *,
        recall: Recall | None = None,
        tls: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> None:
        self.settings = replace(SETTINGS, **settings)
        self.census = Census(self.settings.max_connections)
        self._config = WireConfig(Service(application, self.settings, self.census, recall), tls=tls)
        self._clients = 0
        self._watching = trio.CancelScope()
        self._nursery = nursery

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.SocketStream]:
        """The client's end of a new connection."""
        async with connected() as (client, server):
            self._nursery.start_soon(self._attend, server)
            if not self._clients:  # only as long as there is a client, so that the nursery can end by itself
                self._watching = trio.CancelScope()
                self._nursery.start_soon(self._watch, self._watching)
            self._clients += 1
            try:
                yield client
            finally:
                self._clients -= 1
                if not self._clients:
                    self._watching.cancel()

    async def _watch(self, scope: trio.CancelScope) -> None:
        with scope:
            await self.census.watch()

    async def _attend(self, stream: trio.SocketStream) -> None:
        await attend(self._config, {}, bare(stream), "127.0.0.1")


async def read_until_closed(client: trio.SocketStream) -> bytes:
    """All that the server still says."""
    return b"".join([part async for part in client])
