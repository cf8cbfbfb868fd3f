"""Answers that lie in files: sent as spans where the server can; and who is told how an answer begins."""

from collections.abc import AsyncIterator
from typing import Any

from quart import Response, request

from gateway.edge.streams import blob_response, watch
from storage import OpenFile
from tests.gateway.edge.test_streams import Source, app_with


class FileOf(Source):
    """A source whose bytes lie in a file."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__([b"chunk"])
        self.file = file


class Alternating(Source):
    """A source of which one part lies in a file."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__([b"chunks"])
        self.file_part = file

    async def pieces(self) -> AsyncIterator[bytes | OpenFile]:
        """Bytes, a span, bytes."""
        yield b"before"
        yield self.file_part
        yield b"after"


async def messages(
    source: Source, *, extensions: dict[str, Any], method: str = "GET", told: list[Any] | None = None
) -> list[dict[str, Any]]:
    """What the server is told to send; a witness is told as well."""

    async def handler() -> Response:
        if told is not None:
            watch(request, lambda *arguments: told.append(arguments))
        return blob_response(source, size_bytes=5, content_type="a/b")

    app = app_with(handler)
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"x")],
        "client": ("192.0.2.7", 1),
        "server": ("127.0.0.1", 80),
        "extensions": extensions,
        "state": {},
    }
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app(scope, receive, send)  # type: ignore[arg-type]  # Quart's types of messages are closed
    return sent[1:]


ZERO_COPY: dict[str, Any] = {"http.response.zerocopysend": {}}
FILE = OpenFile(7, 3, 8)
SPAN = {"type": "http.response.zerocopysend", "file": 7, "offset": 3, "count": 5, "more_body": True}


def bodies(sent: list[dict[str, Any]]) -> list[bytes]:
    """The bytes of body messages."""
    return [message["body"] for message in sent if message["type"] == "http.response.body"]


async def test_a_file_is_sent_as_a_span_where_the_server_can() -> None:
    """In one message for the whole span, without a byte of it being read."""
    source = FileOf(FILE)
    sent = await messages(source, extensions=ZERO_COPY)

    assert sent == [SPAN, {"type": "http.response.body", "body": b"", "more_body": False}]
    assert source.history == ["opened", "closed"]


async def test_a_file_is_sent_in_chunks_where_the_server_cannot() -> None:
    """Servers and test clients without the extension get bytes."""
    assert bodies(await messages(FileOf(FILE), extensions={})) == [b"chunk", b""]
    assert bodies(await messages(Alternating(FILE), extensions={})) == [b"chunks", b""]


async def test_bytes_and_spans_alternate() -> None:
    """The parts of a multipart answer: heads as bytes, content as spans, in order."""
    sent = await messages(Alternating(FILE), extensions=ZERO_COPY)

    assert sent[1] == SPAN
    assert bodies(sent) == [b"before", b"after", b""]


async def test_an_empty_span_is_not_sent() -> None:
    """There is nothing to send of an empty blob."""
    assert bodies(await messages(FileOf(OpenFile(7, 0, 0)), extensions=ZERO_COPY)) == [b""]


async def test_a_witness_is_told_how_an_answer_begins() -> None:
    """Once, with status, final fields and the open file; for HEAD nothing is opened."""
    told: list[Any] = []
    await messages(FileOf(FILE), extensions=ZERO_COPY, told=told)
    await messages(FileOf(FILE), extensions={}, method="HEAD", told=told)
    ((status, fields, file), (_, _, none)) = told

    assert (status, file, none) == (200, FILE, None)
    assert (b"content-length", b"5") in fields
