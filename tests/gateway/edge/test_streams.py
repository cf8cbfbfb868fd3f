"""Bodies in and out through Quart: back-pressure, limits, idle times, and answers that never end cleanly by mistake."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pytest
import structlog
import trio
from quart import Response, redirect, request
from quart_trio import QuartTrio
from trio.testing import MockClock

from gateway.edge.streams import (
    CHUNK_BYTES,
    PROGRESS_BYTES,
    WHOLE_BODY_BYTES,
    BodyTooLarge,
    ClientGone,
    ClientStalled,
    blob_response,
    discard,
    install,
    read_chunks,
    read_whole,
)
from tests.gateway.wire.loopback import Gateway, patient_clock, read_until_closed

BLOB = bytes(range(256)) * 4096  # 1 MiB
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHUNKED = PUT + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged; nothing is printed."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def autojump_clock() -> MockClock:
    """In place of the ready-made one: these tests wait for the kernel, too."""
    return patient_clock()


class Source:
    """A source that knows whether it is open, and may fail at a chunk (or when it is opened)."""

    def __init__(self, chunks: list[bytes], *, fail_at: int | None = None, fail_opening: bool = False) -> None:
        self.parts = chunks
        self.fail_at = fail_at
        self.fail_opening = fail_opening
        self.history: list[str] = []

    async def __aenter__(self) -> Self:
        self.history.append("opened")
        if self.fail_opening:
            raise Broken("opening")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.history.append("closed")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks in order."""
        try:
            for number, part in enumerate(self.parts):
                if number == self.fail_at:
                    raise Broken("reading")
                await trio.lowlevel.checkpoint()
                yield part
        finally:
            self.history.append("ended")


class Broken(Exception):
    """What a source raises."""


def app_with(handler: Callable[[], Awaitable[Any]]) -> QuartTrio:
    """An application with one handler for everything."""
    app = QuartTrio(__name__)
    install(app)
    app.add_url_rule("/", view_func=handler, methods=["GET", "PUT"])

    @app.errorhandler(Broken)
    async def broken(error: Broken) -> tuple[str, int]:
        return f"broken while {error}", 503

    return app


async def exchange(handler: Callable[[], Awaitable[Any]], raw: bytes) -> bytes:
    """What comes back for these bytes, until the server closes."""
    answer: list[bytes] = []
    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:

        async def ask() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the server may have heard enough
                await client.send_all(raw)
                await client.send_eof()

        nursery.start_soon(ask)
        answer.append(await read_until_closed(client))
    return answer[0]


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, fields and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split(" ")[1]), fields, body


# Requests


@pytest.mark.parametrize("sizes", [[1], [1000] * 50, [CHUNK_BYTES], [CHUNK_BYTES + 1], [300_000, 5, 700_000]])
async def test_a_body_comes_in_full_chunks(sizes: list[int]) -> None:
    """However it is sent, the handler gets all bytes in order, in chunks of at most 256 KiB, coalesced."""
    seen: list[bytes] = []

    async def handler() -> str:
        async with read_chunks(request, idle_s=5) as chunks:
            seen.extend([chunk async for chunk in chunks])
        return str(chunks.received_bytes)

    body = [hashlib.sha256(b"%d" % number).digest() * (size // 32 + 1) for number, size in enumerate(sizes)]
    body = [part[:size] for part, size in zip(body, sizes, strict=True)]
    raw = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in body)

    status, _, text = split(await exchange(handler, CHUNKED + raw + b"0\r\n\r\n"))

    assert (status, int(text)) == (200, sum(sizes))
    assert b"".join(seen) == b"".join(body)
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in seen)
    assert len(seen) <= sum(sizes) // CHUNK_BYTES + 8  # the network may pause for a moment here and there


async def test_an_empty_body_has_no_chunks() -> None:
    """Neither with a length of zero nor without one, nor chunked."""

    async def handler() -> str:
        async with read_chunks(request, idle_s=5) as chunks:
            return str([chunk async for chunk in chunks])

    for raw in (GET, PUT + b"Content-Length: 0\r\n\r\n", CHUNKED + b"0\r\n\r\n"):
        assert split(await exchange(handler, raw))[2] == b"[]"


