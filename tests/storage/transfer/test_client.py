"""The client against servers that behave, over plain TCP and TLS: answers, reuse, retries, bounds."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
import trio
from trio.testing import MockClock

from storage.transfer import (
    Broken,
    Client,
    Payload,
    Stream,
)
from tests.storage.transfer.requests import get
from tests.storage.transfer.scripted import (
    EMPTY,
    HELLO,
    OK,
    Peer,
    Serve,
    falling_silent,
    saying,
    saying_once,
)


async def test_answer_has_status_headers_and_body(serve_both: Serve, client: Client) -> None:
    """What the server says arrives as it was said."""
    server = await serve_both(saying(b"HTTP/1.1 404 Not Found\r\nETag: x\r\nContent-Length: 5\r\n\r\nhello"))
    async with client.request("GET", server.origin, "/a?b=c", [("X", "y")]) as response:
        assert response.status == 404
        assert response.header("etag") == "x"
        assert response.header("range") == ""
        assert response.header("range", "none") == "none"
        assert response.size_bytes == 5
        assert [chunk async for chunk in response.chunks()] == [b"hello"]
        assert [chunk async for chunk in response.chunks()] == []


async def test_request_arrives_as_given(serve_both: Serve, client: Client) -> None:
    """Line, fields, Host and the bytes of the payload."""
    asked = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.asked())
        await peer.say(EMPTY)

    server = await serve_both(script)
    async with client.request("PUT", server.origin, "/k%20?x=", [("If-None-Match", "*")], b"payload"):
        pass
    (request,) = asked
    assert request.line == "PUT /k%20?x= HTTP/1.1"
    assert request.field("host") == server.origin.authority
    assert request.field("if-none-match") == "*"
    assert request.body == b"payload"


async def test_connection_is_reused(serve_both: Serve, client: Client) -> None:
    """After exactly its body the same connection carries the next request."""
    server = await serve_both(saying(HELLO))
    for _ in range(5):
        assert await get(client, server.origin) == b"hello"
    assert server.accepted == 1
    statistics = client.statistics()
    assert (statistics.opened, statistics.reused, statistics.idle, statistics.in_use) == (1, 4, 1, 0)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n"),
        ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
async def test_answers_without_body_keep_the_connection(
    serve: Serve, client: Client, method: str, answer: bytes
) -> None:
    """They end with their head, and the next answer is not mistaken for their body."""
    server = await serve(saying(answer))
    for _ in range(3):
        async with client.request(method, server.origin, "/", []) as response:
            assert response.size_bytes == 0
            assert await response.read(10) == b""
    assert server.accepted == 1


async def test_chunked_answer_keeps_the_connection(serve_both: Serve, client: Client) -> None:
    """Its end is known, and trailers are dropped."""
    answer = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    server = await serve_both(saying(answer, b"5\r\nhel", b"lo\r\n", b"1;x=y\r\n!\r\n0\r\nX: y\r\n", b"\r\n"))
    for _ in range(3):
        assert await get(client, server.origin) == b"hello!"
    assert server.accepted == 1


async def test_unread_body_that_has_come_anyway_keeps_the_connection(serve: Serve, client: Client) -> None:
    """Who looks at the status alone does not pay with the connection, where nothing is left to wait for."""
    server = await serve(saying(HELLO))
    for _ in range(3):
        async with client.request("GET", server.origin, "/", []) as response:
            assert response.status == 200
    assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        HELLO + b"beyond",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nbeyond",
    ],
)
async def test_connection_is_not_reused(serve: Serve, client: Client, answer: bytes) -> None:
    """The server said that it closes, or sent more than the answer."""
    server = await serve(saying(answer))
    assert await get(client, server.origin) == b"hello"
    await server.wait_until_open(0)
    assert await get(client, server.origin) == b"hello"
    assert server.accepted == 2


async def test_body_until_the_end_of_the_connection(serve_both: Serve, client: Client) -> None:
    """Without length and chunks the end of the connection is the end of the body, over TLS with its goodbye."""
    server = await serve_both(saying_once(OK + b"\r\nhel", b"lo"))
    async with client.request("GET", server.origin, "/", []) as response:
        assert response.size_bytes is None
        assert await response.read(10) == b"hello"


async def test_interim_answers_are_skipped(serve: Serve, client: Client) -> None:
    """100 and 103 come before the answer, not instead of it."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 3\r\n\r\n"
    server = await serve(saying(interim, interim + HELLO))
    assert await get(client, server.origin) == b"hello"
    assert server.accepted == 1


async def test_kept_connection_that_the_server_closed_is_not_used(serve_both: Serve, client: Client) -> None:
    """A connection with something to read before anybody asked is dead; a new one is opened."""
    server = await serve_both(saying_once(HELLO), saying(HELLO))
    assert await get(client, server.origin) == b"hello"
    await server.wait_until_open(0)
    assert await get(client, server.origin, "POST") == b"hello"
    assert server.accepted == 2


