"""A payload on its way out, in turns, so that others are served between them. Knows no HTTP.

Files leave plain channels by sendfile, without a copy, and encrypted ones through a buffer.
"""

import os
from math import inf
from typing import Final

import trio

from storage.transfer.channel import Channel, ChannelFailed
from storage.transfer.errors import PayloadMismatch
from storage.transfer.payload import FileSpan, Payload, Stream

TURN_BYTES: Final = 1024 * 1024
"""Given to the kernel until everybody had a turn: some 0.3 ms."""
_BUFFER_BYTES: Final = 256 * 1024
"""Of a file that is encrypted on its way."""


class Patience:
    """A scope that ends when the server has not moved for `idle_s` seconds. Enter `scope` once; ask it afterwards."""

    __slots__ = ("_idle_s", "_rests", "scope")

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._rests = False
        self.scope = trio.CancelScope(deadline=trio.current_time() + idle_s)

    def moved(self) -> None:
        """Something went on its way, or came: the time begins anew."""
        if not self._rests:
            self.scope.deadline = trio.current_time() + self._idle_s

    def rest(self) -> None:
        """Not the server is waited for: no time runs until `resume`."""
        self._rests = True
        self.scope.deadline = inf

    def resume(self) -> None:
        """The server is waited for again."""
        self._rests = False
        self.moved()


class Sending:
    """How to send, and how far that is: through what, and whom to tell that something moved."""

    __slots__ = ("_channel", "_patience", "left_bytes")

    def __init__(self, channel: Channel, patience: Patience, *, size_bytes: int) -> None:
        self._channel = channel
        self._patience = patience
        self.left_bytes = size_bytes
        """What the kernel has not been given yet."""

    async def send(self, payload: Payload) -> None:
        """Send all of it. Raises `ChannelFailed`, `PayloadMismatch`, and what a stream's source raises.

        Failed or cancelled, some of it may be out.
        """
        match payload:
            case bytes():
                await self.send_bytes(payload)
            case FileSpan():
                await (self._copy_file(payload) if self._channel.encrypted else self._send_file(payload))
            case Stream():
                await self._send_stream(payload)

    async def send_bytes(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            sent = self._channel.send_nowait(view[:TURN_BYTES])
            view = view[sent:]
            await self._pause(sent, full=sent == 0)

    async def _send_file(self, span: FileSpan) -> None:
        out, place = self._channel.socket, span.start
        while place < span.stop:
            count = min(TURN_BYTES, span.stop - place)
            sent = _sendfile(out.fileno(), span.descriptor, place, count)
            if sent == 0:
                raise _too_short(span)
            place += max(sent, 0)
            await self._pause(max(sent, 0), full=sent < count and place < span.stop)

    async def _copy_file(self, span: FileSpan) -> None:
        place = span.start
        buffer = memoryview(bytearray(min(_BUFFER_BYTES, span.stop - span.start)))
        while place < span.stop:
            count = os.preadv(span.descriptor, [buffer[: span.stop - place]], place)
            if not count:
                raise _too_short(span)
            await self.send_bytes(buffer[:count])
            place += count

    async def _send_stream(self, stream: Stream) -> None:
        left = stream.size_bytes
        self._patience.rest()
        async for chunk in stream.chunks:
            left -= len(chunk)
            if left < 0:
                raise PayloadMismatch(f"the stream is longer than the {stream.size_bytes} bytes that it promised")
            self._patience.resume()
            await self.send_bytes(chunk)
            self._patience.rest()
        self._patience.resume()
        if left:
            raise PayloadMismatch(f"the stream ended {left} bytes before the {stream.size_bytes} that it promised")

    async def _pause(self, sent: int, *, full: bool) -> None:
        """Let others run, and where the socket is full wait for it."""
        if sent:
            self.left_bytes -= sent
            self._patience.moved()
        if full:
            await self._channel.wait_writable()
        else:
            await trio.lowlevel.checkpoint()


def _sendfile(out: int, descriptor: int, place: int, count: int) -> int:
    """How much is on its way; 0 at the end of the file, -1: it would wait."""
    try:
        return os.sendfile(out, descriptor, place, count)
    except BlockingIOError:
        return -1
    except OSError as error:
        raise ChannelFailed from error


def _too_short(span: FileSpan) -> PayloadMismatch:
    return PayloadMismatch(f"the file is shorter than {span.stop} bytes, which were promised")
