"""One connected socket that never blocks, plain or TLS, as this client moves bytes through it. Knows no HTTP.

TLS by the standard library's own sockets, not by Trio's SSLStream, which hands out one record of 16 KiB per turn of the
loop: 1.4 CPU s/GiB on a machine where this took 0.96 (docs/decisions/0011-data-plane-client.md).

Whatever goes wrong with the peer is `ChannelFailed`, so that it is told from what a payload's own source raises. One
task receives and one sends; they may be two.
"""

import select
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import trio

from storage.transfer.errors import ConnectFailed, Untrusted
from storage.transfer.origin import Origin

Resolve = Callable[[Origin], Awaitable[Sequence[str]]]
"""Gives the addresses (literal ones) to connect to, in order of preference; what it raises, but for OSError, comes out
of the request as it is. Only these are dialled, so whoever checks them here has checked what is connected to."""

T = TypeVar("T")

_RECORD_BYTES: Final = 16 * 1024
_PIECE_BYTES: Final = 64 * 1024
"""OpenSSL takes all of what it is given or nothing: pieces of this size let a slow server show progress."""

_UNSENT_BYTES: Final = 512 * 1024
"""What waits in the kernel beyond what the network takes. Trio's 16 KiB mean a wake-up for each of them; without a
bound megabytes lie there, and a slow server that takes them piece by piece looks as if nothing moved."""


class ChannelFailed(Exception):
    """The connection is no more: reset, cut off, or TLS that does not add up. `__cause__` says which."""


class Channel(Protocol):
    """See the module docstring."""

    @property
    def encrypted(self) -> bool:
        """Whether bytes are encrypted on their way, so that only memory can be sent, never a file."""
        ...

    @property
    def socket(self) -> socket.socket:
        """For options, and for what sends files; other bytes go through the channel."""
        ...

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """What is there, at most so much; nothing at the end of the server's bytes; None: it would wait.

        Raises `ChannelFailed`; over TLS also for an end without goodbye, which anybody on the way can forge.
        """
        ...

    def send_nowait(self, data: bytes | memoryview, *, more: bool = False) -> int:
        """How much of it is on its way; 0: it would wait, and then the very same data must be next to come.

        `more`: the rest follows at once, so a packet need not leave for this. Raises `ChannelFailed`.
        """
        ...

    async def wait_readable(self) -> None:
        """After `receive_nowait` gave None: until it may give more."""
        ...

    async def wait_writable(self) -> None:
        """After `send_nowait` took nothing: until it may take something."""
        ...

    def is_quiet(self) -> bool:
        """Whether an idle connection is still usable: neither data nor its end have come."""
        ...

    def close(self) -> None:
        """Close it at once, whatever is on its way; safe to call twice. Who waits gets `ChannelFailed`."""
        ...


class PlainChannel:
    """See `Channel`."""

    encrypted: Final = False

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """See `Channel`."""
        try:
            return self.socket.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelFailed from error

    def send_nowait(self, data: bytes | memoryview, *, more: bool = False) -> int:
        """See `Channel`."""
        try:
            return self.socket.send(data, socket.MSG_MORE if more else 0)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ChannelFailed from error

    async def wait_readable(self) -> None:
        """See `Channel`."""
        await _wait_readable(self.socket)

    async def wait_writable(self) -> None:
        """See `Channel`."""
        await _wait_writable(self.socket)

    def is_quiet(self) -> bool:
        """See `Channel`."""
        return _is_quiet(self.socket)

    def close(self) -> None:
        """See `Channel`."""
        _close(self.socket)