async def test_a_pause_ends_a_chunk_not_the_body(autojump_clock: MockClock) -> None:
    """A client that pauses gets its bytes handled: a begun chunk waits only a moment for more."""
    times: list[tuple[float, bytes]] = []

    async def handler() -> str:
        async with read_chunks(request, idle_s=60) as chunks:
            async for chunk in chunks:
                times.append((round(trio.current_time()), chunk))
        return ""

    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:
        await client.send_all(PUT + b"Content-Length: 6\r\n\r\n")
        for part in (b"ab", b"cd", b"ef"):
            await client.send_all(part)
            await trio.sleep(20)
        await read_until_closed(client)

    assert times == [(0, b"ab"), (20, b"cd"), (40, b"ef")]


@pytest.mark.parametrize("reader", ["chunks", "whole", "quart"])
async def test_a_stalled_client_is_given_up(autojump_clock: MockClock, reader: str) -> None:
    """One that drips fewer than 64 KiB per idle time ends as ClientStalled, after every byte that came."""
    seen: list[Any] = []

    async def by_chunks() -> None:
        async with read_chunks(request, idle_s=30) as chunks:
            async for chunk in chunks:
                seen.append(chunk)

    async def by_quart() -> None:
        await request.get_data()

    readers: dict[str, Callable[[], Awaitable[Any]]] = {
        "chunks": by_chunks,
        "whole": lambda: read_whole(request, limit_bytes=100, idle_s=30),
        "quart": by_quart,
    }

    async def handler() -> str:
        with pytest.raises(ClientStalled):
            await readers[reader]()
        seen.append(round(trio.current_time()))
        return "gave up"

    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:
        await client.send_all(PUT + b"Content-Length: 6\r\n\r\nabc")
        await trio.sleep(20)
        await client.send_all(b"d")
        await read_until_closed(client)

    assert seen == ([b"abc", b"d", 30] if reader == "chunks" else [30])


async def test_a_client_that_leaves_is_told_after_its_bytes() -> None:
    """ClientGone comes when everything before was handed out, and again at every further try."""
    seen: list[Any] = []

    async def handler() -> str:
        async with read_chunks(request, idle_s=5) as chunks:
            for _ in range(3):
                try:
                    seen.append(await anext(aiter(chunks)))
                except ClientGone as error:
                    seen.append(type(error))
        return ""

    await exchange(handler, PUT + b"Content-Length: 6\r\n\r\nabc")

    assert seen == [b"abc", ClientGone, ClientGone]


async def test_nothing_is_read_before_the_handler_asks() -> None:
    """Real back-pressure: a handler that waits holds the client back, however large the body."""
    asked = trio.Event()

    async def handler() -> str:
        await asked.wait()
        return "enough"

    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:
        await client.send_all(PUT + b"Content-Length: %d\r\n\r\n" % (64 << 20))
        sent = 0
        with trio.move_on_after(0.05):
            while True:
                sent += await client.socket.send(BLOB)
        asked.set()
        assert b" 200 " in await read_until_closed(client)

    assert sent < 16 << 20


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_c7_a_whole_body_has_a_limit(framing: str) -> None:
    """Row C7: at the limit it is read, one byte more is BodyTooLarge, also without a declared length."""

    async def handler() -> str:
        try:
            return str(len(await read_whole(request, limit_bytes=1000, idle_s=5)))
        except BodyTooLarge as error:
            return f"over {error.limit_bytes}"

    said = []
    for size in (1000, 1001):
        body = bytes(size)
        if framing == "length":
            raw = PUT + b"Content-Length: %d\r\n\r\n" % size + body
        else:
            raw = CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
        said.append(split(await exchange(handler, raw))[2])

    assert said == [b"1000", b"over 1000"]


