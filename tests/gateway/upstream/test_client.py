"""asks behind its door: what it is asked to do, what it is kept from doing, and that its shim is still needed."""

import subprocess
import sys
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from gateway.upstream.client import CONNECTIONS, Answer, ControlClient, Unreadable
from gateway.upstream.errors import UpstreamFailed, UpstreamRefused, UpstreamSlow
from storage.transfer import Origin
from tests.storage.transfer.scripted import (
    HELLO,
    Peer,
    Script,
    ScriptedServer,
    Serve,
    falling_silent,
    patient_clock,
    saying_once,
    server_context,
    trusting_context,
)

LIMIT = 1000


@pytest.fixture
def autojump_clock() -> MockClock:
    """In place of the ready-made one: these tests wait for the kernel, too."""
    return patient_clock()


async def everything_is_here(origin: Origin) -> Sequence[str]:
    """A resolver for which all names are this machine."""
    return ["127.0.0.1"]


def client(**how: float) -> ControlClient:
    """A client that believes the scripted servers."""
    return ControlClient(everything_is_here, tls=trusting_context(), **{"connect_s": 5.0, "answer_s": 30.0, **how})


async def get(server: ScriptedServer, method: str = "GET", **how: float) -> Answer:
    """What a server answers to one request."""
    return await client(**how).ask(method, server.origin, "/v2/a?b=c", [("X", "y")], limit_bytes=LIMIT)


@pytest.mark.slow
def test_the_shim_is_still_needed() -> None:
    """The day that asks makes a request without `trio.MultiError`, this fails: then take the shim out of client.py."""
    program = "import asks, trio; trio.run(asks.get, 'http://127.0.0.1:1/')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "has no attribute 'MultiError'" in ended.stderr


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_a_request_goes_out_and_its_answer_comes_back(serve: Serve, encrypted: bool) -> None:  # noqa: FBT001
    """Line, fields and the right Host; no coding is asked for and the connection is not kept."""
    asked = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.asked())
        await peer.say(b"HTTP/1.1 200 OK\r\nX-Y: z\r\nContent-Length: 5\r\n\r\nhello")
        assert await peer.until_closed() == 0

    server = await serve(script, tls=server_context() if encrypted else None)
    answer = await get(server)

    assert (answer.status, answer.header("x-y"), answer.header("absent", "no"), answer.body) == (
        200,
        "z",
        "no",
        b"hello",
    )
    (request,) = asked
    assert request.line == "GET /v2/a?b=c HTTP/1.1"
    assert request.field("host") == server.origin.authority
    assert request.field("x") == "y"
    assert request.field("accept-encoding") == "identity"
    assert request.field("connection") == "close"
    assert b"hello" not in repr(answer).encode()


async def test_repeated_fields_go_out_as_one(serve: Serve) -> None:
    """Each name goes to asks once; a list in one field means the same."""
    asked = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.asked())
        await peer.say(HELLO)

    server = await serve(script)
    fields = [("Accept", "a/b"), ("Accept", "c/d")]
    await client().ask("GET", server.origin, "/", fields, limit_bytes=LIMIT)

    assert asked[0].field("accept") == "a/b, c/d"


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 304, b""),
        (b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.9/\r\nContent-Length: 0\r\n\r\n", 307, b""),
        (b"HTTP/1.1 302 Nowhere\r\nContent-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", 404, b"no"),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 500, b"no"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nwhat", 200, b"what"),
    ],
)
async def test_every_status_is_an_answer(serve: Serve, said: bytes, status: int, body: bytes) -> None:
    """Redirects are not followed, 304 is no error, and nothing is decoded."""
    server = await serve(saying_once(said))

    answer = await get(server)

    assert (answer.status, answer.body, server.accepted) == (status, body, 1)


async def test_head_has_no_body(serve: Serve) -> None:
    """However long the body would be."""
    server = await serve(saying_once(b"HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n"))

    answer = await get(server, "HEAD")

    assert (answer.status, answer.header("content-length"), answer.body) == (200, "123456", b"")


async def endless(peer: Peer) -> None:
    """A document that does not end, in chunks."""
    await peer.asked()
    await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await peer.say(b"ffff\r\n" + bytes(0xFFFF) + b"\r\n")


@pytest.mark.parametrize(
    "script",
    [
        saying_once(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + bytes(1001)),
        saying_once(b"HTTP/1.1 500 No\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)),
        endless,
    ],
    ids=["too long", "long trouble", "endless"],
)
async def test_row_p11_documents_are_bounded(serve: Serve, script: Script) -> None:
    """More than the limit is refused as it comes, and the connection is closed."""
    server = await serve(script)

    with pytest.raises(UpstreamRefused, match="larger than"):
        await get(server)

    await server.wait_until_open(0)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end, which it does not say",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: neither name nor value\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["interim", "until the end", "cookie", "latin"],
)
async def test_what_only_asks_does_not_understand_is_told_apart(serve: Serve, said: bytes) -> None:
    """Sound answers that it trips over have an error of their own, so that the strict reader may have a second look."""
    server = await serve(saying_once(said))

    with pytest.raises(Unreadable):
        await get(server)

    await server.wait_until_open(0)


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
        b"",
    ],
    ids=["ssh", "cut", "length", "chunk cut", "long head", "nothing"],
)
async def test_what_is_no_answer_is_a_failure(serve: Serve, said: bytes) -> None:
    """Nobody else would understand it, so it is not asked for twice; nothing stays open."""
    server = await serve(saying_once(said))

    with pytest.raises(UpstreamFailed) as raised:
        await get(server)

    assert not isinstance(raised.value, Unreadable)
    await server.wait_until_open(0)


