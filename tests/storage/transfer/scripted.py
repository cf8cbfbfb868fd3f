"""A server that says on each connection exactly what a test has written down, on loopback, plain or TLS. Not a test."""

import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import trio
import trustme
from trio.testing import MockClock

from storage.transfer import Origin

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"


def patient_clock() -> MockClock:
    """A clock that jumps to the next deadline when nothing happens, but gives the kernel time to deliver first."""
    return MockClock(autojump_threshold=0.03)


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes

    def field(self, name: str) -> str | None:
        """The one field of this name, in lower case."""
        values = [value for each, value in self.fields if each == name]
        assert len(values) < 2, f"{name} came twice"
        return values[0] if values else None


@dataclass
class Peer:
    """The server's end of one connection."""

    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    raw: trio.SocketStream
    unread: bytearray = field(default_factory=bytearray)

    async def asked(self) -> Asked:
        """The next request, whole."""
        line, fields = await self.head()
        size = int(next((value for name, value in fields if name == "content-length"), "0"))
        while len(self.unread) < size:
            await self._more()
        body = bytes(self.unread[:size])
        del self.unread[:size]
        return Asked(line, fields, body)

    async def head(self) -> tuple[str, list[tuple[str, str]]]:
        """The next request's head; its body is left where it is."""
        while b"\r\n\r\n" not in self.unread:
            await self._more()
        head, _, rest = bytes(self.unread).partition(b"\r\n\r\n")
        self.unread[:] = rest
        line, *lines = head.decode("latin-1").split("\r\n")
        pairs = [each.partition(": ") for each in lines]
        return line, [(name.lower(), value) for name, _, value in pairs]

    async def _more(self) -> None:
        part = await self.stream.receive_some(1 << 16)
        if not part:
            raise trio.BrokenResourceError("the client has left")
        self.unread += part

    async def say(self, *parts: bytes) -> None:
        """Send the parts, each in a packet of its own."""
        for part in parts:
            await self.stream.send_all(part)
            await trio.lowlevel.checkpoint()

    async def until_closed(self) -> int:
        """Read until the client closes its end; how many bytes came."""
        size = len(self.unread)
        with suppress(trio.BrokenResourceError):
            while part := await self.stream.receive_some(1 << 16):
                size += len(part)
        return size

    async def cut(self) -> None:
        """End the TCP connection as a lost one ends: without TLS's goodbye."""
        await self.raw.aclose()

    def reset(self) -> None:
        """End it with RST."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.socket.close()


Script = Callable[[Peer], Awaitable[None]]


class ScriptedServer:
    """The n-th connection is served by the n-th script, and by the last one when there are more."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._changed = trio.Condition()
        self.origin = Origin("http", "127.0.0.1", 0)
        self.accepted = 0
        self.open = 0
        self.failures: list[Exception] = []

    async def listen(self, nursery: trio.Nursery) -> "ScriptedServer":
        """Serve until the nursery is cancelled."""
        listeners = await nursery.start(trio.serve_tcp, self._attend, 0)
        port = listeners[0].socket.getsockname()[1]
        self.origin = Origin("https" if self._tls else "http", "127.0.0.1", port)  # a name is looked up in a thread
        return self

    async def wait_until_open(self, count: int) -> None:
        """Until so many connections are open."""
        async with self._changed:
            while self.open != count:
                await self._changed.wait()

    async def _attend(self, raw: trio.SocketStream) -> None:
        script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
        self.accepted += 1
        await self._count(1)
        try:
            stream = trio.SSLStream(raw, self._tls, server_side=True) if self._tls else raw
            await script(Peer(stream, raw))
            with trio.move_on_after(1):
                await stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has left: many scripts end so
        except AssertionError as error:
            self.failures.append(error)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(raw)
                await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.open += change
            self._changed.notify_all()


Serve = Callable[..., Awaitable[ScriptedServer]]
"""Starts a server: a script for each connection, and `tls`."""


def saying(*parts: bytes) -> Script:
    """Answer each request with these bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.asked()
            await peer.say(*parts)

    return script


def saying_once(*parts: bytes) -> Script:
    """Answer one request with these bytes and close."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(*parts)

    return script


def falling_silent(*parts: bytes) -> Script:
    """Answer one request with these bytes and then say nothing until the client closes."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(*parts)
        await peer.until_closed()

    return script


@cache
def _authority() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert("localhost", "127.0.0.1")


def server_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A server named localhost and 127.0.0.1 that speaks just this version."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _authority()[1].configure_cert(context)
    context.minimum_version = context.maximum_version = version
    return context


def trusting_context() -> ssl.SSLContext:
    """A client that believes that server."""
    context = ssl.create_default_context()
    _authority()[0].configure_trust(context)
    return context
