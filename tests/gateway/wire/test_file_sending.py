"""Files over plain connections: every byte in its place, turns for others, and the disk is waited for elsewhere."""

import os
import tempfile
from collections.abc import Iterator
from typing import IO

import pytest
import trio
from trio.testing import MockClock

from gateway.wire import file_sending
from gateway.wire.channel import PlainChannel
from gateway.wire.file_sending import TURN_BYTES, FileTooShort, SendingThreads, send_turn_nowait
from gateway.wire.peer import PeerGone, PeerStalled
from gateway.wire.recall import FileSpan
from tests.gateway.wire.loopback import connected_peer

CONTENT = b"".join(b"%07d\n" % number for number in range(3 << 17))
"""Three megabytes that say where they are."""
ENDLESS_BYTES = 1 << 36
SIZES = [0, 1, 16383, 65537, TURN_BYTES - 1, TURN_BYTES, TURN_BYTES + 1, (2 << 20) + 7]


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    """`CONTENT`, and then nothing up to `ENDLESS_BYTES`, which the disk need not hold."""
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.truncate(ENDLESS_BYTES)
        file.flush()
        yield file


def span(file: IO[bytes], start: int, stop: int) -> FileSpan:
    """A part of it."""
    return FileSpan(file.fileno(), start, stop)


async def read(client: trio.SocketStream, size_bytes: int) -> bytes:
    """Exactly so many bytes."""
    parts = bytearray()
    while len(parts) < size_bytes:
        part = await client.receive_some(min(1 << 18, size_bytes - len(parts)))
        assert part, f"the answer ended after {len(parts)} bytes"
        parts += part
    return bytes(parts)


async def test_the_span_arrives_whatever_its_size(file: IO[bytes]) -> None:
    """Around the border of a turn and from an odd place: these bytes and no others."""
    async with connected_peer(send_idle_s=60) as (client, peer), trio.open_nursery() as nursery:

        async def send_all() -> None:
            for size in SIZES:
                await peer.send_file(span(file, 3, 3 + size), threads=SendingThreads())
                await peer.send(b"|")

        nursery.start_soon(send_all)
        for size in SIZES:
            assert await read(client, size + 1) == CONTENT[3 : 3 + size] + b"|", size


async def test_what_is_not_in_memory_is_read_ahead(file: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is missing is no business of the loop: nothing leaves at once, and then the whole span does."""
    read_ahead: list[int] = []

    def is_read(descriptor: int, place: int) -> bool:
        return any(start <= place < start + file_sending._AHEAD_BYTES for start in read_ahead)

    def note(descriptor: int, size_bytes: int, place: int) -> None:
        really_read(descriptor, size_bytes, place)
        read_ahead.append(place)

    really_read = file_sending._read
    monkeypatch.setattr(file_sending, "_in_memory", is_read)
    monkeypatch.setattr(file_sending, "_read", note)
    async with connected_peer(send_idle_s=60) as (client, peer), trio.open_nursery() as nursery:
        assert isinstance(peer.channel, PlainChannel)
        assert send_turn_nowait(peer.channel, span(file, 0, 1000)) == 0

        nursery.start_soon(lambda: peer.send_file(span(file, 0, len(CONTENT)), threads=SendingThreads()))
        assert await read(client, len(CONTENT)) == CONTENT

    assert read_ahead[0] == 0
    assert len(read_ahead) == 2, "each span of pages is read once"


def test_what_the_kernel_has_is_in_memory(file: IO[bytes]) -> None:
    """Bytes that were just written need no reading ahead, and neither does what lies behind the end."""
    os.pread(file.fileno(), 1, 0)
    assert file_sending._in_memory(file.fileno(), 0)
    assert file_sending._in_memory(file.fileno(), ENDLESS_BYTES)


@pytest.mark.parametrize("missing", [1, TURN_BYTES])
async def test_a_file_that_ends_too_early_is_an_error(missing: int) -> None:
    """The promise cannot be kept: `FileTooShort`, after all that there is."""
    with tempfile.TemporaryFile() as short:
        short.write(CONTENT[:1000])
        short.flush()
        async with connected_peer(send_idle_s=60) as (client, peer):
            with pytest.raises(FileTooShort):
                await peer.send_file(span(short, 0, 1000 + missing), threads=SendingThreads())
            assert await read(client, 1000) == CONTENT[:1000]


async def test_a_reader_that_takes_nothing_is_given_up(file: IO[bytes], autojump_clock: MockClock) -> None:
    """After the idle time without progress the send ends as stalled."""
    async with connected_peer(send_idle_s=60) as (_, peer):
        with pytest.raises(PeerStalled):
            await peer.send_file(span(file, 0, 64 << 20), threads=SendingThreads())

        assert peer.stalled


async def test_a_client_that_leaves_ends_the_sending(file: IO[bytes]) -> None:
    """In the middle of the body the client closes: `PeerGone`."""
    async with connected_peer(send_idle_s=60) as (client, peer), trio.open_nursery() as nursery:

        async def leave() -> None:
            await read(client, 1 << 20)
            await client.aclose()

        nursery.start_soon(leave)
        with trio.fail_after(5), pytest.raises(PeerGone):
            await peer.send_file(span(file, 0, ENDLESS_BYTES), threads=SendingThreads())


async def test_others_have_their_turn_between(file: IO[bytes]) -> None:
    """While one reader takes an endless file as fast as it comes, another task goes on."""
    async with connected_peer(send_idle_s=60) as (client, peer), trio.open_nursery() as nursery:

        async def swallow() -> None:
            while True:
                await client.receive_some(1 << 20)

        nursery.start_soon(lambda: peer.send_file(span(file, 0, ENDLESS_BYTES), threads=SendingThreads()))
        nursery.start_soon(swallow)
        with trio.fail_after(5):
            for _ in range(20):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_a_round_of_all_readers_is_bounded() -> None:
    """Who is alone gets long turns, eight get half a megabyte each, and nobody gets less than is worth a call."""
    threads = SendingThreads()
    turns = []
    for threads.readers in (0, 1, 2, 8, 16, 1000):
        turns.append(threads.turn_bytes() // 1024)

    assert turns == [2048, 2048, 2048, 512, 256, 256]


async def test_readers_are_counted_while_they_are_sent_to(file: IO[bytes]) -> None:
    """A reader that does not read counts, one that left does not."""
    threads = SendingThreads()
    async with connected_peer(send_idle_s=60) as (_, peer), trio.open_nursery() as sending:
        sending.start_soon(lambda: peer.send_file(span(file, 0, ENDLESS_BYTES), threads=threads))
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert threads.readers == 1
        sending.cancel_scope.cancel()

    assert threads.readers == 0
