"""Idle times: whoever does not move is given up, whoever moves slowly is waited for, in both directions."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from storage.transfer import Client, Payload, Stalled, Stream
from tests.storage.transfer.requests import LARGE, get, put
from tests.storage.transfer.scripted import EMPTY, HELLO, OK, Peer, Serve, falling_silent


async def deaf(peer: Peer) -> None:
    """Take nothing and say nothing until the client has left."""
    await peer.head()
    await trio.sleep(1000)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 2", OK + b"Content-Length: 5\r\n\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe"]
)
async def test_silence_ends_after_the_idle_time(
    serve_both: Serve, client: Client, autojump_clock: MockClock, said: bytes
) -> None:
    """A server that stops in its answer costs `idle_s`, and the connection."""
    server = await serve_both(falling_silent(said))
    start = trio.current_time()
    with pytest.raises(Stalled, match="10 s") as caught:
        await get(client, server.origin)
    assert caught.value.retryable
    assert trio.current_time() - start == pytest.approx(10, abs=1)
    await server.wait_until_open(0)


async def test_server_that_takes_no_payload_is_stalled(
    serve_both: Serve, client: Client, autojump_clock: MockClock, large: Payload
) -> None:
    """When the kernel's buffers are full and nothing moves for `idle_s`."""
    server = await serve_both(deaf)
    start = trio.current_time()
    with pytest.raises(Stalled, match="nothing moved for 10 s"):
        await put(client, server.origin, large)
    assert trio.current_time() - start == pytest.approx(10, abs=2)


async def test_slow_body_is_no_stall(serve_both: Serve, client: Client, autojump_clock: MockClock) -> None:
    """A byte every nine seconds is slow, but moves: the idle time is per chunk, never for the whole."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK + b"Content-Length: 5\r\n\r\n")
        for letter in b"hello":
            await trio.sleep(9)
            await peer.say(bytes([letter]))
        await peer.until_closed()

    server = await serve_both(script)
    assert await get(client, server.origin) == b"hello"


async def test_dripping_head_is_stalled(serve_both: Serve, client: Client, autojump_clock: MockClock) -> None:
    """A head is one chunk: from its first byte on it has the idle time to be complete."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        for letter in HELLO:
            await peer.say(bytes([letter]))
            await trio.sleep(3)

    server = await serve_both(script)
    start = trio.current_time()
    with pytest.raises(Stalled):
        await get(client, server.origin)
    assert trio.current_time() - start == pytest.approx(10, abs=1)
    await server.wait_until_open(0)


async def test_slow_taker_is_no_stall(serve: Serve, client: Client, autojump_clock: MockClock, large: Payload) -> None:
    """A server that reads a little every nine seconds is waited for."""

    async def script(peer: Peer) -> None:
        await peer.head()
        for _ in range(4):
            await trio.sleep(9)
            for _ in range(32):
                await peer._more()
        while len(peer.unread) < LARGE:
            await peer._more()
        await peer.say(EMPTY)

    server = await serve(script)
    assert await put(client, server.origin, large) == (200, b"")
    assert trio.current_time() >= 36


async def test_slow_source_is_no_stall(serve: Serve, client: Client, autojump_clock: MockClock) -> None:
    """The server is not blamed for the source, not even when it has said something meanwhile."""

    async def source() -> AsyncIterator[bytes]:
        for _ in range(3):
            await trio.sleep(100)
            yield b"1"

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(peer.unread) < 3:
            await peer._more()
        await peer.say(EMPTY)

    server = await serve(script)
    assert await put(client, server.origin, Stream(3, source())) == (200, b"")


async def test_slow_reader_is_no_stall(serve: Serve, client: Client, autojump_clock: MockClock) -> None:
    """The time between two chunks that the caller takes does not count."""
    server = await serve(falling_silent(OK + b"Content-Length: 300000\r\n\r\n" + bytes(300_000)))
    async with client.request("GET", server.origin, "/", []) as response:
        size = 0
        async for chunk in response.chunks():
            size += len(chunk)
            await trio.sleep(100)
    assert size == 300_000
