"""Answers that somebody remembers: sent as they are, in place of the application's, and released exactly once."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

import pytest
import trio

from gateway.wire.recall import Asked, FileSpan, Recalled
from tests.gateway.wire.loopback import Gateway, read_until_closed

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n"
GET = b"GET /known HTTP/1.1\r\nHost: x\r\nAuthorization:  Bearer abc \r\n\r\n"
LAST = GET.replace(b"Host", b"Connection: close\r\nHost")


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    """Three megabytes that say where they are."""
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(b"%07d\n" % number for number in range(3 << 17)))
        file.flush()
        yield file


class Memory:
    """Knows one path."""

    def __init__(self, body: Any, size_bytes: int) -> None:
        self.body = body
        self.size_bytes = size_bytes
        self.asked: list[Asked] = []
        self.released = 0

    def recall(self, asked: Asked) -> Recalled | None:
        """The answer for /known."""
        self.asked.append(asked)
        if asked.target != b"/known":
            return None
        return Recalled(200, HEAD % self.size_bytes, self.body, self.size_bytes, self._release)

    def _release(self) -> None:
        self.released += 1


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says that it was asked."""
    await send({"type": "http.response.start", "status": 418, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def answers(memory: Memory, requests: bytes, nursery: trio.Nursery) -> bytes:
    """All that comes back for these requests."""
    async with Gateway(application, nursery, recall=memory).connect() as client:
        await client.send_all(requests)
        await client.send_eof()
        return await read_until_closed(client)


async def test_the_application_is_not_asked_for_what_is_known(nursery: trio.Nursery) -> None:
    """The remembered answer comes with the server's own fields; what is not known goes to the application."""
    memory = Memory(b"hello", 5)

    said = await answers(memory, GET + GET.replace(b"known", b"other") + LAST, nursery)

    first, other, last = said.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 OK\r\ncontent-length: 5\r\ndate: ")
    assert first.endswith(b" GMT\r\n\r\nhello")
    assert other.startswith(b"418 ")
    assert last.endswith(b"connection: close\r\n\r\nhello")
    assert memory.released == 2


async def test_memory_is_told_what_was_asked(nursery: trio.Nursery) -> None:
    """Names in lower case, values without blanks, the raw target, who asks and how."""
    memory = Memory(b"", 0)

    await answers(memory, GET, nursery)

    (asked,) = memory.asked
    assert (asked.method, asked.target, asked.scheme) == (b"GET", b"/known", "http")
    assert asked.headers == [(b"host", b"x"), (b"authorization", b"Bearer abc")]
    assert asked.client[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "request_",
    [
        GET.replace(b"GET", b"PUT"),
        GET.replace(b"GET", b"DELETE"),
        GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"),
        GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
    ids=["put", "delete", "get_with_length", "get_with_chunks"],
)
async def test_only_reading_without_a_body_is_recalled(request_: bytes, nursery: trio.Nursery) -> None:
    """Everything else is the application's."""
    memory = Memory(b"hello", 5)

    assert (await answers(memory, request_, nursery)).startswith(b"HTTP/1.1 418 ")
    assert memory.asked == []


async def test_a_file_is_sent_with_its_frame(nursery: trio.Nursery, file: IO[bytes]) -> None:
    """Bytes and spans leave in their order, also spans of many turns, empty ones and several answers in a row."""
    whole = FileSpan(file.fileno(), 0, 3 << 20)
    parts = [b"begin", FileSpan(file.fileno(), 8, 24), b"|", FileSpan(file.fileno(), 5, 5), whole, b"end"]
    memory = Memory(parts, 5 + 16 + 1 + (3 << 20) + 3)
    file.seek(0)
    content = file.read()

    first, second = (await answers(memory, GET + LAST, nursery)).split(b"HTTP/1.1 200 OK")[1:]

    expected = b"begin" + content[8:24] + b"|" + content + b"end"
    assert first.partition(b"\r\n\r\n")[2] == expected
    assert second.partition(b"\r\n\r\n")[2] == expected
    assert memory.released == 2


@pytest.mark.parametrize("kind", ["empty", "bytes_last"])
async def test_the_last_part_is_not_held_back(kind: str, nursery: trio.Nursery, file: IO[bytes]) -> None:
    """Whatever an answer ends with leaves at once: the kernel waits 200 ms with what is said to go on."""
    span = FileSpan(file.fileno(), 0, 0) if kind == "empty" else FileSpan(file.fileno(), 0, 8)
    memory = Memory(span, 0) if kind == "empty" else Memory([b"begin", span, b"end"], 16)
    took = []
    async with Gateway(application, nursery, recall=memory).connect() as client:
        for _ in range(5):
            began = time.perf_counter()
            await client.send_all(GET)
            said = b""
            while not said.endswith(b"end" if memory.size_bytes else b"\r\n\r\n"):
                said += await client.receive_some()
            took.append(time.perf_counter() - began)

    assert min(took) < 0.03


async def test_a_file_that_is_too_short_cuts_the_answer(nursery: trio.Nursery, file: IO[bytes]) -> None:
    """Fewer bytes than promised never look complete, and what was held is released."""
    memory = Memory(FileSpan(file.fileno(), 0, 4 << 20), 4 << 20)

    said = b""
    with suppress(trio.BrokenResourceError):
        said = await answers(memory, GET, nursery)

    assert len(said.partition(b"\r\n\r\n")[2]) <= 3 << 20
    assert memory.released == 1


async def test_a_client_that_leaves_releases(nursery: trio.Nursery, file: IO[bytes]) -> None:
    """An answer that nobody takes holds no file."""
    memory = Memory([FileSpan(file.fileno(), 0, 3 << 20)] * 20, 60 << 20)
    gateway = Gateway(application, nursery, recall=memory)
    async with gateway.connect() as client:
        await client.send_all(GET)
        await client.receive_some(1000)
    await until(lambda: gateway.census.statistics().open == 0)

    assert memory.released == 1


async def until(holds: Callable[[], bool]) -> None:
    """Wait for the server to notice."""
    with trio.fail_after(30):
        while not holds():  # noqa: ASYNC110 - a socket or thread tells, no event
            await trio.sleep(0.001)
