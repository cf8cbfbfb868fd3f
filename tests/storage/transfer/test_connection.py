"""One exchange against servers that misbehave: cuts, garbage, floods, and answers in any pieces."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.transfer import Broken, Client, TransferError
from storage.transfer.connection import Connection, Request
from tests.storage.transfer.memory import Memory, as_channel, pieces_of
from tests.storage.transfer.requests import get
from tests.storage.transfer.scripted import OK, Peer, Serve, saying_once, server_context

# --- connections that end


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        OK + b"Content-Length: 5\r\n",
        OK + b"Content-Length: 6\r\n\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_cut_answer_is_broken(serve_both: Serve, client: Client, answer: bytes) -> None:
    """Cut anywhere before its end, no answer passes for a whole one."""
    server = await serve_both(saying_once(answer))
    with pytest.raises(Broken):
        await get(client, server.origin)
    await server.wait_until_open(0)


async def test_cut_encrypted_answer_is_broken(serve: Serve, client: Client) -> None:
    """Over TLS an end without goodbye is a cut, for anybody on the way can forge it."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK + b"\r\nhello")
        await peer.cut()

    server = await serve(script, tls=server_context())
    with pytest.raises(Broken, match="within the body"):
        await get(client, server.origin)


async def test_reset_is_broken(serve: Serve, client: Client) -> None:
    """RST in the middle of a body."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK + b"Content-Length: 10\r\n\r\nhello")
        await trio.testing.wait_all_tasks_blocked(0.01)
        peer.reset()

    server = await serve(script)
    with pytest.raises(Broken):
        await get(client, server.origin)


async def test_broken_body_stays_broken(serve: Serve, client: Client) -> None:
    """Who catches the error and asks on is not told that the body has ended."""
    server = await serve(saying_once(OK + b"Content-Length: 10\r\n\r\nhello"))
    async with client.request("GET", server.origin, "/", []) as response:
        chunks = response.chunks()
        assert await anext(chunks) == b"hello"
        for _ in range(3):
            with pytest.raises(Broken, match="5 bytes before"):
                await anext(chunks)


# --- what is not HTTP


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 100,
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_garbage_is_broken(serve: Serve, client: Client, garbage: bytes) -> None:
    """It ends the exchange at once, or when nothing more comes."""
    server = await serve(saying_once(garbage))
    with pytest.raises(Broken):
        await get(client, server.origin)
    await server.wait_until_open(0)


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 5000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 5000),
        (OK + b"Content-Length: 0\r\n\r\n", b""),
    ],
)
async def test_endless_floods_are_bounded(serve: Serve, client: Client, start: bytes, more: bytes) -> None:
    """Heads, interim answers and trailers without end are refused, after little of them."""
    sent = []

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(start)
        try:
            while more:
                await peer.say(more)
                sent.append(len(more))
        finally:
            assert sum(sent) < 10_000_000

    server = await serve(script)
    if more:
        with pytest.raises(Broken):
            await get(client, server.origin)
    else:
        assert await get(client, server.origin) == b""
    await server.wait_until_open(0)


# --- any way to cut the bytes


BODIES = st.lists(st.binary(min_size=1, max_size=20), max_size=5)


@settings(max_examples=60)
@given(
    bodies=BODIES,
    framing=st.sampled_from(["length", "chunked", "end"]),
    cuts=st.sets(st.integers(0, 300)),
    data=st.data(),
)
def test_bytes_may_come_in_any_pieces(bodies: list[bytes], framing: str, cuts: set[int], data: st.DataObject) -> None:
    """The same answer comes out however it is cut; and a truncated one never passes for whole."""
    body = b"".join(bodies)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    match framing:
        case "length":
            raw = interim + OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
        case "chunked":
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in bodies)
            raw = OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        case _:
            raw = OK + b"\r\n" + body
    kept = data.draw(st.integers(0, len(raw)))

    async def received(raw: bytes) -> bytes:
        channel = Memory(pieces_of(raw, cuts))
        connection = Connection(as_channel(channel), idle_s=10)
        request = Request("GET", b"GET / HTTP/1.1\r\n\r\n", b"", "GET test")
        return await (await connection.exchange(request)).read(1000)

    assert trio.run(received, raw) == body
    if framing != "end" and kept < len(raw):
        with pytest.raises(Broken):
            trio.run(received, raw[:kept])


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sets(st.integers(0, 200)))
def test_any_bytes_at_all_give_an_answer_or_an_error(noise: bytes, cuts: set[int]) -> None:
    """Whatever a server says: an answer or a `TransferError`, and after the error the connection is closed."""

    async def received() -> None:
        channel = Memory(pieces_of(noise, cuts))
        connection = Connection(as_channel(channel), idle_s=10)
        try:
            response = await connection.exchange(Request("GET", b"GET / HTTP/1.1\r\n\r\n", b"", "GET test"))
        except TransferError:
            assert not channel.is_open
        else:
            assert response.status >= 200

    trio.run(received)
