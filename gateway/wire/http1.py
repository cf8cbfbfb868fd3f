"""HTTP/1.1 on one connection: read a head, have it answered, then the next; close when either side wants to.

Sequential by design: one task per connection (and one for the handler of the moment); a request that was sent early
(pipelining) waits in `Peer.unread`. The fast path of a later version takes over here, between the raw head and the
exchange.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import h11
import trio

from gateway.wire.census import Census
from gateway.wire.exchange import Application, Exchange, scope_of
from gateway.wire.framing import Framing, framing_of
from gateway.wire.heads import find_end, judge
from gateway.wire.peer import Peer
from gateway.wire.refusals import Refused, refusal
from gateway.wire.settings import WireSettings

_HEAD_READ_BYTES: Final = 16 * 1024
"""Most heads are below 2 KiB; what comes with them is the start of a body."""


@dataclass(frozen=True, slots=True)
class Service:
    """What every connection of a worker shares."""

    application: Application
    settings: WireSettings
    census: Census
    server_headers: Callable[[], Iterable[tuple[bytes, bytes]]]
    """Fields that the server adds to every answer, such as the date."""


class Http1:
    """See the module docstring. Made per connection, run once; its caller closes the connection."""

    def __init__(self, peer: Peer, service: Service, *, state: dict[str, Any]) -> None:
        self._peer = peer
        self._service = service
        self._settings = service.settings
        self._state = state
        self._addresses = peer.addresses()
        self._served = 0

    async def run(self) -> None:
        """Serve until the client leaves, rests too long, asks to close, or breaks the rules.

        Raises `PeerGone` and `AnswerCut`, which both just end the connection.
        """
        try:
            while await self._serve_next():
                self._served += 1
        except Refused as refused:
            await self._refuse(refused)

    async def _serve_next(self) -> bool:
        """One request and its answer; False when the connection is to be closed."""
        raw = await self._next_head()
        if raw is None:
            return False
        head = judge(raw, max_fields=self._settings.header_count)
        parser, request = _parse(raw)
        self._peer.unread = self._peer.unread[len(raw) :]
        framing = framing_of(head.body_bytes)
        exchange = Exchange(
            self._peer,
            head,
            framing,
            parser=parser,
            server_headers=self._service.server_headers(),
            must_close=self._must_close,
        )
        scope = scope_of(
            head,
            list(request.headers),
            scheme=self._peer.scheme,
            addresses=self._addresses,
            state=self._state.copy(),
        )
        reusable = await exchange.run(self._service.application, scope)
        return await self._settle(exchange, framing, reusable=reusable)

    async def _settle(self, exchange: Exchange, framing: Framing, *, reusable: bool) -> bool:
        """After the answer: take what is left of the body, within bounds; True when the connection goes on."""
        max_bytes, max_s = self._settings.early_answer_bytes, self._settings.early_answer_s
        if reusable:
            return framing.done or await exchange.drain(max_bytes=max_bytes, max_s=max_s)
        if not framing.done or self._peer.unread:
            await self._peer.linger(max_bytes=max_bytes, max_s=max_s)
        return False

    async def _next_head(self) -> bytes | None:
        """The next raw head with its empty line, left in `unread`; None when the client has nothing more to ask."""
        if not self._peer.unread and not await self._rest():
            return None
        with trio.move_on_after(self._settings.header_timeout_s):
            searched = 0
            while True:
                if self._peer.unread.startswith(b"\r\n"):  # a mistake of old clients, to be forgiven (RFC 9112, 2.2)
                    self._peer.unread, searched = self._peer.unread[2:], 0
                if self._peer.unread:
                    end = find_end(self._peer.unread, searched=searched, limit=self._settings.header_bytes)
                    if end is not None:
                        return self._peer.unread[:end]
                searched = len(self._peer.unread)
                if not await self._peer.fill(_HEAD_READ_BYTES):
                    return None  # it left in the middle of a sentence
        raise Refused(f"the request's head took longer than {self._settings.header_timeout_s} s", status=408)

    async def _rest(self) -> bool:
        """Wait for the first byte of a request; False when none comes in time or the client leaves."""
        patience_s = self._settings.idle_timeout_s if self._served else self._settings.header_timeout_s
        with self._service.census.resting(patience_s):
            await self._peer.fill(_HEAD_READ_BYTES)
        return bool(self._peer.unread)

    def _must_close(self, framing: Framing) -> bool:
        too_much = framing.known_left is not None and framing.known_left > self._settings.early_answer_bytes
        return too_much or self._service.census.closing

    async def _refuse(self, refused: Refused) -> None:
        without_body = self._peer.unread.startswith(b"HEAD ")
        await self._peer.send(refusal(refused.status, refused.message, without_body=without_body))
        await self._peer.linger(max_bytes=self._settings.early_answer_bytes, max_s=self._settings.early_answer_s)


def _parse(raw: bytes) -> tuple[h11.Connection, h11.Request]:
    """The head as h11 reads it, and the parser that will write its answer: new each time, so no state is carried on."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw))
    parser.receive_data(raw)
    try:
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused("the request's head is malformed") from error
    if not isinstance(request, h11.Request):
        raise Refused("the request's head is malformed")
    return parser, request
