"""One connection of a scripted upstream: requests are read, and answers go out as whole or as broken as they are told.

Knows HTTP/1.1 and nothing of registries.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

import trio

from tests.faults.messages import Head
from tests.upstream.script import Delivery, Seen

_PIECE = 64 * 1024
_PIECES_A_SECOND = 20
_HEAD_LIMIT = 128 * 1024
Answer = Callable[[Seen], Delivery]


class Ended(Exception):
    """The connection is over."""


class Conversation:
    """The requests of one connection. `raw` is the TCP connection, `stream` that or TLS over it.

    `next_release` gives what will be set to let go on what is stalled. It is asked when an answer begins: who lets go
    need not wait until it has really come to a stop.
    """

    def __init__(
        self,
        raw: trio.SocketStream,
        stream: trio.abc.Stream,
        *,
        number: int,
        answer: Answer,
        next_release: Callable[[], trio.Event],
    ) -> None:
        self._raw, self._stream, self._number = raw, stream, number
        self._answer, self._next_release = answer, next_release
        self._release = next_release()
        self._pending = bytearray()

    async def run(self) -> None:
        """Answer until either side has had enough."""
        with contextlib.suppress(Ended, trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                seen = await self._request()
                self._release, delivery = self._next_release(), self._answer(seen)
                await self._deliver(delivery, seen)
                if delivery.claimed_bytes not in {None, -1} or "close" in (seen.header("connection") or "").lower():
                    return

    def reset(self) -> None:
        """End the connection with a reset."""
        with contextlib.suppress(OSError):
            self._raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._raw.socket.close()

    async def _request(self) -> Seen:
        while (end := self._pending.find(b"\r\n\r\n")) < 0:
            await self._receive()
        head = Head.parse(bytes(self._pending[: end + 4]))
        del self._pending[: end + 4]
        size = int(head.field("content-length") or 0)
        while len(self._pending) < size:
            await self._receive()
        body = bytes(self._pending[:size])
        del self._pending[:size]
        return Seen(self._number, head.method, head.target, head.fields, body)

    async def _receive(self) -> None:
        data = await self._stream.receive_some(_PIECE)
        if not data or len(self._pending) > _HEAD_LIMIT:
            raise Ended
        self._pending += data

    async def _deliver(self, delivery: Delivery, seen: Seen) -> None:
        await trio.sleep(delivery.wait_s)
        if delivery.stop_at is not None and delivery.stop_at < 0:
            await self._stop(delivery)
        seen.status = delivery.status
        await self._stream.send_all(_head(delivery))
        if seen.method != "HEAD" and delivery.status not in {204, 304}:
            await self._send_body(delivery, seen)
        seen.is_complete = True

    async def _send_body(self, delivery: Delivery, seen: Seen) -> None:
        is_chunked = delivery.claimed_bytes == -1
        for piece in _pieces(delivery):
            if piece is None:
                await self._stop(delivery)
                continue
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
            seen.sent_bytes += len(piece)  # first: who has read all of it finds all of it counted
            await self._stream.send_all(framed)
            if delivery.bytes_s is not None:
                await trio.sleep(len(piece) / delivery.bytes_s)
        if is_chunked:
            await self._stream.send_all(b"0\r\n\r\n")

    async def _stop(self, delivery: Delivery) -> None:
        if delivery.stop == "stall":
            await self._release.wait()
            return
        if delivery.stop == "reset":
            self.reset()
        raise Ended


def _head(delivery: Delivery) -> bytes:
    claimed = len(delivery.body) if delivery.claimed_bytes is None else delivery.claimed_bytes
    framing = ("Transfer-Encoding", "chunked") if claimed == -1 else ("Content-Length", str(claimed))
    fields = delivery.fields if delivery.status in {204, 304} else [*delivery.fields, framing]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {delivery.status} Scripted\r\n{lines}\r\n".encode("latin-1")


def _pieces(delivery: Delivery) -> Iterator[bytes | None]:
    """The body in pieces; None where it stops. A body that repeats goes on until enough has gone out."""
    piece_bytes = _PIECE
    if delivery.bytes_s is not None:
        piece_bytes = max(1, min(_PIECE, int(delivery.bytes_s / _PIECES_A_SECOND)))
    stop_at = delivery.stop_at if delivery.stop_at is not None and delivery.stop_at >= 0 else None
    sent = 0
    while delivery.body:
        for start in range(0, len(delivery.body), piece_bytes):
            piece = delivery.body[start : start + piece_bytes]
            if stop_at is not None and sent + len(piece) >= stop_at:
                first, piece, stop_at = piece[: stop_at - sent], piece[stop_at - sent :], None
                if first:
                    yield first
                sent += len(first)
                yield None
            if piece:
                yield piece
            sent += len(piece)
        if sent >= delivery.repeat_bytes:
            break
