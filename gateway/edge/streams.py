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
    Iterator,
    Mapping,
)
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from types import TracebackType
from typing import Any, Final, Protocol, Self, cast

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

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

CHUNK_BYTES: Final = 256 * 1024
"""What a thread hop and a hash call are worth: 64 KiB costs 40 % more CPU, 1 MiB makes others wait longer."""
MOMENT_S: Final = 0.01
"""How long a begun chunk waits for more bytes; a client that pauses longer is slower than we need to hurry."""
WHOLE_BODY_BYTES: Final = 1 << 20
"""Bound for bodies that Quart reads whole by itself (`get_json`, forms): documents written by people."""
WHOLE_BODY_IDLE_S: Final = 30.0
"""Longest pause within such a body."""


class ClientStalled(Exception):
    """The client sent nothing for too long within its body: 408. It may try again."""


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
        while True:
            with _patience(idle_s):
                part = await self.pull()
            if not part:
                return bytes(self._data)
            self._data += part
            if len(self._data) > limit_bytes:
                raise BodyTooLarge(limit_bytes)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with _patience(WHOLE_BODY_IDLE_S):
            part = await self.pull()
        if not part:
            raise StopAsyncIteration
        return part

    def __await__(self) -> Generator[Any, None, bytes]:
        return self.whole(limit_bytes=WHOLE_BODY_BYTES, idle_s=WHOLE_BODY_IDLE_S).__await__()


class PulledRequest(TrioRequest):
    """A request whose body is pulled."""

    body_class = PulledBody


class Chunks:
    """A request's body in chunks; see `read_chunks`."""

    def __init__(self, body: PulledBody, *, idle_s: float, chunk_bytes: int) -> None:
        self._body = body
        self._idle_s = idle_s
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
            with _patience(self._idle_s):
                self._rest = await self._body.pull()
        parts, size = [self._rest], len(self._rest)
        if 0 < size < self._chunk_bytes:
            with trio.move_on_after(MOMENT_S), suppress(ClientGone):  # the next call raises it again
                while size < self._chunk_bytes and (part := await self._body.pull()):
                    parts.append(part)
                    size += len(part)
        joined = b"".join(parts)
        chunk, self._rest = joined[: self._chunk_bytes], joined[self._chunk_bytes :]
        return chunk


@asynccontextmanager
async def read_chunks(
    request: Request, *, idle_s: float, chunk_bytes: int = CHUNK_BYTES
) -> AsyncGenerator[Chunks, None]:
    """The request's body, in order, in chunks of 1 byte to `chunk_bytes`; only as fast as it is consumed.

    Iterating raises `ClientStalled` after `idle_s` without a byte and `ClientGone`; both after everything that came
    before was handed out. Breaking off is fine: the server deals with the rest of the body.
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


class StreamedBody(ResponseBody):
    """The body of an answer that comes from a source, which is opened when sending begins and never for HEAD."""

    def __init__(self, source: AbstractAsyncContextManager[ChunkSource]) -> None:
        self._source = source
        self._opened = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] | None = None
        self._first = b""

    async def __aenter__(self) -> Self:
        """Open the source and wait for its first bytes, so that a failure until then is still an answer of its own."""
        async with AsyncExitStack() as opening:
            self._chunks = (await opening.enter_async_context(self._source)).chunks()
            if isinstance(self._chunks, AsyncGenerator):
                await opening.enter_async_context(aclosing(self._chunks))
            self._first = await anext(self._chunks, b"")
            self._opened = opening.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._opened.__aexit__(exc_type, exc_value, tb)  # noqa: ASYNC102  # the source shields its own clean-up

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._chunks is None:
            raise RuntimeError("the body was not opened")
        if self._first:
            chunk, self._first = self._first, b""
            return chunk
        return await anext(self._chunks)


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
                chunks = await stack.enter_async_context(_answer_body(request, response))
            except Exception as error:  # noqa: BLE001  # nothing was sent yet: the application decides
                response = await self._failure(request, error)
                chunks = await stack.enter_async_context(_answer_body(request, response))
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": encode_headers(response.headers),
                }
            )
            async for chunk in chunks:
                body = chunk.encode() if isinstance(chunk, str) else chunk
                await send({"type": "http.response.body", "body": body, "more_body": True})
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


def _answer_body(
    request: Request, response: ResponseTypes
) -> AbstractAsyncContextManager[AsyncIterable[bytes | str], None]:
    """What to send; for HEAD nothing, and nothing is opened or generated for it."""
    body: ResponseBody
    if request.method == "HEAD":
        body = DataBody(b"")
    elif isinstance(response, Response):
        body = response.response
    else:
        body = DataBody(response.get_data())  # Werkzeug's own errors and redirects
    # Quart declares __aexit__ narrower than the language calls it.
    return cast("AbstractAsyncContextManager[AsyncIterable[bytes | str], None]", body)


def _body_of(request: Request) -> PulledBody:
    body = request.body
    if not isinstance(body, PulledBody):
        raise TypeError("bodies are not pulled: call streams.install(app) first")
    return body


@contextmanager
def _patience(idle_s: float) -> Iterator[None]:
    with trio.move_on_after(idle_s) as scope:
        yield
    if scope.cancelled_caught:
        raise ClientStalled(f"no byte of the request's body came in {idle_s:g} s")
