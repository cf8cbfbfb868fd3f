"""Bodies that go to a sink in the server's threads: whole, told apart from the client failing, and only if offered."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
import structlog
import trio
from quart import request
from quart_trio import QuartTrio
from trio.testing import MockClock

from gateway.edge.absorbing import absorb_body, can_absorb
from gateway.edge.streams import ClientGone, ClientStalled, discard, install
from tests.gateway.wire.loopback import Gateway, patient_clock, read_until_closed

PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
LENGTH = PUT + b"Content-Length: 1000000\r\n\r\n"
CHUNKED = PUT + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = bytes(range(250)) * 4000


@pytest.fixture(autouse=True)
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged; nothing is printed."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def autojump_clock() -> MockClock:
    """In place of the ready-made one: these tests wait for the kernel, too."""
    return patient_clock()


def app_with(handler: Callable[[], Awaitable[Any]]) -> QuartTrio:
    """An application with one handler for everything."""
    app = QuartTrio(__name__)
    install(app)
    app.add_url_rule("/", view_func=handler, methods=["PUT"])
    return app


async def exchange(handler: Callable[[], Awaitable[Any]], raw: bytes, *, leave: bool = True) -> bytes:
    """What comes back for these bytes; afterwards the client leaves, or waits."""
    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:

        async def ask() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the server may have heard enough
                await client.send_all(raw)
                if leave:
                    await client.send_eof()

        nursery.start_soon(ask)
        answer = await read_until_closed(client)
        nursery.cancel_scope.cancel()
    return answer


@pytest.mark.parametrize(
    "raw", [LENGTH + BODY, CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)], ids=["length", "chunked"]
)
async def test_the_sink_gets_the_whole_body(raw: bytes) -> None:
    """All bytes, in order, and afterwards nothing is left to read."""
    seen = bytearray()

    def sink(parts: Sequence[memoryview]) -> None:
        for part in parts:
            seen.extend(part)

    async def handler() -> str:
        assert can_absorb(request)
        await absorb_body(request, sink, idle_s=30)
        assert await request.get_data() == b""
        return "taken"

    assert (await exchange(handler, raw)).endswith(b"taken")
    assert seen == BODY


async def test_a_stalled_client_is_given_up(autojump_clock: MockClock) -> None:
    """It ends as for every other reader of bodies, after what came was handed over."""
    seen = bytearray()

    async def handler() -> str:
        with pytest.raises(ClientStalled, match="30 s"):
            await absorb_body(request, lambda parts: seen.extend(b"".join(parts)), idle_s=30)
        return "given up"

    assert (await exchange(handler, LENGTH + b"some", leave=False)).endswith(b"given up")
    assert seen == b"some"


@pytest.mark.parametrize("raw", [LENGTH + b"some", CHUNKED + b"4\r\nsome\r\nnonsense\r\n"], ids=["left", "malformed"])
async def test_a_client_that_leaves_or_breaks_the_framing(raw: bytes) -> None:
    """Both are a client that is gone, after what came before was handed over; what reads on is told the same."""
    seen: list[Any] = []

    async def handler() -> str:
        with pytest.raises(ClientGone):
            await absorb_body(request, lambda parts: seen.append(b"".join(parts)), idle_s=30)
        await discard(request, limit_bytes=1000, idle_s=30)
        seen.append("discarded")
        return ""

    await exchange(handler, raw)
    assert seen == [b"some", "discarded"]


async def test_what_the_sink_raises_is_the_handlers_business() -> None:
    """It comes out as it is, and the rest of the body can be discarded for an answer that the client hears."""

    def sink(_: Sequence[memoryview]) -> None:
        raise LookupError("no room")

    async def handler() -> tuple[str, int]:
        with pytest.raises(LookupError, match="no room"):
            await absorb_body(request, sink, idle_s=30)
        await discard(request, limit_bytes=len(BODY), idle_s=30)
        return "refused", 507

    assert (await exchange(handler, LENGTH + BODY)).startswith(b"HTTP/1.1 507 ")


async def test_a_server_that_does_not_offer_it() -> None:
    """The framework's own test client has no threads for bodies."""
    offers = []

    async def handler() -> str:
        offers.append(can_absorb(request))
        return ""

    await app_with(handler).test_client().put("/", data=b"some")
    assert offers == [False]
