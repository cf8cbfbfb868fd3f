"""One connection's other end: progress is demanded of readers, and the last answer gets through."""

import socket
import struct
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from gateway.wire.patience import PROGRESS_BYTES
from gateway.wire.peer import PeerGone, PeerStalled
from tests.gateway.wire.loopback import connected_peer

MUCH = bytes(16 << 20)
"""More than both sockets' buffers hold."""


async def test_bytes_go_both_ways() -> None:
    """What is sent arrives, what arrives waits in `unread` until it is taken off, and the end is told."""
    async with connected_peer(send_idle_s=1) as (client, peer):
        await peer.send(b"answer")
        assert await client.receive_some() == b"answer"

        for part in (b"one", b"two"):
            await client.send_all(part)
            assert await peer.fill(100)
        await client.send_eof()

        assert not await peer.fill(100)
        assert peer.unread == b"onetwo"
        assert peer.scheme == "http"
        assert peer.addresses() == (client.socket.getsockname(), client.socket.getpeername())


async def test_a_reader_that_takes_nothing_is_given_up(autojump_clock: MockClock) -> None:
    """After the idle time without progress the send ends as stalled, and the connection stays broken."""
    async with connected_peer(send_idle_s=60) as (_, peer):
        with pytest.raises(PeerStalled):
            await peer.send(MUCH)

        assert trio.current_time() == pytest.approx(60)
        assert peer.stalled
        with pytest.raises(PeerGone):
            await peer.send(b"more")


async def test_a_slow_reader_may_take_forever(autojump_clock: MockClock) -> None:
    """Progress counts, not the total: a reader that takes enough in time gets everything."""
    async with connected_peer(send_idle_s=60) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, MUCH)
        taken = 0
        while taken < len(MUCH):
            if taken % (2 << 20) == 0:
                await trio.sleep(30)
            # Whole megabytes, so that the server's buffer is certain to have moved by `PROGRESS_BYTES`.
            taken += len(await client.receive_some(min(PROGRESS_BYTES, (2 << 20) - taken % (2 << 20))))

    assert trio.current_time() == pytest.approx(30 * 8)


async def test_a_cancelled_send_breaks_the_connection() -> None:
    """After a part may be out nothing else can follow."""
    async with connected_peer(send_idle_s=60) as (_, peer):
        with trio.move_on_after(0):
            await peer.send(MUCH)

        with pytest.raises(PeerGone):
            await peer.send(b"more")
        assert not peer.stalled


async def test_a_peer_that_resets_is_gone() -> None:
    """Reading and sending both say so."""
    async with connected_peer(send_idle_s=60) as (client, peer):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()

        with pytest.raises(PeerGone):
            await peer.fill(100)
        with pytest.raises(PeerGone):
            await peer.send(b"x")


async def test_lingering_ends_when_the_peer_ends() -> None:
    """The peer sees the end of our answer, whatever it still had to say, and then we are done."""
    async with connected_peer(send_idle_s=60) as (client, peer), trio.open_nursery() as nursery:
        await client.send_all(b"rest of an upload")
        nursery.start_soon(lambda: peer.linger(max_bytes=1 << 20, max_s=60))
        assert await client.receive_some() == b""
        await client.send_all(b"and more")
        await client.send_eof()

    assert peer.unread == b""


async def test_lingering_is_bounded_in_time(autojump_clock: MockClock) -> None:
    """A peer that says nothing and does not leave is waited for only so long."""
    async with connected_peer(send_idle_s=60) as (_, peer):
        await peer.linger(max_bytes=1 << 20, max_s=2)

    assert trio.current_time() == pytest.approx(2)


async def test_lingering_is_bounded_in_bytes(nursery: trio.Nursery) -> None:
    """A peer that never stops sending is cut off."""
    async with connected_peer(send_idle_s=60) as (client, peer):

        async def flood() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while True:
                    await client.send_all(bytes(65536))

        nursery.start_soon(flood)
        await peer.linger(max_bytes=1 << 20, max_s=60)


async def test_a_reset_close_cannot_look_like_an_end() -> None:
    """After `reset`, closing is an error for the reader."""
    async with connected_peer(send_idle_s=60) as (client, peer):
        peer.reset()
        peer.channel.close()

        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
