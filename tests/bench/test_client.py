"""The load's HTTP client: it counts every byte and never takes a cut answer for a whole one (RFC 9112)."""

import hashlib
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from bench.client import Broken, Connection, Request, get
from bench.contenders.certificates import make_pair
from bench.contenders.contender import Endpoint
from tests.bench.scripted import answering, head_of, serving

BIG = bytes(range(256)) * 20_000  # 5 MB: more than any buffer on the way


def ok(body: bytes, *headers: str) -> bytes:
    """A 200 with Content-Length."""
    lines = ("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


async def test_a_body_is_counted_and_dropped() -> None:
    """Without being asked to keep it, the client gives the size of a body and nothing of it."""
    async with serving(answering(ok(BIG))) as endpoint, await Connection.open(endpoint) as connection:
        reply = await connection.request(get("/"))
    assert (reply.status, reply.size_bytes, reply.body, reply.digest) == (200, len(BIG), b"", None)
    assert 0 < reply.first_byte_ns <= reply.end_ns


async def test_a_body_is_kept_and_hashed_on_demand() -> None:
    """What is kept is what was sent, and so is its digest; small bodies come whole, large ones only hashed."""
    async with serving(answering(ok(b"hello"), ok(BIG))) as endpoint, await Connection.open(endpoint) as connection:
        small = await connection.request(get("/"), keep=True, hashed=True)
        large = await connection.request(get("/"), hashed=True)
    assert small.body == b"hello"
    assert small.digest == f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
    assert large.digest == f"sha256:{hashlib.sha256(BIG).hexdigest()}"


async def test_chunked_answers_are_read_to_their_end() -> None:
    """Chunks of any size add up, extensions are skipped, and the next answer starts behind the last chunk."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n"
    async with serving(answering(chunked, ok(b"next"))) as endpoint, await Connection.open(endpoint) as connection:
        first = await connection.request(get("/"), keep=True)
        second = await connection.request(get("/"), keep=True)
    assert (first.body, second.body) == (b"hello0123456789", b"next")


async def test_answers_without_a_body() -> None:
    """HEAD, 204 and 304 end with their head, whatever Content-Length says."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
    unmodified = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"
    script = answering(head, unmodified, b"HTTP/1.1 204 No Content\r\n\r\n", ok(b"end"))
    async with serving(script) as endpoint, await Connection.open(endpoint) as connection:
        assert (await connection.request(get("/", method="HEAD"))).headers["content-length"] == "10"
        assert (await connection.request(get("/"))).status == 304
        assert (await connection.request(get("/"))).status == 204
        assert (await connection.request(get("/"), keep=True)).body == b"end"


async def test_interim_answers_are_skipped() -> None:
    """100 Continue is not the answer."""
    async with (
        serving(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"yes"))) as endpoint,
        await Connection.open(endpoint) as connection,
    ):
        assert (await connection.request(get("/"), keep=True)).body == b"yes"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"x" * 2000,
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
async def test_a_cut_or_wrong_answer_is_an_error(answer: bytes) -> None:
    """An answer that is not whole, or none of HTTP, raises; it is never counted as an answer."""
    async with serving(answering(answer)) as endpoint, await Connection.open(endpoint) as connection:
        with pytest.raises(Broken):
            await connection.request(get("/"))


