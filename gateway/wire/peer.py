"""The other end of one connection: bytes in, bytes out, each with a bound on waiting. Knows no HTTP.

Nothing here is shielded: cancelling a send breaks the connection for good (a part of the bytes may be out), which is
what its owner wants when it cancels. Used by one task at a time.
"""

import socket
import struct
from contextlib import suppress
from typing import Final, NoReturn

import trio

from gateway.wire.channel import Buffer, Channel, PlainChannel
from gateway.wire.encrypted_sending import send_encrypted, send_small_nowait
from gateway.wire.file_sending import SendingThreads, read_short_nowait, send_file, send_turn_nowait
from gateway.wire.patience import PROGRESS_BYTES, Patience
from gateway.wire.recall import FileSpan

_RESET: Final = struct.pack("ii", 1, 0)


class PeerGone(ConnectionError):
    """The peer left, or was dropped; nothing more can be sent. ASGI lets `send` raise an OSError for this."""


class PeerStalled(PeerGone):
    """The peer took less than `PROGRESS_BYTES` in the allowed time."""


class Peer:
    """See the module docstring. Whoever accepted the channel closes it."""

    __slots__ = ("_broken", "_send_idle_s", "channel", "stalled", "unread")

    def __init__(self, channel: Channel, *, send_idle_s: float) -> None:
        self.channel = channel
        self._send_idle_s = send_idle_s
        self._broken = False
        self.stalled = False
        """Whether the peer was given up because it did not read."""
        self.unread = b""
        """What was received and not yet consumed; whoever consumes takes it off the front."""

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "https" if self.channel.encrypted else "http"

    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Host and port of the peer and of our end; raises `PeerGone` when it left before we looked."""
        try:
            client, server = self.channel.socket.getpeername(), self.channel.socket.getsockname()
        except OSError as error:
            raise PeerGone("the client left before its first request") from error
        return (client[0], client[1]), (server[0], server[1])

    async def handshake(self) -> None:
        """Agree on TLS where the port has it; raises `PeerGone`."""
        try:
            await self.channel.handshake()
        except (OSError, trio.ClosedResourceError) as error:
            raise PeerGone("the TLS handshake failed") from error

    def fill_nowait(self, max_bytes: int) -> bool | None:
        """Put what is there, up to `max_bytes`, behind `unread`; None when there is nothing yet. Else as `fill`."""
        try:
            received = self.channel.recv_nowait(max_bytes)
        except OSError as error:
            raise PeerGone("the client reset the connection") from error
        if received is None:
            return None
        self.unread = self.unread + received if self.unread else received
        return bool(received)

    async def fill(self, max_bytes: int) -> bool:
        """Wait for more bytes and put up to `max_bytes` behind `unread`; False when the peer sends no more.

        A peer that ended its sending side (half-close) may still want its answer. Raises `PeerGone` on a reset.
        """
        while (filled := self.fill_nowait(max_bytes)) is None:
            await self.wait_readable()
        return filled

    async def wait_readable(self) -> None:
        """Until there may be bytes, or an end; raises `PeerGone`."""
        try:
            await self.channel.wait_readable()
        except (OSError, trio.ClosedResourceError) as error:
            raise PeerGone("the connection was closed") from error

    async def send(self, data: Buffer, *, more: bool = False) -> None:
        """Send all of it; raises `PeerStalled` when the reader takes too little, `PeerGone` when there is none.

        After an exception, a cancellation included, the connection is broken and every later send raises `PeerGone`.
        `more`: what follows comes at once (see `Channel.send_nowait`).
        """
        self._begin()
        try:
            sent = self.channel.send_nowait(data, more=more)  # most answers leave with this call
            if sent < len(data):
                await self._send_rest(memoryview(data)[sent:])
        except PeerGone:
            raise
        except (OSError, trio.ClosedResourceError) as error:
            raise PeerGone("the client left while it was answered") from error
        self._broken = False

    async def send_file(self, span: FileSpan, *, threads: SendingThreads) -> None:
        """Send a span of a file; reading it from the disk takes a thread. Raises as `send`, and `FileTooShort`."""
        self._begin()
        try:
            sent = self._send_file_nowait(span)  # a short span leaves without a clock being set
            if sent < span.stop - span.start:
                await self._send_rest_of_file(span._replace(start=span.start + sent), threads)
        except PeerGone:
            raise
        except (OSError, trio.ClosedResourceError) as error:
            raise PeerGone("the client left while it was answered") from error
        self._broken = False

    async def send_with_file(self, begin: bytes, span: FileSpan, *, threads: SendingThreads) -> None:
        """Send `begin` and a span of a file behind it, together where they are short. Raises as `send_file`."""
        short = read_short_nowait(span)
        if short is None:
            await self.send(begin, more=span.stop > span.start)
            await self.send_file(span, threads=threads)
            return
        self._begin()
        try:
            sent = self.channel.send_both_nowait(begin, short)
            if sent < len(begin) + len(short):
                await self._send_rest(memoryview(b"".join((begin, short)))[sent:])
        except PeerGone:
            raise
        except (OSError, trio.ClosedResourceError) as error:
            raise PeerGone("the client left while it was answered") from error
        self._broken = False

    def _begin(self) -> None:
        """Until all is out, the connection counts as broken."""
        if self._broken:
            raise PeerGone("the connection is broken")
        self._broken = True

    async def linger(self, *, max_bytes: int, max_s: float) -> None:
        """End our side and throw away what still comes, within bounds, so that the peer reads our last answer.

        Closing while bytes are unread makes the kernel send a reset, which can overtake the answer (H19).
        """
        self.unread = b""
        self.channel.end_sending()
        with trio.move_on_after(max_s), suppress(PeerGone):
            thrown = 0
            while thrown < max_bytes and await self.fill(PROGRESS_BYTES):
                thrown += len(self.unread)
                self.unread = b""

    def reset(self) -> None:
        """Make the coming close a reset: the peer cannot take what it has for complete, the kernel keeps nothing."""
        with suppress(OSError):
            self.channel.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def _send_rest(self, view: memoryview) -> None:
        with Patience(self._send_idle_s) as patience:
            while view:
                sent = self.channel.send_nowait(view)
                if not sent:
                    await self.channel.wait_writable()
                view = view[sent:]
                patience.moved(sent)
        if patience.over:
            self._stall()

    def _send_file_nowait(self, span: FileSpan) -> int:
        """Send what leaves at once; how many bytes that were."""
        if span.stop <= span.start:
            return 0
        if isinstance(self.channel, PlainChannel):
            return send_turn_nowait(self.channel, span)
        return send_small_nowait(self.channel, span)

    async def _send_rest_of_file(self, span: FileSpan, threads: SendingThreads) -> None:
        with Patience(self._send_idle_s) as patience:
            if isinstance(self.channel, PlainChannel):
                await send_file(self.channel, span, patience=patience, threads=threads)
            else:
                await send_encrypted(self.channel, span, patience=patience, threads=threads)
        if patience.over:
            self._stall()

    def _stall(self) -> NoReturn:
        self.stalled = True
        raise PeerStalled(f"the client took less than {PROGRESS_BYTES} bytes in {self._send_idle_s} s")
