"""Requests one after another on a connection: keep-alive, pipelining, timeouts, refusals, early answers."""

import json
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from gateway.wire import http1
from gateway.wire.census import LAST_CALL_S
from tests.gateway.wire.loopback import Gateway, read_until_closed

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the path; reads the body only when the path asks for it."""
    body = scope["raw_path"]
    if body == b"/read":
        while (await receive())["more_body"]:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def gateway(nursery: trio.Nursery) -> Gateway:
    """The echo application, served."""
    return Gateway(echo, nursery)


async def bodies(client: trio.SocketStream) -> list[bytes]:
    """The bodies of all answers until the server closes; all are 200."""
    answers = (await read_until_closed(client)).split(b"HTTP/1.1 ")[1:]
    assert all(answer.startswith(b"200 OK\r\n") for answer in answers)
    return [answer.partition(b"\r\n\r\n")[2] for answer in answers]


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    """Requests that are sent at once, bodies included, get their answers one after the other."""
    async with gateway.connect() as client:
        put = b"PUT /read HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        chunked = b"PUT /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        await client.send_all(GET.replace(b"/ ", b"/1 ", 1) + put + chunked + put + GET.replace(b"/ ", b"/2 ", 1))
        await client.send_eof()

        assert await bodies(client) == [b"/1", b"/read", b"/read", b"/read", b"/2"]


async def test_a_request_may_come_byte_by_byte(gateway: Gateway) -> None:
    """However the network cuts it, a request is understood."""
    async with gateway.connect() as client:
        for (
            byte
        ) in b"\r\nPUT /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nt: 1\r\n\r\n":
            await client.send_all(bytes([byte]))
        await client.send_eof()

        assert await bodies(client) == [b"/read"]


async def test_a_flood_of_empty_lines_is_no_request(gateway: Gateway) -> None:
    """A few before a request are forgiven, endless ones are not: they held the event loop until the worker was killed.

    The sender's first pause would have been the first turn of anybody else.
    """
    async with gateway.connect() as client, gateway.connect() as other, trio.open_nursery() as nursery:
        await client.send_all(b"\r\n" * 8 + GET)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")

        async def flood() -> None:
            with suppress(trio.BrokenResourceError):
                for _ in range(1000):
                    await client.send_all(b"\r\n" * 8192)
                raise AssertionError("sixteen megabytes of empty lines were read")

        nursery.start_soon(flood)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 400 ")
        await other.send_all(GET)
        assert (await other.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_empty_lines_one_by_one_take_no_longer_than_a_head(autojump_clock: MockClock, gateway: Gateway) -> None:
    """However they come, the time for a request's head runs."""
    async with gateway.connect() as client, trio.open_nursery() as nursery:

        async def drip() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await client.send_all(b"\r\n")
                    await trio.sleep(0.1)

        nursery.start_soon(drip)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() == pytest.approx(gateway.settings.header_timeout_s, abs=0.5)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("ahead", "answered"), [(10, 11), (100, 1)])