class TlsChannel:
    """See `Channel`. TLS that wants to write in order to read, or the other way round, is `ChannelFailed`.

    Only renegotiation does (TLS 1.2), which no server needs after the handshake of a client without certificate.
    """

    encrypted: Final = True

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.socket: ssl.SSLSocket = sock

    async def handshake(self) -> None:
        """Agree on keys and check the certificate; waits as long as the server does. Raises OSError."""
        while True:
            try:
                self.socket.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(self.socket)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self.socket)
            else:
                return

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """See `Channel`. As many records as are there, in one go."""
        parts: list[bytes] = []
        left = max_bytes
        try:
            while left and (part := self.socket.recv(min(left, _RECORD_BYTES))):
                parts.append(part)
                left -= len(part)
        except ssl.SSLWantReadError:
            if not parts:
                return None
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            if not parts:  # else it is met again by the next call
                raise ChannelFailed from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def send_nowait(self, data: bytes | memoryview, *, more: bool = False) -> int:  # noqa: ARG002  # a record is a packet
        """See `Channel`."""
        piece = data if len(data) <= _PIECE_BYTES else memoryview(data)[:_PIECE_BYTES]
        try:
            return self.socket.send(piece)
        except ssl.SSLWantWriteError:
            return 0
        except (OSError, ValueError) as error:
            raise ChannelFailed from error

    async def wait_readable(self) -> None:
        """See `Channel`."""
        await _wait_readable(self.socket)

    async def wait_writable(self) -> None:
        """See `Channel`."""
        await _wait_writable(self.socket)

    def is_quiet(self) -> bool:
        """See `Channel`."""
        return not self.socket.pending() and _is_quiet(self.socket)

    def close(self) -> None:
        """See `Channel`."""
        _close(self.socket)


async def connect(
    origin: Origin, tls: ssl.SSLContext | None, *, connect_s: float, resolve: Resolve | None = None
) -> Channel:
    """A new connection within `connect_s` in all, encrypted if there is a context for it.

    Without `resolve` to whatever the system says that the name means. The certificate is checked against the name in
    any case. Raises `ConnectFailed`; nothing stays open then, nor when cancelled.
    """
    try:
        with trio.fail_after(connect_s):
            sock = await _connected(origin, resolve)
            return PlainChannel(sock) if tls is None else await _encrypted(sock, origin, tls)
    except trio.TooSlowError as error:
        raise ConnectFailed(f"no connection to {origin} within {connect_s:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(f"the certificate of {origin} is not accepted: {error.verify_message}") from error
    except (OSError, UnicodeError) as error:  # UnicodeError: no host can have this name
        raise ConnectFailed(f"no connection to {origin}: {_reason(error)}") from error


def _reason(error: Exception) -> Exception:
    """Trio tells of several addresses in a group; the first one's trouble says enough."""
    causes = error.__cause__
    return causes.exceptions[0] if isinstance(causes, ExceptionGroup) else error


async def try_each(addresses: Sequence[str], connect_to: Callable[[str], Awaitable[T]]) -> T:
    """What `connect_to` gives for the first address that connects; all of them share the time that the caller has.

    Raises the last address's OSError; trio.TooSlowError for an address that had its share is one more that failed.
    """
    failure: Exception = OSError("the name has no address")
    for place, address in enumerate(addresses):
        left_s = trio.current_effective_deadline() - trio.current_time()
        try:
            with trio.fail_after(left_s / (len(addresses) - place)):
                return await connect_to(address)
        except (OSError, trio.TooSlowError) as error:
            failure = error
    raise failure


async def _connected(origin: Origin, resolve: Resolve | None) -> socket.socket:
    """By itself, all addresses of the name are tried, the next one a moment after the last (happy eyeballs)."""

    async def open_to(address: str) -> trio.SocketStream:
        return await trio.open_tcp_stream(address, origin.port)

    stream = await (open_to(origin.host) if resolve is None else try_each(await resolve(origin), open_to))
    sock = socket.socket(fileno=stream.socket.detach())
    sock.settimeout(0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    return sock


async def _encrypted(sock: socket.socket, origin: Origin, tls: ssl.SSLContext) -> TlsChannel:
    try:
        wrapped = tls.wrap_socket(
            sock, server_hostname=origin.host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
    except BaseException:
        sock.close()
        raise
    channel = TlsChannel(wrapped)
    try:
        await channel.handshake()
    except BaseException:
        channel.close()
        raise
    return channel


async def _wait_readable(sock: socket.socket) -> None:
    try:
        await trio.lowlevel.wait_readable(sock)
    except (OSError, ValueError, trio.ClosedResourceError) as error:
        raise ChannelFailed from error


async def _wait_writable(sock: socket.socket) -> None:
    try:
        await trio.lowlevel.wait_writable(sock)
    except (OSError, ValueError, trio.ClosedResourceError) as error:
        raise ChannelFailed from error


def _is_quiet(sock: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return not waiting.poll(0)


def _close(sock: socket.socket) -> None:
    if sock.fileno() != -1:
        trio.lowlevel.notify_closing(sock)
        with suppress(OSError):
            sock.close()
