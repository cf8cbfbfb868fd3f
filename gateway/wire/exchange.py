"""One request and its answer: ASGI on one side, HTTP/1.1 on the other.

    awaiting --start--> held --first body--> answering --last body--> complete
Nothing is sent before the first body message (as ASGI asks), so a failure until then is still a proper 500; after it,
a failure can only cut the connection, and a cut answer never looks complete.

The body is read when the application asks and not before: that is the back-pressure. `100 Continue` goes out at the
first ask (row GEN-16).

Two ASGI extensions: `http.response.zerocopysend` sends a span of a file as a part of the body, and
`sluice.request.absorb` receives the rest of a request's body in worker threads (`absorption`).
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import trio

from gateway.logs import get_logger
from gateway.wire.absorption import BodyThreads, Gate, Sink, absorb
from gateway.wire.answers import CLOSE, END, date_line, field_lines, opening
from gateway.wire.file_sending import SendingThreads
from gateway.wire.framing import Framing, take
from gateway.wire.heads import Head
from gateway.wire.peer import Peer, PeerGone
from gateway.wire.recall import FileSpan
from gateway.wire.refusals import Refused, refusal

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]
"""ASGI 3: scope, receive, send. Each framework has its own types for the three."""

Absorb = Callable[..., Awaitable[None]]
"""`Exchange.absorb`, as the application finds it among the scope's extensions."""

BODY_READ_BYTES: Final = 256 * 1024
"""One system call and one turn of the loop per chunk that the application works with; 64 KiB costs 15 % more CPU."""
_DRAINED_BYTES: Final = 32 * 1024
"""The same for bytes that nobody asked for: whoever heard the answer may send the next request right behind them."""
_JOINED_BYTES: Final = 16 * 1024
"""An answer's head and a body up to this size leave in one packet train; joining more would hold a second copy of a
chunk for every slow reader (200 of them: 50 MiB)."""
_PIPELINED_BYTES: Final = 64 * 1024
"""How much of the next requests is taken in while the application waits for the client to leave."""
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

_log = get_logger(__name__)


class AnswerCut(Exception):
    """The answer cannot be completed: the connection must be closed as it is."""


class _Phase(Enum):
    AWAITING = auto()
    HELD = auto()
    ANSWERING = auto()
    COMPLETE = auto()


_WITH_BODY: Final = frozenset({_Phase.HELD, _Phase.ANSWERING})


