"""TLS on both ends of a connection inside one event loop. Not a test."""

import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import trio
import trustme

from gateway.wire.channel import TlsChannel
from gateway.wire.connection import tls_context
from gateway.wire.peer import Peer
from tests.gateway.wire.loopback import bare, connected

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
Stream = trio.SSLStream[trio.SocketStream]


@dataclass(frozen=True)
class Contexts:
    """The server's own, and a client's that trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext

    def stream(self, client: trio.SocketStream) -> Stream:
        """The client's side of TLS, which tells a proper end from a cut."""
        return trio.SSLStream(client, self.client, server_hostname="localhost")


def contexts(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Contexts:
    """The gateway's own context with a certificate for localhost; the client speaks just this version."""
    authority, certificate = _issued()
    client = ssl.create_default_context()
    authority.configure_trust(client)
    client.minimum_version = client.maximum_version = version
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder, "both.pem")
        certificate.private_key_and_cert_chain_pem.write_to_path(both)
        return Contexts(tls_context(str(both), str(both)), client)


@cache
def _issued() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert("localhost")


@asynccontextmanager
async def connected_encrypted(
    tls: Contexts | None = None, *, send_idle_s: float = 60
) -> AsyncIterator[tuple[Stream, Peer]]:
    """The client's end after the handshake, and the server's view of it; both are closed at the end."""
    tls = tls or contexts()
    async with connected() as (client, server):
        stream = tls.stream(client)
        peer = Peer(TlsChannel(bare(server), tls.server), send_idle_s=send_idle_s)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.do_handshake)
                nursery.start_soon(peer.handshake)
            yield stream, peer
        finally:
            peer.channel.close()


async def read(stream: Stream, size_bytes: int) -> bytes:
    """Exactly so many bytes."""
    parts = bytearray()
    while len(parts) < size_bytes:
        part = await stream.receive_some(min(1 << 18, size_bytes - len(parts)))
        assert part, f"the answer ended after {len(parts)} bytes"
        parts += part
    return bytes(parts)
