"""One connection and the exchanges on it, one after the other: send a request, hear its answer. Knows no pool.

Both directions are watched at once, because servers refuse before they have read a body:

    small request    -> sent whole, then the answer is waited for
    other payloads   -> one task sends, one listens
        the answer comes first   -> sending stops; the answer counts, and the connection is not used again;
                                    but 2xx is Broken: what was not sent was not kept (it answers another request)
        sending fails            -> the answer that may lie before the end is read, and counts
        the connection ends      -> Broken
        nothing moves for idle_s -> Stalled
"""

from dataclasses import dataclass, field
from typing import Final

import trio

from storage.transfer.channel import Channel, ChannelFailed
from storage.transfer.errors import Broken, Stalled
from storage.transfer.framing import framing_of
from storage.transfer.heads import Head, find_end, judge
from storage.transfer.payload import FileSpan, Payload, size_of
from storage.transfer.response import Response
from storage.transfer.sending import Patience, Sending

_HEAD_PIECE_BYTES: Final = 64 * 1024
_SMALL_BYTES: Final = 64 * 1024
"""Payloads up to this size leave with the head."""
_FIRST_REDIRECT: Final = 300
_MAX_INTERIM: Final = 32
"""Answers 1xx before the real one; a guess, servers send one."""


@dataclass(frozen=True, slots=True)
class Request:
    """`head` is complete; `payload` has as many bytes as it says. `name` (method and origin) is for messages."""

    method: str
    head: bytes
    payload: Payload
    name: str


@dataclass(slots=True)
class _Duplex:
    """What came of sending and listening at the same time."""

    sending: Sending
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around the sending."""
    head: Head | None = None
    heard: Exception | None = None
    """Why there is no head."""
    source_error: Exception | None = None


class Connection:
    """Takes over the channel. `opened_for` names the origin, for messages."""

    def __init__(self, channel: Channel, *, idle_s: float) -> None:
        self._channel = channel
        self._idle_s = idle_s
        self._unread = b""
        self.has_heard = False
        """Whether a byte of the current answer has come."""

    async def exchange(self, request: Request) -> Response:
        """Send the request and give its answer, whose body is received as it is read.

        Raises `Broken`, `Stalled`, `PayloadMismatch`, and what a stream's source raises; the connection is closed
        then, as it is when cancelled.
        """
        self.has_heard = False
        patience = Patience(self._idle_s)
        try:
            with patience.scope:
                head, sent_all = await self._exchange(request, patience)
                framing = framing_of(head)
                unread, self._unread = self._unread, b""
                return Response(head, framing, unread, self, reusable=head.keeps and sent_all)
        except ChannelFailed as error:
            self.close()
            raise Broken(f"{request.name}: the connection broke: {error.__cause__}") from error
        except BaseException:
            self.close()
            raise
        self.close()
        raise Stalled(f"{request.name}: nothing moved for {self._idle_s:g} s")

    async def receive(self, max_bytes: int) -> bytes:
        """Bytes of a body, 1 to `max_bytes`; none at the end of the connection. Raises `Broken`, `Stalled`.

        Cancelled, nothing is lost: the next call gives it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            received = self._channel.receive_nowait(max_bytes)
            if received is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()  # others have their turn, and nothing is lost
                return received
            while received is None:
                with trio.move_on_after(self._idle_s) as scope:
                    await self._channel.wait_readable()
                if scope.cancelled_caught:
                    raise Stalled(f"no byte of the body came for {self._idle_s:g} s")
                received = self._channel.receive_nowait(max_bytes)
        except ChannelFailed as error:
            raise Broken(f"the connection broke within the body: {error.__cause__}") from error
        return received

    def is_usable(self) -> bool:
        """Whether an idle connection can serve again, as far as can be seen from here."""
        return self._channel.is_quiet()

    def close(self) -> None:
        """Close it at once; safe to call twice."""
        self._channel.close()

    async def _exchange(self, request: Request, patience: Patience) -> tuple[Head, bool]:
        """The answer's head, and whether all was sent before it."""
        payload, start = request.payload, request.head
        if isinstance(payload, bytes) and len(payload) <= _SMALL_BYTES:
            start, payload = start + payload, b""
        follows_at_once = isinstance(payload, FileSpan) and payload.start < payload.stop
        sent = self._channel.send_nowait(start, more=follows_at_once)
        if sent == len(start) and payload == b"":
            return await self._receive_head(request.method, patience), True
        return await self._send_and_listen(request.method, memoryview(start)[sent:], payload, patience)

    async def _send_and_listen(
        self, method: str, start: memoryview, payload: Payload, patience: Patience
    ) -> tuple[Head, bool]:
        sending = Sending(self._channel, patience, size_bytes=len(start) + size_of(payload))
        both = _Duplex(sending)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, method, patience, both)
            with both.scope:
                try:
                    await sending.send_bytes(start)
                    await sending.send(payload)
                except ChannelFailed:
                    pass  # the listener finds the answer that lies before the end, or the end
                except Exception as error:  # noqa: BLE001  # raised again below, outside of the nursery's group
                    both.source_error = error
                    nursery.cancel_scope.cancel()
        if both.source_error is not None:
            raise both.source_error
        if both.head is None:
            raise both.heard or Broken("the connection ended")
        if sending.left_bytes and both.head.status < _FIRST_REDIRECT:
            raise Broken(f"the server answers {both.head.status} before it was sent everything")
        return both.head, not sending.left_bytes

    async def _listen(self, method: str, patience: Patience, both: _Duplex) -> None:
        """Ends the sending, unless all is sent and only the source has yet to end."""
        try:
            both.head = await self._receive_head(method, patience)
        except (Broken, ChannelFailed) as error:
            both.heard = error
        if both.head is None or both.sending.left_bytes:
            both.scope.cancel()

    async def _receive_head(self, method: str, patience: Patience) -> Head:
        for _ in range(_MAX_INTERIM + 1):
            head = judge(await self._receive_raw_head(patience), method)
            if not head.interim:
                return head
        raise Broken(f"more than {_MAX_INTERIM} interim answers")

    async def _receive_raw_head(self, patience: Patience) -> bytes:
        """From its first byte on, a head must be complete within the idle time: it is one chunk."""
        searched = 0
        while not self._unread or (end := find_end(self._unread, searched=searched)) is None:
            searched = len(self._unread)
            while (received := self._channel.receive_nowait(_HEAD_PIECE_BYTES)) is None:
                await self._channel.wait_readable()
            if not received:
                raise Broken("the connection ended before the answer" if not searched else "the answer's head was cut")
            if not searched:
                self.has_heard = True
                patience.moved()
            self._unread += received
        head, self._unread = self._unread[:end], self._unread[end:]
        return head