async def test_what_is_sent_ahead_is_bounded(
    ahead: int, answered: int, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests behind a chunked body come with its end; so many that they would fill our memory end the connection."""
    monkeypatch.setattr(http1, "_AHEAD_BYTES", 8192)  # so that more fits into the kernel's buffers
    is_sent = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await is_sent.wait()  # so that the body's end and all behind it are there at once
        await echo(scope, receive, send)

    put = b"PUT /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    get = GET[:-2] + b"X-Long: " + b"x" * 100 + b"\r\n\r\n"
    assert 10 * len(get) < 8192 < 100 * len(get)
    async with Gateway(app, nursery).connect() as client:
        await client.send_all(put)
        await client.send_all(b"3\r\nabc\r\n0\r\n\r\n" + ahead * get)
        await client.send_eof()
        is_sent.set()

        assert len(await bodies(client)) == answered


@pytest.mark.parametrize("request_", [GET[:-2] + b"Connection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"])
async def test_h16_close_and_http_1_0_end_the_connection(gateway: Gateway, request_: bytes) -> None:
    """H16: the server closes after the answer when the client wants it, and does not look at what was pipelined."""
    async with gateway.connect() as client:
        await client.send_all(request_ + GET)

        answer = await read_until_closed(client)

    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close\r\n" in answer.lower()


async def test_h16_a_resting_connection_is_closed(autojump_clock: MockClock, gateway: Gateway) -> None:
    """H16: after an answer a connection may rest so long, then the server closes it without a word."""
    async with gateway.connect() as client:
        await client.send_all(GET)
        await client.receive_some()
        begun = trio.current_time()

        assert await client.receive_some() == b""
        assert trio.current_time() - begun == pytest.approx(60)
        assert gateway.census.statistics().open == 0


async def test_a_silent_newcomer_is_closed(autojump_clock: MockClock, gateway: Gateway) -> None:
    """Who connects and says nothing has only as long as a head may take."""
    async with gateway.connect() as client:
        assert await client.receive_some() == b""

    assert trio.current_time() == pytest.approx(10)


@pytest.mark.parametrize("start", [b"G", b"\r\n", GET[:-2]])
async def test_a_head_that_never_ends_is_408(autojump_clock: MockClock, gateway: Gateway, start: bytes) -> None:
    """Slowloris: the head as a whole has a deadline, bytes now and then do not prolong it."""
    async with gateway.connect() as client, trio.open_nursery() as nursery:
        await client.send_all(start)

        async def drip() -> None:
            for _ in range(8):
                await trio.sleep(1.1)
                await client.send_all(b"a")

        nursery.start_soon(drip)
        answer = await client.receive_some()

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() == pytest.approx(10)


async def test_a_refusal_is_json_in_the_form_of_the_specification(gateway: Gateway) -> None:
    """Clients can show the message; the connection closes after it (RFC 9112: nothing behind it can be trusted)."""
    async with gateway.connect() as client:
        await client.send_all(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        await client.send_eof()
        head, _, body = (await read_until_closed(client)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json\r\n" in head
    assert b"connection: close" in head
    assert b"date: " in head
    assert json.loads(body) == {"errors": [{"code": "UNSUPPORTED", "message": "CONNECT is not supported"}]}


async def test_a_refused_head_request_gets_no_body(gateway: Gateway) -> None:
    """Also where the head is what is wrong."""
    async with gateway.connect() as client:
        await client.send_all(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
        await client.send_eof()
        answer = await read_until_closed(client)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_gen_23_a_tls_hello_is_answered_at_once(gateway: Gateway) -> None:
    """Row GEN-23: clients try TLS first; the first byte is enough to know."""
    async with gateway.connect() as client:
        await client.send_all(b"\x16")

        assert (await client.receive_some()).startswith(b"HTTP/1.1 400 ")


async def test_lm_01_a_large_authorization_passes(gateway: Gateway) -> None:
    """16 KiB of Authorization are fine, a head of more than 32 KiB is 431 (row LM-01)."""
    field = b"Authorization: Bearer " + b"t" * (16 * 1024)
    async with gateway.connect() as client:
        await client.send_all(GET[:-2] + field + b"\r\n\r\n")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")
        await client.send_all(GET[:-2] + field + field + b"\r\n\r\n")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("size", [1, 100_000, 1 << 20])
async def test_ch_10_an_unread_body_is_taken_and_the_connection_lives(gateway: Gateway, size: int) -> None:
    """Row CH-10: after an early answer, a body within bounds is thrown away and the next request is answered."""
    async with gateway.connect() as client, trio.open_nursery() as nursery:
        put = b"PUT /early HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size

        async def ask() -> None:
            await client.send_all(put + bytes(size) + GET)
            await client.send_eof()

        nursery.start_soon(ask)

        assert await bodies(client) == [b"/early", b"/"]


async def test_h19_an_early_answer_to_a_huge_body_closes(gateway: Gateway, nursery: trio.Nursery) -> None:
    """H19: a body beyond the bounds is not waited for: the answer says close, and reaches the client."""
    async with gateway.connect() as client:
        await client.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        answer = await read_until_closed(client)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()


async def test_an_unread_body_that_never_comes_is_not_waited_for(autojump_clock: MockClock, gateway: Gateway) -> None:
    """The rest of a body has 2 s to come."""
    async with gateway.connect() as client:
        await client.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        await read_until_closed(client)

    assert trio.current_time() == pytest.approx(2)


async def test_a_half_closed_client_gets_its_answer(gateway: Gateway) -> None:
    """Who has said all may end their side; the answer comes, then the end."""
    async with gateway.connect() as client:
        await client.send_all(GET)
        await client.send_eof()

        assert await bodies(client) == [b"/"]


async def test_a_client_that_leaves_within_a_head_is_forgotten(gateway: Gateway) -> None:
    """Half a request is no request: no answer."""
    async with gateway.connect() as client:
        await client.send_all(GET[:20])
        await client.send_eof()

        assert await read_until_closed(client) == b""


async def test_after_the_stop_an_answer_is_the_last(autojump_clock: MockClock, gateway: Gateway) -> None:
    """A request under way at the stop is answered with close; who rests is sent home after the last call."""
    async with gateway.connect() as busy, gateway.connect() as resting:
        await resting.send_all(GET)
        await resting.receive_some()
        gateway.census.last_call()
        await busy.send_all(GET)

        assert b"connection: close" in (await read_until_closed(busy)).lower()
        assert await read_until_closed(resting) == b""
        assert trio.current_time() == pytest.approx(LAST_CALL_S)