class Exchange:
    """See the module docstring. Made per request, run once."""

    def __init__(
        self,
        peer: Peer,
        head: Head,
        framing: Framing,
        *,
        must_close: Callable[[Framing], bool],
        threads: SendingThreads,
        bodies: BodyThreads,
    ) -> None:
        self._peer = peer
        self._head = head
        self._framing = framing
        self._must_close = must_close
        self._threads = threads
        self._bodies = bodies
        self._wants_continue = head.expects_continue
        self._malformed: Refused | None = None
        self._asked = False
        self._phase = _Phase.AWAITING
        self._opening = b""
        self._left: int | None = None  # of the answer's body, where its length was promised
        self._is_chunked = False
        self._closing = False
        self._without_body = head.method == b"HEAD"
        self.status = 0
        """The answer's status; 0 until it has begun."""
        self.sent_bytes = 0
        """Bytes of the answer's body that were handed to the kernel."""

    async def run(self, application: Application, scope: Scope) -> bool:
        """Have the request answered; True when the connection can carry another one after the body is taken.

        Raises `PeerGone` when the client did not stay for the answer and `AnswerCut` when it is incomplete. What the
        application raises is logged and ends here.
        """
        try:
            # A task of its own, so that what a handler binds to its context ends with the request.
            async with trio.open_nursery() as nursery:  # noqa: ASYNC112
                nursery.start_soon(application, scope, self.receive, self.send)
        except* (Exception, SystemExit) as errors:  # noqa: BLE001  # whatever it is, it must not leave this connection
            self._report(errors)
        if self._phase is _Phase.COMPLETE:
            return not (self._closing or self._malformed)
        if self._phase is _Phase.ANSWERING:
            if self._head.version == b"1.0":
                self._peer.reset()  # without a length, an ordinary close would look like the end
            raise AnswerCut
        refused = self._malformed or Refused("internal error; the log knows more", status=500)
        self.status = refused.status
        await self._peer.send(refusal(refused.status, refused.message, without_body=self._without_body))
        return False

    async def receive(self) -> Message:
        """The next part of the body, of 1 byte to `BODY_READ_BYTES`; after its end, `http.disconnect` once known.

        Cancelling loses nothing. Waits without a limit: the reader of the body knows how patient it is.
        """
        if self._phase is _Phase.COMPLETE or self._malformed:
            return {"type": "http.disconnect"}
        if self._framing.done and self._asked:
            await self._wait_for_reset()
            return {"type": "http.disconnect"}
        try:
            body = await self._next_body()
        except PeerGone:
            return {"type": "http.disconnect"}
        except Refused as error:
            self._malformed = error
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": body, "more_body": not self._framing.done}

    async def absorb(self, sink: Sink, *, idle_s: float, gate: Gate | None = None) -> None:
        """Receive the rest of the body in worker threads; see `absorption.absorb` for sink, gate and cancelling.

        Afterwards `receive` tells the end of the body. Raises `trio.TooSlowError` when the client sends too little in
        `idle_s`, `PeerGone` when it has left, another ConnectionError when it broke the body's framing, and what the
        sink raises.
        """
        if self._phase is _Phase.COMPLETE or self._malformed:
            raise ConnectionError("nothing more of the request's body can be read")
        self._asked = self._asked and self._framing.done
        await self._invite_body()
        try:
            await absorb(self._peer, self._framing, sink, idle_s=idle_s, threads=self._bodies, gate=gate)
        except Refused as error:
            self._malformed = error
            raise ConnectionError("the framing of the request's body is broken") from error

    async def send(self, message: Message) -> None:
        """Take the answer in ASGI's messages; raises `PeerGone` (an OSError), ValueError and RuntimeError for nonsense.

        A body that does not keep the length that was promised cuts the connection.
        """
        kind = message["type"]
        if kind == "http.response.start" and self._phase is _Phase.AWAITING:
            self._start(int(message["status"]), message.get("headers", ()))
        elif kind == "http.response.body" and self._phase in _WITH_BODY:
            await self._continue(message.get("body", b""), last=not message.get("more_body", False))
        elif kind == "http.response.zerocopysend" and self._phase in _WITH_BODY:
            start, count = message.get("offset", 0), message["count"]
            span = FileSpan(message["file"], start, start + count)
            await self._continue_with_file(span, last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} does not belong here: the answer is {self._phase.name.lower()}")

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        fields = [(bytes(name), bytes(value)) for name, value in headers]
        known = {name.lower(): value for name, value in fields}
        wants_close = known.get(b"connection", b"").lower() == b"close"
        # What becomes of the connection is told once, by who knows it: the server.
        lines = [opening(status), field_lines(each for each in fields if each[0].lower() != b"connection"), date_line()]
        self._without_body = self._without_body or status in _WITHOUT_BODY
        promised = known.get(b"content-length")
        self._closing = self._closes() or wants_close
        if promised is not None and not self._without_body:
            self._left = int(promised)
        elif not self._without_body and self._head.version == b"1.1":
            self._is_chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif not self._without_body:
            self._closing = True  # the end of the connection is the end of the body
        if self._closing:
            lines.append(CLOSE)
        lines.append(END)
        self._opening = b"".join(lines)
        self.status = status
        self._phase = _Phase.HELD

    async def _continue(self, body: bytes, *, last: bool) -> None:
        begin, self._opening = self._opening, b""
        self._phase = _Phase.ANSWERING
        if self._without_body:
            body = b""
        self._count(len(body))
        end = b""
        if self._is_chunked:
            if body:
                begin += b"%x\r\n" % len(body)
                end = b"\r\n"
            end += b"0\r\n\r\n" if last else b""
        if len(body) <= _JOINED_BYTES:
            await self._send_if_any(b"".join((begin, body, end)))
        else:
            for piece in (begin, body, end):
                await self._send_if_any(piece)
        if last:
            self._complete()

    async def _continue_with_file(self, span: FileSpan, *, last: bool) -> None:
        """A part of the body out of a file; only where the length was promised, so that nothing frames it."""
        begin, self._opening = self._opening, b""
        if not self._without_body and self._left is None:
            raise RuntimeError("a file is sent only in an answer with a Content-Length")
        self._phase = _Phase.ANSWERING
        if begin:
            await self._peer.send(begin, more=not self._without_body)
        if not self._without_body:
            self._count(span.stop - span.start)
            await self._peer.send_file(span, threads=self._threads)
        if last:
            self._complete()

    async def _send_if_any(self, data: bytes) -> None:
        if data:
            await self._peer.send(data)

    def _count(self, size_bytes: int) -> None:
        self.sent_bytes += size_bytes
        if self._left is not None:
            self._left -= size_bytes
            if self._left < 0:
                raise RuntimeError("the answer's body is longer than its Content-Length")

    def _complete(self) -> None:
        if self._left:
            raise RuntimeError(f"the answer's body ends {self._left} bytes before its Content-Length")
        self._phase = _Phase.COMPLETE

    def _closes(self) -> bool:
        """Whether this answer has to be the connection's last: decided when it starts, so that it can say so."""
        undecided = self._wants_continue and not self._framing.done  # its body may come or not (RFC 9110, 10.1.1)
        return undecided or self._head.closes or self._malformed is not None or self._must_close(self._framing)

    async def _invite_body(self) -> None:
        """Tell a client that waits for it that the body is welcome."""
        if self._wants_continue and not self._peer.unread:
            await self._peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._wants_continue = False

    async def _next_body(self, max_bytes: int = BODY_READ_BYTES) -> bytes:
        """Bytes of the body, nothing only at its end. Where its length is known, what is behind it is left alone."""
        await self._invite_body()
        await trio.lowlevel.checkpoint()  # there may be nothing to wait for, but others want their turn
        while True:
            body, self._peer.unread = take(self._framing, self._peer.unread)
            if body or self._framing.done:
                return body
            left = self._framing.known_left
            if not await self._peer.fill(max_bytes if left is None else min(max_bytes, left)):
                raise PeerGone("the client left within its request's body")

    async def drain(self, *, max_bytes: int, max_s: float) -> bool:
        """Take the rest of a body that nobody asked for; False if it is more, takes longer, or is malformed."""
        taken = 0
        with trio.move_on_after(max_s):
            try:
                while not self._framing.done and taken <= max_bytes:
                    taken += len(await self._next_body(_DRAINED_BYTES))
            except (PeerGone, Refused):
                return False
        return self._framing.done

    async def _wait_for_reset(self) -> None:
        """Wait until the client is certainly gone. The end of its stream alone is no proof: it may be a half-close."""
        try:
            while len(self._peer.unread) < _PIPELINED_BYTES and await self._peer.fill(_PIPELINED_BYTES):
                pass
        except PeerGone:
            return
        await trio.sleep_forever()

    def _report(self, errors: BaseExceptionGroup[Exception | SystemExit]) -> None:
        _, defects = errors.split(PeerGone)
        if defects is None:
            return
        path = self._head.target.partition(b"?")[0].decode("ascii")  # a query may hold secrets
        _log.error("application_failed", method=self._head.method.decode("ascii"), path=path, exc_info=defects)


def scope_of(
    head: Head,
    *,
    scheme: str,
    addresses: tuple[tuple[str, int], tuple[str, int]],
    state: dict[str, Any],
    absorb: Absorb,
) -> Scope:
    """The ASGI description of a request. `raw_path` is what the client sent; `path` is decoded."""
    path, _, query = head.target.partition(b"?")
    client, server = addresses
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": head.version.decode("ascii"),
        "method": head.method.decode("ascii"),
        "scheme": scheme,
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": head.fields,
        "client": client,
        "server": server,
        "state": state,
        "extensions": {"http.response.zerocopysend": {}, "sluice.request.absorb": {"absorb": absorb}},
    }
