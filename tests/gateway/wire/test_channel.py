"""One socket, plain or TLS: both behave the same for whoever moves bytes through it."""

import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from gateway.wire.channel import PIECE_BYTES, Channel
from tests.gateway.wire.encrypted import VERSIONS, connected_encrypted, contexts, read
from tests.gateway.wire.loopback import connected_peer

Ends = AbstractAsyncContextManager[tuple[trio.abc.Stream, Channel]]
PATTERN = bytes(range(251)) * 4000
"""A megabyte without a period that any buffer has."""


@asynccontextmanager
async def plain() -> AsyncIterator[tuple[trio.abc.Stream, Channel]]:
    """Without encryption."""
    async with connected_peer(send_idle_s=60) as (client, peer):
        yield client, peer.channel


def encrypted(version: ssl.TLSVersion) -> Callable[[], Ends]:
    """With this version of TLS."""

    @asynccontextmanager
    async def open_ends() -> AsyncIterator[tuple[trio.abc.Stream, Channel]]:
        async with connected_encrypted(contexts(version)) as (client, peer):
            yield client, peer.channel

    return open_ends


KINDS = [
    pytest.param(plain, id="plain"),
    *(pytest.param(encrypted(version), id=version.name) for version in VERSIONS),
]
both = pytest.mark.parametrize("ends", KINDS)


async def receive(channel: Channel, size_bytes: int) -> bytes:
    """So many bytes, by waiting and asking."""
    received = b""
    while len(received) < size_bytes:
        part = channel.recv_nowait(size_bytes - len(received))
        if part is None:
            await channel.wait_readable()
        else:
            assert part
            received += part
    return received


@both
async def test_bytes_go_both_ways(ends: Callable[[], Ends]) -> None:
    """What one side sends the other receives, into a buffer or as bytes; nothing there is None, and not the end."""
    async with ends() as (client, channel):
        assert channel.recv_nowait(10) is None
        assert channel.recv_into_nowait(bytearray(10)) is None
        await client.send_all(b"one two")
        assert await receive(channel, 3) == b"one"
        buffer = bytearray(10)
        while (count := channel.recv_into_nowait(buffer)) is None:
            await channel.wait_readable()
        assert buffer[:count] == b" two"
        assert channel.send_nowait(b"three") == 5
        assert await client.receive_some(10) == b"three"


@both
async def test_the_end_is_nothing(ends: Callable[[], Ends]) -> None:
    """A client that closes is told by empty bytes, again and again; its goodbye wakes who waits."""
    async with ends() as (client, channel):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.wait_readable)
            await client.aclose()
        while (ended := channel.recv_nowait(10)) is None:
            await channel.wait_readable()
        assert ended == b""
        assert channel.recv_nowait(10) == b""
        assert channel.recv_into_nowait(bytearray(1)) == 0


@both
async def test_a_full_socket_takes_nothing_and_loses_nothing(ends: Callable[[], Ends]) -> None:
    """0 until the reader reads; then the same bytes go on, and all arrive in order."""
    data = memoryview(PATTERN * 24)
    async with ends() as (client, channel), trio.open_nursery() as nursery:
        place = 0
        while sent := channel.send_nowait(data[place : place + PIECE_BYTES]):
            place += sent
        assert 0 < place < len(data)
        assert not await trio.to_thread.run_sync(channel.poll_writable, 0)  # noqa: TID251  # what is tested

        async def send_rest() -> None:
            nonlocal place
            while place < len(data):
                await channel.wait_writable()
                place += channel.send_nowait(data[place : place + PIECE_BYTES])

        nursery.start_soon(send_rest)
        received = bytearray()
        while len(received) < len(data):
            received += await client.receive_some(1 << 18)

    assert received == data


@both
async def test_a_piece_from_elsewhere_in_memory_continues(ends: Callable[[], Ends]) -> None:
    """After 0 the same bytes may come in another buffer and from another thread."""
    data = PATTERN * 24
    async with ends() as (client, channel), trio.open_nursery() as nursery:
        place = 0
        while sent := channel.send_nowait(data[place : place + PIECE_BYTES]):
            place += sent

        def send_rest() -> None:
            here = place
            while here < len(data):
                assert channel.poll_writable(5)
                here += channel.send_nowait(bytearray(data[here : here + PIECE_BYTES]))

        nursery.start_soon(trio.to_thread.run_sync, send_rest)  # noqa: TID251  # what is tested
        received = bytearray()
        while len(received) < len(data):
            received += await client.receive_some(1 << 18)

    assert received == data


@both
async def test_threads_wait_by_polling(ends: Callable[[], Ends]) -> None:
    """A poll is false when its time is over, and true as soon as there is something."""
    async with ends() as (client, channel):
        begun = time.monotonic()
        assert not channel.poll_readable(0.02)
        assert time.monotonic() - begun >= 0.02
        assert channel.poll_writable(0)
        await client.send_all(b"x")
        assert channel.poll_readable(5)


@both
async def test_a_reset_is_an_error_of_the_system(ends: Callable[[], Ends]) -> None:
    """Sending to a client that is gone raises OSError, sooner or later, and closing twice is fine."""
    async with ends() as (client, channel):
        await trio.aclose_forcefully(client)

        def send_for_ever() -> None:
            while True:
                channel.send_nowait(PATTERN)
                channel.poll_writable(0.001)

        with pytest.raises(OSError):  # noqa: PT011  # any of them
            send_for_ever()
        channel.close()
        channel.close()


async def test_decrypted_bytes_are_there_without_the_socket() -> None:
    """Of a record that was half taken the rest is there, although the socket has no more."""
    async with connected_encrypted() as (client, peer):
        channel = peer.channel
        await client.send_all(b"x" * 1000)
        assert await receive(channel, 1) == b"x"
        with trio.fail_after(20):
            await channel.wait_readable()
        assert channel.poll_readable(0)
        assert channel.recv_nowait(2000) == b"x" * 999


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_goodbye_tells_that_nothing_was_cut(version: ssl.TLSVersion) -> None:
    """After `end_sending` the client sees a proper end; after a mere close it sees that something is missing."""
    for says_goodbye in (True, False):
        async with connected_encrypted(contexts(version)) as (client, peer):
            await peer.send(b"answer")
            if says_goodbye:
                peer.channel.end_sending()
            peer.channel.close()
            assert await read(client, 6) == b"answer"
            if says_goodbye:
                assert await client.receive_some(1) == b""
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await client.receive_some(1)


async def test_two_threads_may_use_both_directions() -> None:
    """One sends without a pause while another receives without a pause: no byte is lost or changed, either way."""
    async with connected_encrypted() as (client, peer):
        channel, received = peer.channel, bytearray()

        def listen() -> None:
            while len(received) < len(PATTERN):
                received.extend(channel.recv_nowait(1 << 16) or b"")

        def send() -> None:
            place = 0
            while place < len(PATTERN) * 4:
                begin = place % len(PATTERN)
                place += channel.send_nowait(PATTERN[begin : begin + PIECE_BYTES])

        threads = [threading.Thread(target=call) for call in (listen, send)]
        for thread in threads:
            thread.start()
        try:
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.send_all, PATTERN)
                    assert await read(client, len(PATTERN) * 4) == PATTERN * 4
        finally:
            for thread in threads:
                thread.join(5)

    assert received == PATTERN
