"""What counts against a client that sends its body slowly, and what does not."""

from collections.abc import Iterator

import pytest
import structlog
import trio
from quart import request
from trio.testing import MockClock

from gateway.edge.streams import PROGRESS_BYTES, ClientStalled, read_chunks
from tests.gateway.edge.test_streams import PUT, app_with, split
from tests.gateway.wire.loopback import Gateway, patient_clock, read_until_closed


@pytest.fixture(autouse=True)
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged; nothing is printed."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def autojump_clock() -> MockClock:
    """In place of the ready-made one: these tests wait for the kernel, too."""
    return patient_clock()


async def test_the_reader_s_own_time_is_not_the_client_s(autojump_clock: MockClock) -> None:
    """A handler that takes a minute per chunk (a slow disk) does not make the client look stalled."""
    seen: list[bytes] = []

    async def handler() -> str:
        async with read_chunks(request, idle_s=30) as chunks:
            async for chunk in chunks:
                seen.append(chunk)
                await trio.sleep(60)
        return ""

    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:
        await client.send_all(PUT + b"Content-Length: 3\r\n\r\n")
        for byte in (b"a", b"b", b"c"):
            await client.send_all(byte)
            await trio.sleep(60)
        assert split(await read_until_closed(client))[0] == 200

    assert seen == [b"a", b"b", b"c"]


async def test_progress_renews_the_patience(autojump_clock: MockClock) -> None:
    """64 KiB begin a new idle time, whatever they took to come; after them too little is too little again."""
    ended: list[float] = []

    async def handler() -> str:
        async with read_chunks(request, idle_s=30) as chunks:
            with pytest.raises(ClientStalled):
                async for _ in chunks:
                    pass
        ended.append(round(trio.current_time()))
        return ""

    async with trio.open_nursery() as nursery, Gateway(app_with(handler), nursery).connect() as client:
        await client.send_all(PUT + b"Content-Length: 10000000\r\n\r\n")
        for _ in range(4):
            await trio.sleep(25)
            await client.send_all(bytes(PROGRESS_BYTES))
        for _ in range(2):
            await trio.sleep(10)
            await client.send_all(b"x")
        await read_until_closed(client)

    assert ended == [130]
