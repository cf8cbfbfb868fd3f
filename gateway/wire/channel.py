"""One connected socket that never blocks, plain or TLS, as the rest of the server moves bytes through it.

Everything that ends in `_nowait` may be called on the event loop and in a worker thread; at most one of the two sends,
and one receives. Waiting on the loop is `wait_...`, in a thread `poll_...`. Errors of the socket come out as OSError
(`ssl.SSLError` is one). Knows no HTTP.

TLS by the standard library's own sockets, not by Trio's SSLStream: that one copies every byte through two memory
buffers, and cost 1.8 to 2.0 CPU s/GiB on a machine where this took 1.1 to 1.3 (docs/decisions/0009-wire.md).
"""

import select
import socket
import ssl
import threading
from contextlib import suppress
from typing import Final, Protocol

import trio

Buffer = bytes | bytearray | memoryview
_MS: Final = 1000
PIECE_BYTES: Final = 64 * 1024
"""OpenSSL takes all of what it is given or nothing: pieces of this size let a slow reader show progress, and cost 0.03
CPU s/GiB more than larger ones."""


class Channel(Protocol):
    """See the module docstring. Closed by whoever accepted it."""

    @property
    def encrypted(self) -> bool:
        """Whether bytes are encrypted on their way, so that only memory can be sent, never a file."""
        ...

    @property
    def socket(self) -> socket.socket:
        """For socket options and addresses; bytes go through the channel."""
        ...

    async def handshake(self) -> None:
        """Agree on encryption where there is any; call it first. OSError when that fails."""
        ...

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """What is there, at most so much; nothing at the end of the peer's bytes; None: it would wait."""
        ...

    def recv_into_nowait(self, buffer: bytearray | memoryview) -> int | None:
        """As `recv_nowait`, into a buffer of at least one byte; 0 at the end."""
        ...

    def send_nowait(self, data: Buffer, *, more: bool = False) -> int:
        """How much of it is on its way; 0: it would wait, and then the very same data must be next to come.

        `more`: the rest of the message follows at once, so a packet need not leave for this.
        """
        ...

    def send_both_nowait(self, first: Buffer, second: Buffer) -> int:
        """As `send_nowait` for two buffers that leave together; after 0 the same two, joined, must come next."""
        ...

    async def wait_readable(self) -> None:
        """Until `recv...` may have something, or fails."""
        ...

    async def wait_writable(self) -> None:
        """Until `send_nowait` may take something, or fails."""
        ...

    def poll_readable(self, timeout_s: float) -> bool:
        """In a thread: as `wait_readable`; False when the time is over."""
        ...

    def poll_writable(self, timeout_s: float) -> bool:
        """In a thread: as `wait_writable`; False when the time is over."""
        ...

    def end_sending(self) -> None:
        """Tell the peer, as far as that goes without waiting, that no more comes."""
        ...

    def close(self) -> None:
        """Close it; safe to call twice."""
        ...


class PlainChannel:
    """See `Channel`."""

    encrypted: Final = False

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    async def handshake(self) -> None:
        """Nothing to agree on."""

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """See `Channel`."""
        try:
            return self.socket.recv(max_bytes)
        except BlockingIOError:
            return None

    def recv_into_nowait(self, buffer: bytearray | memoryview) -> int | None:
        """See `Channel`."""
        try:
            return self.socket.recv_into(buffer)
        except BlockingIOError:
            return None

    def send_nowait(self, data: Buffer, *, more: bool = False) -> int:
        """See `Channel`."""
        try:
            return self.socket.send(data, socket.MSG_MORE if more else 0)
        except BlockingIOError:
            return 0

    def send_both_nowait(self, first: Buffer, second: Buffer) -> int:
        """See `Channel`."""
        try:
            return self.socket.sendmsg((first, second))
        except BlockingIOError:
            return 0

    async def wait_readable(self) -> None:
        """See `Channel`."""
        await trio.lowlevel.wait_readable(self.socket)

    async def wait_writable(self) -> None:
        """See `Channel`."""
        await trio.lowlevel.wait_writable(self.socket)

    def poll_readable(self, timeout_s: float) -> bool:
        """See `Channel`."""
        return _poll(self.socket, select.POLLIN, timeout_s)

    def poll_writable(self, timeout_s: float) -> bool:
        """See `Channel`."""
        return _poll(self.socket, select.POLLOUT, timeout_s)

    def end_sending(self) -> None:
        """See `Channel`."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `Channel`."""
        _close(self.socket)