@pytest.mark.parametrize(
    ("answer", "reusable"),
    [
        (ok(b"x"), True),
        (ok(b"x", "Connection: close"), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", False),
        (b"HTTP/1.1 200 OK\r\n\r\nx", False),  # its end is the connection's
    ],
)
async def test_it_knows_whether_the_connection_goes_on(answer: bytes, *, reusable: bool) -> None:
    """A connection is reusable unless either side said that it ends."""
    async with serving(answering(answer)) as endpoint, await Connection.open(endpoint) as connection:
        assert (await connection.request(get("/"), keep=True)).body == b"x"
        assert connection.reusable is reusable


async def test_asking_to_close_ends_the_connection() -> None:
    """A request with `Connection: close` is the connection's last."""
    async with serving(answering(ok(b"x"))) as endpoint, await Connection.open(endpoint) as connection:
        await connection.request(get("/", connection="close"))
        assert not connection.reusable


async def heard(send: Callable[[Connection], Awaitable[object]], until: bytes) -> bytes:
    """What a server hears of one request, which ends with `until`."""
    received = bytearray()

    async def handle(stream: trio.SocketStream) -> None:
        while not received.endswith(until):
            received.extend(await stream.receive_some())
        await stream.send_all(ok(b""))

    async with serving(handle) as endpoint, await Connection.open(endpoint) as connection:
        await send(connection)
    return bytes(received)


async def test_a_body_goes_out_with_its_length() -> None:
    """Parts are sent one after the other behind a head that tells their sum."""
    put = Request("PUT", "/x?digest=y", {"Authorization": "Bearer t"})
    said = await heard(lambda connection: connection.request(put, [b"abc", b"def"], length=6), b"abcdef")
    lines = said.split(b"\r\n")
    assert lines[0] == b"PUT /x?digest=y HTTP/1.1"
    assert b"Authorization: Bearer t" in lines
    assert b"Content-Length: 6" in lines
    assert lines[-1] == b"abcdef"


async def test_a_body_goes_out_in_chunks() -> None:
    """Each part is a chunk, empty parts are none, and the last chunk ends the body."""
    patch = Request("PATCH", "/x", {})
    parts: list[bytes | memoryview] = [b"abc", b"", memoryview(b"0123456789abcdef")]
    said = await heard(lambda connection: connection.request(patch, parts, chunked=True), b"0\r\n\r\n")
    assert said.endswith(b"\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n")


async def test_an_early_refusal_is_heard() -> None:
    """When the server refuses a body and stops reading it, the answer is what counts, not the broken pipe."""

    async def refuse(stream: trio.SocketStream) -> None:
        await head_of(stream, bytearray())
        await stream.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        while await stream.receive_some():  # take in what was sent, as servers do, so that the answer is not lost
            pass

    async with serving(refuse) as endpoint, await Connection.open(endpoint) as connection:
        reply = await connection.request(Request("PUT", "/", {}), [b"x" * 100_000] * 5, length=500_000)
    assert reply.status == 401


async def test_nobody_listening_is_an_error() -> None:
    """A port where nobody listens raises at once."""
    async with serving(answering()) as endpoint:
        pass
    with pytest.raises(OSError, match="refused"):
        await Connection.open(endpoint)


async def test_tls(tmp_path: Path) -> None:
    """With a certificate to trust the client speaks TLS, for small and for large answers."""
    pair = make_pair(tmp_path, "tls")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate_path, pair.key_path)

    async def handle(stream: trio.SSLStream[trio.SocketStream]) -> None:
        for body in (b"small", BIG):
            while not (await stream.receive_some()).endswith(b"\r\n\r\n"):
                pass
            await stream.send_all(ok(body))

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, handle, 0, context, host="127.0.0.1")
        listeners = await nursery.start(serve)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        async with await Connection.open(Endpoint("127.0.0.1", port, pair.certificate_path)) as connection:
            assert (await connection.request(get("/"), keep=True)).body == b"small"
            reply = await connection.request(get("/"), hashed=True)
        nursery.cancel_scope.cancel()
    assert reply.digest == f"sha256:{hashlib.sha256(BIG).hexdigest()}"


def test_headers_in_pythons_spelling() -> None:
    """Keyword arguments become header names."""
    request = get("/x", authorization="Bearer t", if_none_match="y")
    assert request.headers == {"Authorization": "Bearer t", "If-None-Match": "y"}
    head = request.head(Endpoint("127.0.0.1", 80, authority="registry.example"))
    assert head.startswith(b"GET /x HTTP/1.1\r\nHost: registry.example\r\n")
