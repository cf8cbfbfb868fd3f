"""Bodies: requests that are read when the handler asks (back-pressure), answers that stream from storage.

Quart-Trio as shipped buffers a request's body without bound, refuses bodies over 16 MiB, cuts answers after 60 s, and
reads messages in a task whose end cancels the answer's last send. `install` replaces the two classes that do so: one
task per request, no buffer, no totals. Idle times stand in the functions here; those for slow readers in the server.
Knows no registry: what is read or sent is the handlers' business.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    suppress,
)
from types import TracebackType
from typing import Any, Final, Protocol, Self, cast, runtime_checkable

import trio
from quart import Response
from quart.typing import ResponseTypes
from quart.utils import encode_headers
from quart.wrappers import Request
from quart.wrappers.response import DataBody, ResponseBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest, TrioResponse
from quart_trio.wrappers.request import TrioBody

from storage import OpenFile

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Witness = Callable[[int, Sequence[tuple[bytes, bytes]], OpenFile | None], None]
"""Who is told how an answer begins; see `watch`. Must not wait and must not raise."""

CHUNK_BYTES: Final = 256 * 1024
"""What a thread hop and a hash call are worth: 64 KiB costs 40 % more CPU, 1 MiB makes others wait longer."""
MOMENT_S: Final = 0.01
"""How long a begun chunk waits for more bytes; a client that pauses longer is slower than we need to hurry."""
WHOLE_BODY_BYTES: Final = 1 << 20
"""Bound for bodies that Quart reads whole by itself (`get_json`, forms): documents written by people."""
WHOLE_BODY_IDLE_S: Final = 30.0
"""The idle time of such a body."""
PROGRESS_BYTES: Final = 64 * 1024
"""What the sender of a body must bring per idle time, or the body's end: 1 KiB/s with the default of 60 s, below any
link that can be used. A bound per byte would let one byte a minute hold an upload for ever."""


_ZERO_COPY: Final = "http.response.zerocopysend"
_WITNESS: Final = "gateway.witness"


class ClientStalled(Exception):
    """The client sent too little for too long within its body: 408. It may try again."""


class ClientGone(Exception):
    """The client left within its body, or broke its framing. Nobody waits for the answer."""


class BodyTooLarge(Exception):
    """The body is larger than allowed: 413. Retrying is useless."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request's body is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class PulledBody(TrioBody):
    """A request's body that nobody reads ahead. Also gives Quart's own readers what they expect, within bounds."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._receive: Receive | None = None
        self._ended = False
        self._gone = False
        self._patience = _Patience(WHOLE_BODY_IDLE_S)

    def attach(self, receive: Receive) -> None:
        """Take the bytes from here."""
        self._receive = receive

    async def pull(self) -> bytes:
        """The next bytes, nothing only at the end; raises `ClientGone`. Cancelling loses no bytes."""
        while not (self._ended or self._gone or self._receive is None):
            message = await self._receive()
            self._gone = message["type"] != "http.request"
            self._ended = not message.get("more_body", False)
            if body := message.get("body", b""):
                return bytes(body)
        if self._gone:
            raise ClientGone("the client left before its request was complete")
        return b""

    async def whole(self, *, limit_bytes: int, idle_s: float) -> bytes:
        """All of it; see `read_whole`. Asking again gives the same bytes."""
        patience = _Patience(idle_s)
        while True:
            part = await patience.wait_for(self)
            if not part:
                return bytes(self._data)
            self._data += part
            if len(self._data) > limit_bytes:
                raise BodyTooLarge(limit_bytes)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        part = await self._patience.wait_for(self)
        if not part:
            raise StopAsyncIteration
        return part

    def __await__(self) -> Generator[Any, None, bytes]:
        return self.whole(limit_bytes=WHOLE_BODY_BYTES, idle_s=WHOLE_BODY_IDLE_S).__await__()


class _Patience:
    """How long a body's sender is waited for. Only waiting uses it up, not what the reader does between two pulls."""

    __slots__ = ("_idle_s", "_left_s", "_moved")

    def __init__(self, idle_s: float) -> None:
        self._idle_s = self._left_s = idle_s
        self._moved = 0

    async def wait_for(self, body: PulledBody) -> bytes:
        """As `PulledBody.pull`; raises `ClientStalled` when fewer than `PROGRESS_BYTES` came in the idle time."""
        began = trio.current_time()
        with trio.move_on_after(self._left_s) as scope:
            part = await body.pull()
        if scope.cancelled_caught:
            raise ClientStalled(f"fewer than {PROGRESS_BYTES} bytes of the request's body came in {self._idle_s:g} s")
        self._left_s = max(0.0, self._left_s - (trio.current_time() - began))
        self.moved(len(part))
        return part

    def moved(self, size_bytes: int) -> None:
        """So many bytes came."""
        self._moved += size_bytes
        if self._moved >= PROGRESS_BYTES:
            self._moved = 0
            self._left_s = self._idle_s


class PulledRequest(TrioRequest):
    """A request whose body is pulled."""

    body_class = PulledBody