async def test_kept_connection_on_which_the_server_speaks_is_not_used(serve: Serve, client: Client) -> None:
    """Bytes that nobody asked for would be taken for the answer."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(HELLO, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await peer.until_closed()

    server = await serve(script, saying(HELLO))
    assert await get(client, server.origin) == b"hello"
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert await get(client, server.origin) == b"hello"
    assert server.accepted == 2
    await server.wait_until_open(1)


async def test_old_connections_are_closed(serve: Serve, client: Client, autojump_clock: MockClock) -> None:
    """After 20 s at rest a connection is not used again, but closed."""
    server = await serve(saying(HELLO))
    await get(client, server.origin)
    await trio.sleep(19)
    await get(client, server.origin)
    assert server.accepted == 1
    await trio.sleep(21)
    await get(client, server.origin)
    assert server.accepted == 2
    await server.wait_until_open(1)


async def dies_after_one(peer: Peer) -> None:
    """Answer once; take the next request and hang up."""
    await peer.asked()
    await peer.say(HELLO)
    await peer.head()


@pytest.mark.parametrize("payload", [b"", b"x" * 1_000_000])
async def test_dead_reused_connection_is_retried_once(serve_both: Serve, client: Client, payload: Payload) -> None:
    """The server hung up on a kept connection without a word: the request goes through a new one."""
    asked = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.asked())
        await peer.say(HELLO)

    server = await serve_both(dies_after_one, script)
    await get(client, server.origin)
    async with client.request("PUT", server.origin, "/", [], payload) as response:
        assert response.status == 200
    assert asked[0].body == payload
    assert server.accepted == 2


async def test_retry_is_not_retried(serve: Serve, client: Client) -> None:
    """A server that hangs up on new connections, too, is broken."""

    async def script(peer: Peer) -> None:
        await peer.head()

    server = await serve(dies_after_one, script)
    await get(client, server.origin)
    with pytest.raises(Broken):
        await get(client, server.origin)
    assert server.accepted == 2


async def test_new_connection_is_not_retried(serve: Serve, client: Client) -> None:
    """What a fresh connection does is the server's answer."""

    async def script(peer: Peer) -> None:
        await peer.head()

    server = await serve(script)
    with pytest.raises(Broken, match="before the answer"):
        await get(client, server.origin)
    assert server.accepted == 1


async def test_begun_answer_is_not_retried(serve: Serve, client: Client) -> None:
    """After a byte of the answer nobody can say that nothing happened."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(HELLO)
        await peer.asked()
        await peer.say(b"HTTP/1.1 2")

    server = await serve(script)
    await get(client, server.origin)
    with pytest.raises(Broken, match="cut"):
        await get(client, server.origin)
    assert server.accepted == 1


async def test_post_is_not_retried(serve: Serve, client: Client) -> None:
    """It may have been done already (RFC 9110, 9.2.2)."""
    server = await serve(dies_after_one, saying(HELLO))
    await get(client, server.origin)
    with pytest.raises(Broken):
        await get(client, server.origin, "POST")
    assert server.accepted == 1


async def test_stream_is_not_retried(serve: Serve, client: Client) -> None:
    """It was read, and cannot be read again."""

    async def source() -> AsyncGenerator[bytes, None]:
        yield b"hello"

    server = await serve(dies_after_one, saying(HELLO))
    await get(client, server.origin)
    async with aclosing(source()) as chunks:  # the client may have taken the chunk or not when it sees the end
        with pytest.raises(Broken):
            async with client.request("PUT", server.origin, "/", [], Stream(5, chunks)):
                pass
    assert server.accepted == 1


async def test_connections_are_bounded(serve: Serve) -> None:
    """The next request waits until a connection is free, and can be cancelled while it waits."""
    server = await serve(saying(HELLO))
    client = Client(connections=2)
    async with client.request("GET", server.origin, "/", []), client.request("GET", server.origin, "/", []):
        with trio.move_on_after(0.01) as scope:
            await get(client, server.origin)
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, client, server.origin)
            await trio.testing.wait_all_tasks_blocked()
            assert client.statistics().waiting == 1
            nursery.cancel_scope.cancel()
    assert await get(client, server.origin) == b"hello"
    assert server.accepted == 2
    await client.aclose()


async def test_connections_at_rest_make_room_for_another_origin(serve: Serve) -> None:
    """The bound holds for all origins together, and rest does not block work."""
    one, other = await serve(saying(HELLO)), await serve(saying(HELLO))
    client = Client(connections=1)
    await get(client, one.origin)
    assert await get(client, other.origin) == b"hello"
    await one.wait_until_open(0)
    assert client.statistics().idle == 1
    await client.aclose()
    await other.wait_until_open(0)


async def test_closed_client_refuses(serve: Serve) -> None:
    """After `aclose` nothing new begins; what is in flight ends, and keeps no connection."""
    server = await serve(saying(HELLO))
    client = Client()
    async with client.request("GET", server.origin, "/", []) as response:
        await client.aclose()
        assert await response.read(10) == b"hello"
    await server.wait_until_open(0)
    with pytest.raises(trio.ClosedResourceError):
        await get(client, server.origin)


async def test_error_within_the_block_comes_out_as_it_is(serve: Serve, client: Client) -> None:
    """And the connection, whose body is unread, is closed."""
    server = await serve(falling_silent(OK + b"Content-Length: 5\r\n\r\n"))
    with pytest.raises(KeyError):
        async with client.request("GET", server.origin, "/", []):
            raise KeyError
    await server.wait_until_open(0)
