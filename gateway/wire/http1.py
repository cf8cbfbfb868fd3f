"""HTTP/1.1 on one connection: read a head, have it answered, then the next; close when either side wants to.

Sequential by design: one task per connection (and one for the handler of the moment); a request that was sent early
(pipelining) waits in `Peer.unread`. Whoever remembers answers (`recall`) is asked before the application.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from gateway.wire.absorption import BodyThreads
from gateway.wire.access_log import AccessLog
from gateway.wire.answers import CLOSE, END, date_line
from gateway.wire.census import Census, Guest
from gateway.wire.exchange import AnswerCut, Application, Exchange, scope_of
from gateway.wire.file_sending import FileTooShort, SendingThreads
from gateway.wire.framing import Framing, framing_of
from gateway.wire.heads import Head, find_end, judge
from gateway.wire.peer import Peer
from gateway.wire.recall import Asked, FileSpan, Recall, Recalled
from gateway.wire.refusals import Refused, refusal
from gateway.wire.settings import WireSettings

_HEAD_READ_BYTES: Final = 16 * 1024
"""Most heads are below 2 KiB; what comes with them is the start of a body."""
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n){1,8}")
"""Before a request: a mistake of old clients, to be forgiven (RFC 9112, 2.2). More of them are no mistake."""
_AHEAD_BYTES: Final = 64 * 1024
"""What a client may send ahead of the answer: requests, behind a body whose end only its framing tells. With more it is
closed, or clients that do not read would have half a megabyte each here."""
_RECALLED_METHODS: Final = frozenset({b"GET", b"HEAD"})
_IN_A_ROW: Final = 8
"""Requests that a connection may have answered without giving way to others: below half a millisecond."""


@dataclass(frozen=True, slots=True)
class Service:
    """What every connection of a worker shares."""

    application: Application
    settings: WireSettings
    census: Census
    recall: Recall | None = None
    access_log: AccessLog | None = None
    threads: SendingThreads = field(default_factory=SendingThreads)
    """For bytes that would make the loop wait: files on disk, encryption."""
    bodies: BodyThreads = field(default_factory=BodyThreads)
    """For the bodies of uploads."""


class Http1:
    """See the module docstring. Made per connection, run once; its caller closes the connection."""

    __slots__ = ("_addresses", "_guest", "_peer", "_row", "_served", "_service", "_settings", "_state")

    def __init__(self, peer: Peer, service: Service, guest: Guest, *, state: dict[str, Any]) -> None:
        """`state` is the application's, as its lifespan left it; each request gets a copy."""
        self._peer = peer
        self._service = service
        self._guest = guest
        self._settings = service.settings
        self._state = state
        self._addresses = peer.addresses()
        self._served = 0
        self._row = 0

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
        unread = self._peer.unread
        self._peer.unread = unread[len(raw) :] if len(unread) > len(raw) else b""
        if self._service.recall is not None and head.body_bytes == 0 and head.method in _RECALLED_METHODS:
            asked = Asked(head.method, head.target, head.fields, self._addresses[0], self._peer.scheme)
            answer = self._service.recall.recall(asked)
            if answer is not None:
                return await self._replay(head, answer)
        return await self._ask_application(head)

    def _note(self, head: Head, begun: float, *, status: int, sent_bytes: int) -> None:
        """Tell the access log, if there is one, of an answer, complete or cut."""
        if self._service.access_log is None or not status:  # nothing was answered
            return
        known = dict(head.fields)
        self._service.access_log.note(
            head.method,
            head.target,
            status=status,
            sent_bytes=sent_bytes,
            duration_s=trio.current_time() - begun,
            client=self._addresses[0][0],
            user_agent=known.get(b"user-agent", b""),
            authorized=b"authorization" in known,
        )

    async def _replay(self, head: Head, answer: Recalled) -> bool:
        """Send what was remembered; True when the connection goes on."""
        begun = 0.0 if self._service.access_log is None else trio.current_time()
        closes = head.closes or self._service.census.closing
        begin = b"".join((answer.head, date_line(), CLOSE if closes else b"", END))
        sent_bytes = 0  # of an answer that is cut it is not known
        try:
            if isinstance(answer.body, bytes):
                await self._peer.send(begin + answer.body)
            elif isinstance(answer.body, FileSpan):
                await self._peer.send_with_file(begin, answer.body, threads=self._service.threads)
            else:
                await self._peer.send(begin, more=True)
                await self._send_parts(answer.body)
            sent_bytes = answer.size_bytes
        except FileTooShort as error:
            raise AnswerCut from error
        finally:
            answer.release()
            self._note(head, begun, status=answer.status, sent_bytes=sent_bytes)
        return not closes

    async def _send_parts(self, parts: Sequence[bytes | FileSpan]) -> None:
        for number, part in enumerate(parts, 1):
            if isinstance(part, FileSpan):
                await self._peer.send_file(part, threads=self._service.threads)
            else:  # the kernel holds back what more is to follow, for 200 ms: so not the last
                await self._peer.send(part, more=number < len(parts))

    async def _ask_application(self, head: Head) -> bool:
        framing = framing_of(head.body_bytes)
        exchange = Exchange(
            self._peer,
            head,
            framing,
            must_close=self._must_close,
            threads=self._service.threads,
            bodies=self._service.bodies,
        )
        scope = scope_of(
            head,
            scheme=self._peer.scheme,
            addresses=self._addresses,
            state=self._state.copy(),
            absorb=exchange.absorb,
        )
        begun = trio.current_time()
        try:
            reusable = await exchange.run(self._service.application, scope)
        finally:
            self._note(head, begun, status=exchange.status, sent_bytes=exchange.sent_bytes)
        return await self._settle(exchange, framing, reusable=reusable)

    async def _settle(self, exchange: Exchange, framing: Framing, *, reusable: bool) -> bool:
        """After the answer: take what is left of the body, within bounds; True when the connection goes on."""
        max_bytes, max_s = self._settings.early_answer_bytes, self._settings.early_answer_s
        if reusable and not framing.done and not await exchange.drain(max_bytes=max_bytes, max_s=max_s):
            return False
        if reusable and len(self._peer.unread) <= _AHEAD_BYTES:
            return True
        if not framing.done or self._peer.unread:
            await self._peer.linger(max_bytes=max_bytes, max_s=max_s)
        return False

    async def _next_head(self) -> bytes | None:
        """The next raw head with its empty line, left in `unread`; None when the client has nothing more to ask."""
        if not self._peer.unread:
            if not await self._rest():
                return None
        elif self._served:
            await self._give_way()
        end = self._end_of_head(searched=0)
        return self._peer.unread[:end] if end is not None else await self._rest_of_head()

    async def _rest_of_head(self) -> bytes | None:
        """The same for a head that did not come in one piece."""
        with trio.move_on_after(self._settings.header_timeout_s):
            while True:
                searched = len(self._peer.unread)
                await trio.lowlevel.checkpoint()  # whoever sends without a pause is not alone, nor endlessly patient
                if not await self._peer.fill(_HEAD_READ_BYTES):
                    return None  # it left in the middle of a sentence
                end = self._end_of_head(searched=searched)
                if end is not None:
                    return self._peer.unread[:end]
        raise Refused(f"the request's head took longer than {self._settings.header_timeout_s} s", status=408)

    def _end_of_head(self, *, searched: int) -> int | None:
        empty = _EMPTY_LINES.match(self._peer.unread)
        if empty is not None:
            self._peer.unread, searched = self._peer.unread[empty.end() :], 0
        if not self._peer.unread:
            return None
        return find_end(self._peer.unread, searched=searched, limit=self._settings.header_bytes)

    async def _rest(self) -> bool:
        """Wait for the first byte of a request; False when the client leaves. Who rests too long is cancelled."""
        self._row = 0
        census, guest, peer = self._service.census, self._guest, self._peer
        patience_s = self._settings.idle_timeout_s if self._served else self._settings.header_timeout_s
        # A new connection mostly brings its request along; right after an answer there is never anything yet.
        filled = None if self._served else peer.fill_nowait(_HEAD_READ_BYTES)
        while filled is None:
            census.rest(guest, patience_s)
            await peer.wait_readable()
            if not census.wake(guest):
                return False
            filled = peer.fill_nowait(_HEAD_READ_BYTES)
        return filled

    async def _give_way(self) -> None:
        """Let others have their turn, from time to time, when there is nothing to wait for."""
        self._row += 1
        if self._row >= _IN_A_ROW:
            self._row = 0
            await trio.lowlevel.checkpoint()

    def _must_close(self, framing: Framing) -> bool:
        too_much = framing.known_left is not None and framing.known_left > self._settings.early_answer_bytes
        return too_much or self._service.census.closing

    async def _refuse(self, refused: Refused) -> None:
        without_body = self._peer.unread.startswith(b"HEAD ")
        await self._peer.send(refusal(refused.status, refused.message, without_body=without_body))
        await self._peer.linger(max_bytes=self._settings.early_answer_bytes, max_s=self._settings.early_answer_s)
