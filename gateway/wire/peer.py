"""The other end of one connection: bytes in, bytes out, each with a bound on waiting. Knows no HTTP.

Nothing here is shielded: cancelling a send breaks the connection for good (a part of the bytes may be out), which is
what its owner wants when it cancels. Used by one task at a time in each direction.
"""

import socket
import struct
from contextlib import suppress
from typing import Final

import trio

PROGRESS_BYTES: Final = 64 * 1024
"""What a reader must take per idle time. The kernel's buffers count as taken, so the first megabytes are quick."""
_RESET: Final = struct.pack("ii", 1, 0)


class PeerGone(ConnectionError):
    """The peer left, or was dropped; nothing more can be sent. ASGI lets `send` raise an OSError for this."""


class PeerStalled(PeerGone):
    """The peer took less than `PROGRESS_BYTES` in the allowed time."""


class Peer:
    """See the module docstring. Whoever accepted the stream closes it."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], *, send_idle_s: float) -> None:
        self._stream = stream
        self._encrypted = isinstance(stream, trio.SSLStream)
        self._socket = (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket
        self._send_idle_s = send_idle_s
        self._broken = False
        self.stalled = False
        """Whether the peer was given up because it did not read."""
        self.unread = b""
        """What was received and not yet consumed; whoever consumes takes it off the front."""

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "https" if self._encrypted else "http"

    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Host and port of the peer and of our end; raises `PeerGone` when it left before we looked."""
        try:
            client, server = self._socket.getpeername(), self._socket.getsockname()
        except OSError as error:
            raise PeerGone("the client left before its first request") from error
        return (client[0], client[1]), (server[0], server[1])

    async def handshake(self) -> None:
        """Agree on TLS where the port has it; raises `PeerGone`."""
        if isinstance(self._stream, trio.SSLStream):
            try:
                await self._stream.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise PeerGone("the TLS handshake failed") from error

    async def fill(self, max_bytes: int) -> bool:
        """Wait for more bytes and put up to `max_bytes` behind `unread`; False when the peer sends no more.

        A peer that ended its sending side (half-close) may still want its answer. Raises `PeerGone` on a reset.
        """
        try:
            received = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerGone("the client reset the connection") from error
        self.unread = self.unread + received if self.unread else bytes(received)
        return bool(received)

    async def send(self, data: bytes) -> None:
        """Send all of it; raises `PeerStalled` when the reader takes too little, `PeerGone` when there is none.

        After an exception, a cancellation included, the connection is broken and every later send raises `PeerGone`.
        """
        if self._broken:
            raise PeerGone("the connection is broken")
        self._broken = True  # until all is out
        taken = 0
        view = memoryview(data)
        with trio.move_on_after(self._send_idle_s) as patience:
            while view:
                sent = await self._send_some(view)
                view = view[sent:]
                taken += sent
                if taken >= PROGRESS_BYTES:
                    taken = 0
                    patience.deadline = trio.current_time() + self._send_idle_s
            self._broken = False
        if self._broken:
            self.stalled = True
            raise PeerStalled(f"the client took less than {PROGRESS_BYTES} bytes in {self._send_idle_s} s")

    async def linger(self, *, max_bytes: int, max_s: float) -> None:
        """End our side and throw away what still comes, within bounds, so that the peer reads our last answer.

        Closing while bytes are unread makes the kernel send a reset, which can overtake the answer (H19).
        """
        self.unread = b""
        with trio.move_on_after(max_s), suppress(PeerGone, trio.BrokenResourceError, trio.ClosedResourceError):
            if isinstance(self._stream, trio.SocketStream):
                await self._stream.send_eof()
            thrown = 0
            while thrown < max_bytes and await self.fill(PROGRESS_BYTES):
                thrown += len(self.unread)
                self.unread = b""

    def reset(self) -> None:
        """Make the coming close a reset: the peer cannot take what it has for complete, the kernel keeps nothing."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def _send_some(self, view: memoryview) -> int:
        try:
            if isinstance(self._stream, trio.SSLStream):
                part = view[:PROGRESS_BYTES]
                await self._stream.send_all(part)
                return len(part)
            return await self._socket.send(view)  # as much as the kernel takes: one call for most answers
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerGone("the client left while it was answered") from error