class Chunks:
    """A request's body in chunks; see `read_chunks`."""

    def __init__(self, body: PulledBody, *, idle_s: float, chunk_bytes: int) -> None:
        self._body = body
        self._patience = _Patience(idle_s)
        self._chunk_bytes = chunk_bytes
        self._rest = b""
        self.received_bytes = 0
        """Bytes handed out so far."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._next()
        if not chunk:
            raise StopAsyncIteration
        self.received_bytes += len(chunk)
        return chunk

    async def _next(self) -> bytes:
        """One chunk: wait for its first bytes as long as allowed, for more only a moment."""
        if not self._rest:
            self._rest = await self._patience.wait_for(self._body)
        parts, size = [self._rest], len(self._rest)
        if 0 < size < self._chunk_bytes:
            with trio.move_on_after(MOMENT_S), suppress(ClientGone):  # the next call raises it again
                while size < self._chunk_bytes and (part := await self._body.pull()):
                    parts.append(part)
                    size += len(part)
                    self._patience.moved(len(part))
        joined = b"".join(parts)
        chunk, self._rest = joined[: self._chunk_bytes], joined[self._chunk_bytes :]
        return chunk


@asynccontextmanager
async def read_chunks(
    request: Request, *, idle_s: float, chunk_bytes: int = CHUNK_BYTES
) -> AsyncGenerator[Chunks, None]:
    """The request's body, in order, in chunks of 1 byte to `chunk_bytes`; only as fast as it is consumed.

    Iterating raises `ClientStalled` when fewer than `PROGRESS_BYTES` came while it waited `idle_s` for the client (the
    body's end is enough, too) and `ClientGone`; both after everything that came before was handed out. Breaking off is
    fine: the server deals with the rest of the body.
    """
    yield Chunks(_body_of(request), idle_s=idle_s, chunk_bytes=chunk_bytes)


async def read_whole(request: Request, *, limit_bytes: int, idle_s: float) -> bytes:
    """The whole body, of at most `limit_bytes`; chunked bodies without a length included (row C7).

    Raises `BodyTooLarge` before reading when the length says so, else at the first byte beyond; `ClientStalled`;
    `ClientGone`.
    """
    if request.content_length is not None and request.content_length > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    return await _body_of(request).whole(limit_bytes=limit_bytes, idle_s=idle_s)


async def discard(request: Request, *, limit_bytes: int, idle_s: float) -> None:
    """Read and forget the rest of a body, up to `limit_bytes`, so that a client that only sends hears the answer.

    Never raises for what the client does: the answer is decided, and whoever left will not read it.
    """
    taken = 0
    with suppress(ClientStalled, ClientGone):
        async with read_chunks(request, idle_s=idle_s) as chunks:
            async for chunk in chunks:
                taken += len(chunk)
                if taken >= limit_bytes:
                    return


class ChunkSource(Protocol):
    """What a blob is read from; `storage.BlobReader` is one."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order, in chunks of any size; called once."""
        ...


@runtime_checkable
class FileSource(ChunkSource, Protocol):
    """A source whose bytes may lie in a file as they are."""

    @property
    def file(self) -> OpenFile | None:
        """The span that the source gives, or None; its descriptor is valid until the source is left."""
        ...


@runtime_checkable
class PieceSource(ChunkSource, Protocol):
    """A source of which some parts may lie in files."""

    def pieces(self) -> AsyncIterator[bytes | OpenFile]:
        """The same as `chunks`, in its place; each descriptor is valid until the next piece is asked for."""
        ...


class StreamedBody(ResponseBody):
    """The body of an answer that comes from a source, which is opened when sending begins and never for HEAD."""

    def __init__(self, source: AbstractAsyncContextManager[ChunkSource]) -> None:
        self._source = source
        self._opened = AsyncExitStack()
        self._pieces: AsyncIterator[bytes | OpenFile] | None = None
        self._first: bytes | OpenFile | None = None
        self.by_file = False
        """Whether spans of files may be given as such; to be set before the body is entered."""
        self.file: OpenFile | None = None
        """The file that the whole body lies in, if it does, while the body is entered."""

    async def __aenter__(self) -> Self:
        """Open the source and wait for its first bytes, so that a failure until then is still an answer of its own."""
        async with AsyncExitStack() as opening:
            source = await opening.enter_async_context(self._source)
            self.file = source.file if isinstance(source, FileSource) else None
            self._pieces = self._pieces_of(source)
            if isinstance(self._pieces, AsyncGenerator):
                await opening.enter_async_context(aclosing(self._pieces))
            self._first = await anext(self._pieces, None)
            self._opened = opening.pop_all()
        return self

    def _pieces_of(self, source: ChunkSource) -> AsyncIterator[bytes | OpenFile]:
        if self.by_file and self.file is not None:
            return _one(self.file)
        if self.by_file and isinstance(source, PieceSource):
            return source.pieces()
        return source.chunks()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._opened.__aexit__(exc_type, exc_value, tb)  # noqa: ASYNC102  # the source shields its own clean-up

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes | OpenFile:
        if self._pieces is None:
            raise RuntimeError("the body was not opened")
        if self._first is not None:
            piece, self._first = self._first, None
            return piece
        return await anext(self._pieces)


async def _one(file: OpenFile) -> AsyncGenerator[OpenFile, None]:
    if file.start < file.stop:
        yield file


def blob_response(
    source: AbstractAsyncContextManager[ChunkSource],
    *,
    size_bytes: int,
    content_type: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer of exactly `size_bytes` that streams from `source`, for GET and HEAD alike.

    `source` is entered when the answer is sent (not at all for HEAD) and left when it is complete, has failed, or the
    client has left. What it raises before its first bytes goes to the application's error handlers like an exception of
    the handler; later, or when it gives more or fewer bytes than promised, the connection is cut. `content_type` is
    sent as it is. For ranges the caller sets 206 and Content-Range; a multipart body is one source like any other.
    """
    response = TrioResponse(StreamedBody(source), status, headers=dict(headers or {}), content_type=content_type)
    response.content_length = size_bytes
    return response


class PulledConnection(TrioASGIHTTPConnection):
    """One request in one task. No second task reads messages, so nothing cancels the answer's last send (H16)."""

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Answer one request; raises what sending raises when the client leaves, and what its source raises midway."""
        request = self._create_request_from_scope(send)
        _body_of(request).attach(receive)
        response = await self.app.handle_request(request)
        async with AsyncExitStack() as stack:
            try:
                pieces = await stack.enter_async_context(_answer_body(request, response))
            except Exception as error:  # noqa: BLE001  # nothing was sent yet: the application decides
                response = await self._failure(request, error)
                pieces = await stack.enter_async_context(_answer_body(request, response))
            status, fields = response.status_code, encode_headers(response.headers)
            _tell_witness(request, status, fields, pieces)
            await send({"type": "http.response.start", "status": status, "headers": fields})
            async for piece in pieces:
                await send(_message(piece))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _failure(self, request: Request, error: Exception) -> ResponseTypes:
        """The application's answer to an error that came between its handler and the first byte."""
        async with self.app.request_context(request) as context:
            try:
                result = await self.app.handle_user_exception(error)
            except Exception as unhandled:  # noqa: BLE001  # Quart raises what has no handler, and logs it here
                return await self.app.handle_exception(unhandled)
            return await self.app.finalize_request(result, context, from_error_handler=True)


def install(app: QuartTrio) -> None:
    """Make the application read bodies by pulling and send answers without totals; call once, before it serves."""
    app.request_class = PulledRequest
    app.asgi_http_class = PulledConnection
    app.config["MAX_CONTENT_LENGTH"] = None  # compares the backlog, not the body; limits are per route
    app.config["BODY_TIMEOUT"] = None  # a total; ours is per chunk
    app.config["RESPONSE_TIMEOUT"] = None  # cuts long pulls; the server drops who does not read


def watch(request: Request, witness: Witness) -> None:
    """Have `witness` called once, just before the answer begins to be sent, with its status, fields and open file.

    The file is None unless the body lies in one as it is, and for HEAD. It stays open while the witness runs.
    """
    request.scope[_WITNESS] = witness  # type: ignore[typeddict-unknown-key]  # servers and frameworks add keys, too


def _tell_witness(
    request: Request, status: int, fields: Sequence[tuple[bytes, bytes]], body: AsyncIterable[object]
) -> None:
    witness = cast("Witness | None", request.scope.get(_WITNESS))  # only `watch` sets it
    if witness is not None:
        witness(status, fields, body.file if isinstance(body, StreamedBody) else None)


def _message(piece: bytes | str | OpenFile) -> Mapping[str, object]:
    """A part of the body in ASGI's words; a span of a file as the extension for sending without copies has it."""
    if not isinstance(piece, OpenFile):
        body = piece.encode() if isinstance(piece, str) else piece
        return {"type": "http.response.body", "body": body, "more_body": True}
    return {
        "type": _ZERO_COPY,
        "file": piece.descriptor,
        "offset": piece.start,
        "count": piece.stop - piece.start,
        "more_body": True,
    }


def _answer_body(
    request: Request, response: ResponseTypes
) -> AbstractAsyncContextManager[AsyncIterable[bytes | str | OpenFile], None]:
    """What to send; for HEAD nothing, and nothing is opened or generated for it."""
    body: ResponseBody
    if request.method == "HEAD":
        body = DataBody(b"")
    elif isinstance(response, Response):
        body = response.response
        if isinstance(body, StreamedBody):
            body.by_file = _ZERO_COPY in (request.scope.get("extensions") or {})
    else:
        body = DataBody(response.get_data())  # Werkzeug's own errors and redirects
    # Quart declares __aexit__ narrower than the language calls it.
    return cast("AbstractAsyncContextManager[AsyncIterable[bytes | str | OpenFile], None]", body)


def _body_of(request: Request) -> PulledBody:
    body = request.body
    if not isinstance(body, PulledBody):
        raise TypeError("bodies are not pulled: call streams.install(app) first")
    return body
