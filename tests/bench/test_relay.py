"""The relay changes nothing and counts what the client sends, however it is cut."""

import pytest
import trio

from bench.drivers.relay import Count, Relay, relay
from tests.bench.scripted import head_of, serving

FIRST = b"PUT /v2/app/blobs/uploads/1?digest=x HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n"
SECOND = b"GET /v2/app/tags/list HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_requests_are_counted_once_wherever_they_are_cut(size: int) -> None:
    """A first line may come byte by byte; what lies between two requests is a body."""
    seen = Relay(1)
    count = Count(seen)
    stream = (FIRST + b"hello" + SECOND) * 3

    for start in range(0, len(stream), size):
        count.see(stream[start : start + size])

    assert (seen.requests, seen.sent_bytes) == (6, len(stream))


async def test_bytes_pass_unchanged() -> None:
    """Both ways; the client's are counted, the answers are not."""

    async def echo(stream: trio.SocketStream) -> None:
        pending = bytearray()
        while (head := await head_of(stream, pending)) is not None:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)

    async with serving(echo) as endpoint, relay(endpoint) as between:
        host, _, port = between.address.partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as client:
            await client.send_all(SECOND)
            answer = bytearray()
            while SECOND.strip() not in answer:
                answer += await client.receive_some()

        assert (between.requests, between.sent_bytes) == (1, len(SECOND))
