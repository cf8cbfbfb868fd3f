"""A server may answer before it has read a payload, and hang up: what it said is heard, and never mistaken."""

from collections.abc import AsyncIterator

import pytest
import trio

from storage.transfer import Broken, Client, Payload, Stream
from tests.storage.transfer.requests import LARGE, put
from tests.storage.transfer.scripted import EMPTY, Peer, Serve

REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nno way"


async def test_refusal_stops_the_payload(serve_both: Serve, client: Client, large: Payload) -> None:
    """S3 says 403 before it has read the body: the answer counts at once, and the connection is given up."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(REFUSED)
        await peer.until_closed()

    server = await serve_both(script)
    assert await put(client, server.origin, large) == (403, b"no way")
    await server.wait_until_open(0)


async def test_refusal_of_a_server_that_hangs_up_is_heard(serve_both: Serve, client: Client, large: Payload) -> None:
    """It closes with the payload unread, so the kernel resets the connection; what it said before still counts."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(REFUSED)
        await peer.cut()

    server = await serve_both(script)
    assert await put(client, server.origin, large) == (403, b"no way")
    await server.wait_until_open(0)


async def test_interim_answer_does_not_stop_the_payload(serve_both: Serve, client: Client, large: Payload) -> None:
    """100 Continue in the middle of it means what it says."""
    got = []

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(peer.unread) < LARGE:
            await peer._more()
        got.append(len(peer.unread))
        await peer.say(EMPTY)
        await peer.until_closed()

    server = await serve_both(script)
    assert await put(client, server.origin, large) == (200, b"")
    assert got == [LARGE]
    assert client.statistics().idle == 1


async def test_success_before_the_payload_was_sent_is_broken(serve_both: Serve, client: Client, large: Payload) -> None:
    """Nobody can have kept what was not sent: such an answer belongs to another request, or is a lie."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(EMPTY)
        await peer.until_closed()

    server = await serve_both(script)
    with pytest.raises(Broken, match="before it was sent everything"):
        await put(client, server.origin, large)
    await server.wait_until_open(0)


async def test_source_is_cancelled_when_the_answer_comes(serve: Serve, client: Client) -> None:
    """A source that waits for its own client does not keep a refusal waiting."""
    waits, ended = trio.Event(), []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            waits.set()
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async def script(peer: Peer) -> None:
        await peer.head()
        await waits.wait()
        await peer.say(REFUSED)
        await peer.until_closed()

    server = await serve(script)
    assert await put(client, server.origin, Stream(5, source())) == (403, b"no way")
    assert ended == [True]


async def test_connection_that_ends_within_the_payload_is_broken(
    serve_both: Serve, client: Client, large: Payload
) -> None:
    """A part of it was read, and nothing said."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.cut()

    server = await serve_both(script)
    with pytest.raises(Broken) as caught:
        await put(client, server.origin, large)
    assert caught.value.retryable
    await server.wait_until_open(0)