class TlsChannel:
    """See `Channel`. What TLS itself has to send or hear (a new key) is waited for wherever it turns up.

    OpenSSL's state of a connection is not for two threads at once, and while a thread sends a file the loop may look
    whether the client has left: so each call of OpenSSL is made under a lock, which is held for one piece at most.
    """

    encrypted: Final = True

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Takes over `sock`, which must not block, and closes it if it is no longer connected (OSError)."""
        self.socket: ssl.SSLSocket
        try:
            self.socket = context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
            )
        except OSError:
            sock.close()
            raise
        self._one_at_a_time = threading.Lock()
        self._recv_needs = select.POLLIN
        self._send_needs = select.POLLOUT

    async def handshake(self) -> None:
        """Agree on keys; waits as long as the peer does."""
        while True:
            try:
                self.socket.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(self.socket)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self.socket)
            else:
                return

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """See `Channel`. Gives one TLS record at most: 16 KiB."""
        try:
            with self._one_at_a_time:
                return self.socket.recv(max_bytes)
        except ssl.SSLWantReadError:
            self._recv_needs = select.POLLIN
        except ssl.SSLWantWriteError:
            self._recv_needs = select.POLLOUT
        return None

    def recv_into_nowait(self, buffer: bytearray | memoryview) -> int | None:
        """See `Channel`. Gives one TLS record at most: 16 KiB."""
        try:
            with self._one_at_a_time:
                return self.socket.recv_into(buffer)
        except ssl.SSLWantReadError:
            self._recv_needs = select.POLLIN
        except ssl.SSLWantWriteError:
            self._recv_needs = select.POLLOUT
        return None

    def send_nowait(self, data: Buffer, *, more: bool = False) -> int:  # noqa: ARG002  # a record is a packet
        """See `Channel`."""
        piece = data if len(data) <= PIECE_BYTES else memoryview(data)[:PIECE_BYTES]
        try:
            with self._one_at_a_time:
                return self.socket.send(piece)
        except ssl.SSLWantWriteError:
            self._send_needs = select.POLLOUT
        except ssl.SSLWantReadError:
            self._send_needs = select.POLLIN
        return 0

    def send_both_nowait(self, first: Buffer, second: Buffer) -> int:
        """See `Channel`. One record takes both where it can."""
        return self.send_nowait(b"".join((first, second)))

    async def wait_readable(self) -> None:
        """See `Channel`. Returns at once while decrypted bytes wait."""
        if not self._pending():
            await self._wait(self._recv_needs)

    async def wait_writable(self) -> None:
        """See `Channel`."""
        await self._wait(self._send_needs)

    def poll_readable(self, timeout_s: float) -> bool:
        """See `Channel`."""
        return self._pending() or _poll(self.socket, self._recv_needs, timeout_s)

    def poll_writable(self, timeout_s: float) -> bool:
        """See `Channel`."""
        return _poll(self.socket, self._send_needs, timeout_s)

    def end_sending(self) -> None:
        """See `Channel`: TLS's own goodbye, so that the peer knows that nothing was cut off."""
        with suppress(OSError, ValueError), self._one_at_a_time:
            self.socket.unwrap()  # it wants to hear the peer's goodbye, too: not our business

    def close(self) -> None:
        """See `Channel`."""
        _close(self.socket)

    def _pending(self) -> bool:
        """Whether decrypted bytes wait."""
        with self._one_at_a_time:
            return self.socket.pending() > 0

    async def _wait(self, event: int) -> None:
        wait = trio.lowlevel.wait_readable if event == select.POLLIN else trio.lowlevel.wait_writable
        await wait(self.socket)


def _poll(sock: socket.socket, event: int, timeout_s: float) -> bool:
    waiting = select.poll()
    waiting.register(sock, event)
    return bool(waiting.poll(timeout_s * _MS))


def _close(sock: socket.socket) -> None:
    if sock.fileno() != -1:
        trio.lowlevel.notify_closing(sock)
        sock.close()