async def test_a_connection_that_breaks_is_a_failure(serve: Serve) -> None:
    """Reset in the middle, and nobody there at all."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        peer.reset()

    server = await serve(script)
    with pytest.raises(UpstreamFailed, match="connection to"):
        await get(server)
    with pytest.raises(UpstreamFailed, match="connection to"):
        await client().ask("GET", Origin("http", "127.0.0.1", 1), "/", [], limit_bytes=LIMIT)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"], ids=["mute", "stalled"])
async def test_a_silent_server_has_a_deadline(serve: Serve, autojump_clock: MockClock, said: bytes) -> None:
    """The whole answer within its time; then the connection is closed."""
    server = await serve(falling_silent(said) if said else falling_silent())
    began = trio.current_time()

    with pytest.raises(UpstreamSlow, match="30 s"):
        await get(server)

    assert trio.current_time() - began == pytest.approx(30, abs=1)
    await server.wait_until_open(0)


async def test_a_drop_now_and_then_does_not_move_the_deadline(serve: Serve, autojump_clock: MockClock) -> None:
    """Small documents have a time in all, not between bytes."""

    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        for _ in range(500):
            await trio.sleep(7)
            await peer.say(b"x")

    server = await serve(script)

    with pytest.raises(UpstreamSlow):
        await get(server)


async def test_connecting_has_a_deadline_of_its_own(serve: Serve, autojump_clock: MockClock) -> None:
    """TLS that does not go on is no connection."""
    server = await serve(falling_silent())
    origin = Origin("https", "127.0.0.1", server.origin.port)

    with pytest.raises(UpstreamSlow, match="no connection"):
        await client().ask("GET", origin, "/", [], limit_bytes=LIMIT)

    await server.wait_until_open(0)


async def test_cancelling_closes_the_connection(serve: Serve) -> None:
    """In the middle of a body."""
    server = await serve(falling_silent(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, server)
        await server.wait_until_open(1)
        nursery.cancel_scope.cancel()

    await server.wait_until_open(0)


async def test_the_certificate_is_checked_against_the_name(serve: Serve) -> None:
    """Connected to an address that a resolver gave, the server must still be who was asked for."""
    server = await serve(saying_once(HELLO), tls=server_context())
    named, other = (Origin("https", host, server.origin.port) for host in ("localhost", "other.test"))

    assert (await client().ask("GET", named, "/", [], limit_bytes=LIMIT)).body == b"hello"
    with pytest.raises(UpstreamFailed, match=r"certificate.*\(ca\)"):
        await client().ask("GET", other, "/", [], limit_bytes=LIMIT)


async def test_what_the_resolver_refuses_is_refused() -> None:
    """Its error comes out as it is."""

    async def refuse(origin: Origin) -> Sequence[str]:
        raise UpstreamRefused(f"not {origin.host}")

    refusing = ControlClient(refuse, tls=trusting_context(), connect_s=5.0, answer_s=30.0)
    with pytest.raises(UpstreamRefused, match=r"not registry\.test"):
        await refusing.ask("GET", Origin("https", "registry.test", 443), "/", [], limit_bytes=LIMIT)


async def test_requests_take_turns(serve: Serve, autojump_clock: MockClock) -> None:
    """No more than so many connections at once; who waits for a turn has its whole time afterwards."""
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        most = max(most, server.open)
        await peer.asked()
        await trio.sleep(20)
        await peer.say(HELLO)

    server = await serve(script)
    one = client()
    async with trio.open_nursery() as nursery:
        for _ in range(2 * CONNECTIONS):
            nursery.start_soon(lambda: one.ask("GET", server.origin, "/", [], limit_bytes=LIMIT))

    assert (most, server.accepted) == (CONNECTIONS, 2 * CONNECTIONS)


async def test_waiting_for_a_turn_ends(serve: Serve, autojump_clock: MockClock) -> None:
    """However many ask a server that is silent, each is told within two deadlines, not behind all the others."""
    server = await serve(falling_silent())
    one = client()
    told: list[str] = []

    async def ask() -> None:
        with pytest.raises(UpstreamSlow) as caught:
            await one.ask("GET", server.origin, "/", [], limit_bytes=LIMIT)
        told.append(str(caught.value))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5 * CONNECTIONS):
            nursery.start_soon(ask)

    assert len(told) == 5 * CONNECTIONS
    assert trio.current_time() - start < 65
    assert sum("asked before" in each for each in told) >= 3 * CONNECTIONS
