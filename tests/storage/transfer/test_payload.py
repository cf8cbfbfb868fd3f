"""Payloads of each kind arrive byte by byte, and what breaks its promise is refused."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from storage.transfer import Client, FileSpan, Payload, PayloadMismatch, Stream
from tests.storage.transfer.scripted import EMPTY, Peer, ScriptedServer, Serve, falling_silent

File = tuple[int, bytes]
"""A descriptor, and what the file holds."""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    """An open file of 3 MB and a bit, and its bytes."""
    content = os.urandom(3_000_001)
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("rb") as opened:
        yield opened.fileno(), content


async def arrived(client: Client, server: ScriptedServer, payload: Payload) -> None:
    """Send it."""
    async with client.request("PUT", server.origin, "/", [], payload) as response:
        assert response.status == 200


@pytest.mark.parametrize(("start", "stop"), [(0, 3_000_001), (1, 3_000_000), (17, 18), (5, 5)])
async def test_span_of_a_file_arrives(serve_both: Serve, client: Client, file: File, start: int, stop: int) -> None:
    """Just these bytes, by sendfile or encrypted; the file's own position does not matter."""
    descriptor, content = file
    os.lseek(descriptor, 12345, os.SEEK_SET)
    asked = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            asked.append(await peer.asked())
            await peer.say(EMPTY)

    server = await serve_both(script)
    for _ in range(2):
        await arrived(client, server, FileSpan(descriptor, start, stop))
    assert [request.body for request in asked] == [content[start:stop]] * 2
    assert server.accepted == 1


@pytest.mark.parametrize("sizes", [[], [0], [1, 0, 70_000, 3], [2_000_000]])
async def test_stream_arrives(serve_both: Serve, client: Client, sizes: list[int]) -> None:
    """Chunks of any size, also none at all."""
    content = os.urandom(sum(sizes))
    asked = []

    async def source() -> AsyncIterator[memoryview]:
        place = 0
        for size in sizes:
            await trio.lowlevel.checkpoint()
            yield memoryview(content)[place : place + size]
            place += size

    async def script(peer: Peer) -> None:
        asked.append(await peer.asked())
        await peer.say(EMPTY)

    server = await serve_both(script)
    await arrived(client, server, Stream(len(content), source()))
    assert asked[0].body == content


@pytest.mark.parametrize("promised", [9, 11])
async def test_stream_of_another_length_is_refused(serve_both: Serve, client: Client, promised: int) -> None:
    """The caller hears of it, and the server never gets a request that seems whole."""
    got = []

    async def source() -> AsyncIterator[bytes]:
        yield b"12345"
        yield b"67890"

    async def script(peer: Peer) -> None:
        await peer.head()
        got.append(await peer.until_closed())

    server = await serve_both(script)
    with pytest.raises(PayloadMismatch, match=str(promised)):
        async with client.request("PUT", server.origin, "/", [], Stream(promised, source())):
            pass
    await server.wait_until_open(0)
    assert got[0] < promised


async def test_short_file_is_refused(serve_both: Serve, client: Client, file: File) -> None:
    """A span beyond the file's end is the caller's mistake, not the server's."""
    descriptor, content = file
    server = await serve_both(falling_silent())
    with pytest.raises(PayloadMismatch, match="shorter"):
        await arrived(client, server, FileSpan(descriptor, 0, len(content) + 1))
    await server.wait_until_open(0)


async def test_error_of_the_source_comes_out_as_it_is(serve_both: Serve, client: Client) -> None:
    """Also one that looks like a broken connection: it is the source's, alone and not in a group."""

    async def source() -> AsyncIterator[bytes]:
        yield b"1"
        raise ConnectionResetError("the source's own")

    server = await serve_both(falling_silent())
    with pytest.raises(ConnectionResetError, match="the source's own"):
        async with client.request("PUT", server.origin, "/", [], Stream(5, source())):
            pass
    await server.wait_until_open(0)
