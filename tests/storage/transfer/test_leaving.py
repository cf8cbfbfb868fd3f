"""Back-pressure, leaving early, and cancellation at any point: nothing is read ahead, lost, or left open."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from storage.transfer import Client, FileSpan, Origin, Payload, Stream
from tests.storage.transfer.requests import put
from tests.storage.transfer.scripted import OK, Peer, Serve, falling_silent, trusting_context


async def test_nothing_is_read_ahead(serve_both: Serve, client: Client) -> None:
    """A server is held up by a caller that does not ask for chunks: memory holds one of them."""
    sent = []

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK + b"Content-Length: 1000000000\r\n\r\n")
        for _ in range(1000):
            await peer.say(bytes(300_000))
            sent.append(1)

    server = await serve_both(script)
    async with client.request("GET", server.origin, "/", []) as response:
        assert 1 <= len(await anext(response.chunks())) <= 256 * 1024
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert len(sent) < 20
    await server.wait_until_open(0)


async def test_leaving_early_closes_at_once(serve_both: Serve, client: Client) -> None:
    """An abandoned tail costs what the kernel had read."""
    server = await serve_both(falling_silent(OK + b"Content-Length: 10\r\n\r\nhello"))
    async with client.request("GET", server.origin, "/", []) as response:
        assert await anext(response.chunks()) == b"hello"
        assert server.open == 1
    await server.wait_until_open(0)
    assert client.statistics().idle == 0


class CancelAfter(trio.abc.Instrument):
    """Cancels a scope after so many steps of the task that made this."""

    def __init__(self, steps: int) -> None:
        self.scope = trio.CancelScope()
        self.steps = steps
        self.task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count."""
        if task is self.task:
            self.steps -= 1
            if self.steps == 0:
                self.scope.cancel()


async def answering(peer: Peer) -> None:
    """Answer each request in chunks, some time after it."""
    while True:
        await peer.asked()
        await peer.say(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n")


async def thirds() -> AsyncGenerator[bytes, None]:
    """A source of 300,000 bytes."""
    for _ in range(3):
        await trio.lowlevel.checkpoint()
        yield bytes(100_000)


@asynccontextmanager
async def payload_of(kind: str, descriptor: int) -> AsyncIterator[Payload]:
    """300,000 bytes, or none."""
    match kind:
        case "bytes":
            yield bytes(300_000)
        case "file":
            yield FileSpan(descriptor, 0, 300_000)
        case "stream":
            async with aclosing(thirds()) as source:
                yield Stream(300_000, source)
        case _:
            yield b""


async def cancelled_after(steps: int, client: Client, origin: Origin, payload: Payload) -> bool:
    """Whether a request was cancelled before its end, when that happens after so many steps of its task."""
    cancelling = CancelAfter(steps)
    trio.lowlevel.add_instrument(cancelling)
    try:
        with cancelling.scope:
            assert await put(client, origin, payload) == (200, b"hello")
    finally:
        trio.lowlevel.remove_instrument(cancelling)
    return cancelling.scope.cancelled_caught


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bytes", "file", "stream", "none"])
async def test_cancelled_anywhere_nothing_stays_open(serve_both: Serve, large_file: int, kind: str) -> None:
    """At each point where the task can be cancelled, no connection is left, and none is kept half-way."""
    server = await serve_both(answering)
    steps, was_cancelled = 0, True
    while was_cancelled:
        steps += 1
        client = Client(tls=trusting_context(), connections=2)
        async with payload_of(kind, large_file) as payload:
            was_cancelled = await cancelled_after(steps, client, server.origin, payload)
        statistics = client.statistics()
        assert statistics.in_use == 0
        assert statistics.idle == int(not was_cancelled)
        await server.wait_until_open(statistics.idle)
        await client.aclose()
        await server.wait_until_open(0)
    assert steps > 5


async def test_cancelled_read_loses_nothing(serve: Serve, client: Client, autojump_clock: MockClock) -> None:
    """Who stops waiting for a chunk and asks again gets the one that came meanwhile."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK + b"Content-Length: 10\r\n\r\n")
        for part in (b"hello", b"world"):
            await trio.sleep(5)
            await peer.say(part)
        await peer.until_closed()

    server = await serve(script)
    got = b""
    async with client.request("GET", server.origin, "/", []) as response:
        chunks = response.chunks()
        while len(got) < 10:
            with trio.move_on_after(1):
                got += await anext(chunks)
    assert got == b"helloworld"