async def test_c7_a_declared_length_over_the_limit_is_refused_unread() -> None:
    """The client is not asked for what nobody wants: no 100 Continue."""

    async def handler() -> str:
        with pytest.raises(BodyTooLarge):
            await read_whole(request, limit_bytes=10, idle_s=5)
        return "no"

    answer = await exchange(handler, PUT + b"Expect: 100-continue\r\nContent-Length: 11\r\n\r\n")

    assert b"100 Continue" not in answer
    assert split(answer)[2] == b"no"


async def test_the_rest_of_a_body_can_be_discarded() -> None:
    """A client that only sends is heard out, up to a limit; leaving or stalling meanwhile changes nothing."""

    async def handler() -> tuple[str, int]:
        await discard(request, limit_bytes=2 << 20, idle_s=0.01)
        return "too large", 413

    for size in (10, 2 << 20, 4 << 20):
        answer = await exchange(handler, PUT + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        assert split(answer)[0] == 413
    assert split(await exchange(handler, PUT + b"Content-Length: 20\r\n\r\nabc"))[0] == 413


async def test_quart_s_own_readers_work_within_bounds() -> None:
    """JSON, forms and raw data are read by Quart as ever, repeatedly, but never without a bound."""
    seen: list[Any] = []

    async def handler() -> str:
        if request.content_type == "application/json":
            seen.extend([await request.get_json(), await request.get_data()])
        else:
            seen.append(dict(await request.form))
        return ""

    await exchange(handler, PUT + b'Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}')
    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=1"
    await exchange(handler, PUT + form)

    assert seen == [{"a": 1}, b'{"a":1}', {"a": "1"}]


async def test_quart_s_own_readers_stop_at_their_bound() -> None:
    """A body without a length that never ends is BodyTooLarge soon after the bound."""

    async def handler() -> str:
        with pytest.raises(BodyTooLarge):
            await request.get_data()
        return "no"

    piece = b"%x\r\n%s\r\n" % (len(BLOB), BLOB)

    assert b"\r\n\r\nno" in await exchange(handler, CHUNKED + piece * (WHOLE_BODY_BYTES // len(BLOB) + 1))


async def test_without_install_the_readers_say_so() -> None:
    """Forgetting `install` is a loud mistake."""
    app = QuartTrio(__name__)
    async with app.test_request_context("/"):
        with pytest.raises(TypeError, match="install"):
            await read_whole(request, limit_bytes=1, idle_s=1)


# Answers


async def test_a_blob_is_answered_exactly() -> None:
    """Length and type as given, every byte, no charset, no encoding; the source is closed."""
    source = Source([BLOB[:1000], BLOB[1000:]])

    async def handler() -> Response:
        extra = {"Docker-Content-Digest": "sha256:x"}
        return blob_response(source, size_bytes=len(BLOB), content_type="text/plain", headers=extra)

    raw = GET.replace(b"Connection", b"Accept-Encoding: gzip, zstd\r\nConnection")
    status, fields, body = split(await exchange(handler, raw))

    assert (status, fields["content-length"], fields["content-type"]) == (200, str(len(BLOB)), "text/plain")
    assert fields["docker-content-digest"] == "sha256:x"
    assert not {"content-encoding", "transfer-encoding"} & fields.keys()
    assert body == BLOB
    assert source.history == ["opened", "ended", "closed"]


async def test_gen_10_head_never_touches_the_source() -> None:
    """Row GEN-10: the same head with the real length, and no work."""
    source = Source([BLOB])

    async def handler() -> Response:
        return blob_response(source, size_bytes=len(BLOB), content_type="a/b", status=206)

    status, fields, body = split(await exchange(handler, GET.replace(b"GET", b"HEAD", 1)))

    assert (status, fields["content-length"], body) == (206, str(len(BLOB)), b"")
    assert source.history == []


async def test_head_runs_no_generator() -> None:
    """Also for answers that are generated in other ways nothing is generated for HEAD."""
    ran: list[int] = []

    async def generate() -> AsyncIterator[bytes]:
        ran.append(1)
        yield b"x"

    async def handler() -> Response:
        return Response(generate(), headers={"Content-Length": "1"})

    assert split(await exchange(handler, GET.replace(b"GET", b"HEAD", 1)))[1]["content-length"] == "1"
    assert ran == []


async def test_an_empty_blob_is_an_answer() -> None:
    """Zero bytes from a source without chunks."""

    async def handler() -> Response:
        return blob_response(Source([]), size_bytes=0, content_type="a/b")

    assert split(await exchange(handler, GET))[0] == 200


@pytest.mark.parametrize("broken", [Source([BLOB], fail_opening=True), Source([BLOB], fail_at=0)])
async def test_a_failure_before_the_first_byte_is_an_ordinary_error(broken: Source) -> None:
    """A source that cannot be opened or read goes to the application's error handler; the connection lives on."""

    async def handler() -> Response:
        return blob_response(broken, size_bytes=len(BLOB), content_type="a/b")

    answer = await exchange(handler, GET.replace(b"Connection: close\r\n", b"") * 2)

    assert answer.count(b"HTTP/1.1 503 ") == 2
    assert b"broken while" in answer


async def test_a_failure_without_a_handler_is_500() -> None:
    """An error before the first byte that nobody maps is a defect, not a cut connection."""

    class Defective(Source):
        async def __aenter__(self) -> Self:
            raise LookupError("a defect")

    async def handler() -> Response:
        return blob_response(Defective([]), size_bytes=1, content_type="a/b")

    status, _, body = split(await exchange(handler, GET))

    assert status == 500
    assert b"a defect" not in body


@pytest.mark.parametrize(
    ("source", "size"),
    [
        (Source([BLOB] * 3, fail_at=2), 3 * len(BLOB)),
        (Source([BLOB]), len(BLOB) + 1),
        (Source([BLOB] * 2), len(BLOB) + 1),
    ],
    ids=["failure_midway", "fewer_bytes", "more_bytes"],
)
async def test_a_failure_after_the_first_byte_cuts_the_answer(source: Source, size: int) -> None:
    """What the client has is less than its Content-Length, and the source is closed."""

    async def handler() -> Response:
        return blob_response(source, size_bytes=size, content_type="a/b")

    status, fields, body = split(await exchange(handler, GET))

    assert (status, int(fields["content-length"])) == (200, size)
    assert 0 < len(body) < size
    assert source.history == ["opened", "ended", "closed"]


async def test_a_client_that_leaves_closes_the_source() -> None:
    """Midway through a large answer: the source ends and is closed at the next chunk."""
    source = Source([BLOB] * 64)

    async def handler() -> Response:
        return blob_response(source, size_bytes=64 * len(BLOB), content_type="a/b")

    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:
        await client.send_all(GET)
        await client.receive_some()
    assert source.history == ["opened", "ended", "closed"]


async def test_no_totals_cut_a_long_exchange(autojump_clock: MockClock) -> None:
    """Ten minutes of an upload at 1.3 KiB/s and of a slow answer are fine."""

    async def handler() -> Response:
        async with read_chunks(request, idle_s=60) as chunks:
            async for _ in chunks:
                pass

        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(6):
                await trio.sleep(50)
                yield b"x"

        return Response(slowly(), headers={"Content-Length": "6"})

    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:
        await client.send_all(PUT + b"Content-Length: %d\r\n\r\n" % (6 * PROGRESS_BYTES))
        for _ in range(6):
            await trio.sleep(50)
            await client.send_all(bytes(PROGRESS_BYTES))
        body = split(await read_until_closed(client))[2]

    assert body == b"x" * 6
    assert trio.current_time() > 590


async def test_werkzeug_s_own_answers_are_sent() -> None:
    """Redirects and unknown paths, which Quart makes by Werkzeug."""

    async def handler() -> Any:
        return redirect("/elsewhere")

    assert split(await exchange(handler, GET))[0] == 302
    assert split(await exchange(handler, GET.replace(b"/ ", b"/none ", 1)))[0] == 404
