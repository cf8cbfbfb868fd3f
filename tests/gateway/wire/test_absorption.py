"""Bodies that are received in threads: every byte once, in order; no thread while the client pauses; safe to cancel."""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from gateway.wire.absorption import BUFFER_BYTES, TURN_BYTES, BodyThreads, absorb
from gateway.wire.framing import Framing, framing_of
from gateway.wire.patience import PROGRESS_BYTES
from gateway.wire.peer import Peer, PeerGone
from gateway.wire.refusals import Refused
from tests.gateway.wire.encrypted import VERSIONS, connected_encrypted, contexts
from tests.gateway.wire.loopback import connected_peer

NEXT: Final = b"GET /next HTTP/1.1\r\n"
BODY: Final = os.urandom(3 * BUFFER_BYTES + 4321)
PIECES: Final = [1, 7, 100_000, 5, BUFFER_BYTES, 65_536]
"""Sizes of chunks, over and over."""


class Taken:
    """A sink that keeps a copy, and calls `then` with the number of the call."""

    def __init__(self, then: Callable[[int], None] = lambda _: None) -> None:
        self.body = bytearray()
        self.calls = 0
        self.threads: set[threading.Thread] = set()
        self._then = then

    def __call__(self, parts: Sequence[memoryview]) -> None:
        """Take the next bytes."""
        self.threads.add(threading.current_thread())
        assert all(parts)
        assert sum(map(len, parts)) <= BUFFER_BYTES
        self.body += b"".join(parts)
        self.calls += 1
        self._then(self.calls)


def chunked(body: bytes) -> bytes:
    """The body in chunks of `PIECES`."""
    pieces, place = [], 0
    for size in cycle(PIECES):
        piece = body[place : place + size]
        pieces.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        place += len(piece)
        if not piece:
            break
    return b"".join(pieces)


def framed(body: bytes, *, by_length: bool) -> tuple[bytes, Framing]:
    """What the client sends, and how the server reads it."""
    return (body, framing_of(len(body))) if by_length else (chunked(body), framing_of(None))


async def send_pieces(client: trio.SocketStream, raw: bytes, *, size_bytes: int = 50_001) -> None:
    """Send it in pieces that end anywhere."""
    for place in range(0, len(raw), size_bytes):
        await client.send_all(raw[place : place + size_bytes])


async def take(peer: Peer, framing: Framing, sink: Taken, *, threads: BodyThreads | None = None) -> None:
    """Absorb with what these tests have in common."""
    await absorb(peer, framing, sink, idle_s=60, threads=threads or BodyThreads(1))


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("carried", [0, 1, 20_000])
@pytest.mark.parametrize("size_bytes", [1, 70_000, len(BODY)])
async def test_every_byte_once(size_bytes: int, carried: int, *, by_length: bool) -> None:
    """The body arrives whole, in a thread, what came with the head first; what is behind it is the next request's."""
    raw, framing = framed(BODY[:size_bytes], by_length=by_length)
    sink = Taken()
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        peer.unread = (raw + NEXT)[:carried]
        nursery.start_soon(send_pieces, client, (raw + NEXT)[carried:])
        await take(peer, framing, sink)

        assert framing.done
        assert sink.body == BODY[:size_bytes]
        assert threading.current_thread() not in sink.threads
        while len(peer.unread) < len(NEXT):
            assert await peer.fill(100)
        assert peer.unread == NEXT


async def test_no_body() -> None:
    """A body that has ended already asks for no byte and no thread."""
    sink = Taken()
    async with connected_peer(send_idle_s=1) as (_, peer):
        await take(peer, framing_of(0), sink)
    assert sink.calls == 0


async def test_tiny_chunks() -> None:
    """Chunks of one byte are handed over many at a time, and none is lost."""
    body = BODY[:20_000]
    raw = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    sink = Taken()
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(send_pieces, client, raw)
        await take(peer, framing_of(None), sink)
    assert sink.body == body
    assert sink.calls < len(body) // 10


# --- cancelling and failing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("calls", [1, 2, 3])
async def test_cancelled_in_the_middle(calls: int, *, by_length: bool) -> None:
    """What the sink was given before a cancellation is never given again, and what it was not given is still there."""
    raw, framing = framed(BODY, by_length=by_length)
    threads = BodyThreads(1)
    scope = trio.CancelScope()

    def cancel(call: int) -> None:
        if call == calls:
            trio.from_thread.run_sync(scope.cancel)

    sink = Taken(cancel)
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(send_pieces, client, raw)
        with scope:
            await take(peer, framing, sink, threads=threads)
        assert scope.cancelled_caught
        assert sink.calls == calls
        assert sink.body == BODY[: len(sink.body)]

        await take(peer, framing, sink, threads=threads)
        assert sink.body == BODY


async def test_cancelled_while_the_client_pauses() -> None:
    """Nothing is under way in a thread then, so it ends at once; the rest of the body can still be read."""
    sink = Taken()
    framing = framing_of(6)
    async with connected_peer(send_idle_s=1) as (client, peer):
        await client.send_all(b"one")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take, peer, framing, sink)
                while not sink.body:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                scope.cancel()
        await client.send_all(b"two")
        await take(peer, framing, sink)
    assert sink.body == b"onetwo"


async def test_cancelled_while_the_sink_is_stuck() -> None:
    """The call that runs is waited for: nobody may believe that it has ended while it may still write."""
    entered, released = trio.Event(), threading.Event()

    def stick(call: int) -> None:
        if call == 1:
            trio.from_thread.run_sync(entered.set)
            assert released.wait(10)

    sink = Taken(stick)
    has_ended = False
    async with connected_peer(send_idle_s=1) as (client, peer):
        await client.send_all(b"one")
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def run() -> None:
                nonlocal has_ended
                with scope:
                    await take(peer, framing_of(6), sink)
                has_ended = True

            nursery.start_soon(run)
            await entered.wait()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not has_ended
            released.set()
    assert sink.body == b"one"


@pytest.mark.parametrize("by_length", [True, False])
async def test_sink_that_refuses(*, by_length: bool) -> None:
    """What the sink raises comes out as it is; the bytes of that call are gone, and the rest can be drained."""
    raw, framing = framed(BODY, by_length=by_length)

    def refuse(call: int) -> None:
        if call == 2:
            raise MemoryError("too much")

    sink, rest = Taken(refuse), Taken()
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(send_pieces, client, raw + NEXT)
        with pytest.raises(MemoryError, match="too much"):
            await take(peer, framing, sink)
        assert not framing.done
        await take(peer, framing, rest)
        assert sink.body + rest.body == BODY


@pytest.mark.parametrize("by_length", [True, False])
async def test_client_that_leaves(*, by_length: bool) -> None:
    """What came before the client left is handed over first."""
    raw, framing = framed(BODY, by_length=by_length)
    sink = Taken()
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(take_until_gone, peer, framing, sink)
        await client.send_all(raw[:-10])
        await client.send_eof()
    assert len(sink.body) > len(BODY) - 20
    assert sink.body == BODY[: len(sink.body)]


async def take_until_gone(peer: Peer, framing: Framing, sink: Taken) -> None:
    """Absorb from a client that will not finish."""
    with pytest.raises(PeerGone):
        await take(peer, framing, sink)
    assert not framing.done


async def test_client_that_resets() -> None:
    """A reset is told as leaving, too."""
    async with connected_peer(send_idle_s=1) as (client, peer):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        await take_until_gone(peer, framing_of(10), Taken())


async def test_malformed_chunk_in_the_middle() -> None:
    """The body up to there was handed over; then it is refused as on the loop."""
    sink = Taken()
    raw = chunked(BODY)[:-5]
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(send_pieces, client, raw + b"5\nhello")
        with pytest.raises(Refused, match="malformed"):
            await take(peer, framing_of(None), sink)
    assert sink.body == BODY[: len(sink.body)]


# --- patience -------------------------------------------------------------------------------------------------------


async def test_client_that_says_nothing(autojump_clock: MockClock) -> None:
    """After the idle time it is given up, and the thread was never taken."""
    sink = Taken()
    async with connected_peer(send_idle_s=1) as (_, peer):
        with pytest.raises(trio.TooSlowError):
            await take(peer, framing_of(1), sink)
    assert trio.current_time() == pytest.approx(60)
    assert not sink.threads


async def test_dripping_is_no_progress(autojump_clock: MockClock) -> None:
    """A byte now and then does not renew the patience."""
    sink = Taken()
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:

        async def drip() -> None:
            while True:
                await client.send_all(b"x")
                await trio.sleep(10)

        nursery.start_soon(drip)
        with pytest.raises(trio.TooSlowError):
            await take(peer, framing_of(1000), sink)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(60, abs=1)
    assert 5 <= len(sink.body) <= 7


async def test_enough_in_time_may_take_for_ever(autojump_clock: MockClock) -> None:
    """Progress counts, not the total."""
    sink = Taken()
    body = BODY[: 10 * PROGRESS_BYTES]
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:

        async def trickle() -> None:
            for place in range(0, len(body), PROGRESS_BYTES):
                await trio.sleep(50)
                await client.send_all(body[place : place + PROGRESS_BYTES])

        nursery.start_soon(trickle)
        await take(peer, framing_of(len(body)), sink)
    assert sink.body == body
    assert trio.current_time() >= 500


async def test_a_slow_disk_is_not_the_clients_fault(autojump_clock: MockClock) -> None:
    """The time that the sink takes does not use up the patience."""
    entered, released = trio.Event(), threading.Event()

    def stick(call: int) -> None:
        if call == 1:
            trio.from_thread.run_sync(entered.set)
            assert released.wait(10)

    sink = Taken(stick)
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(take, peer, framing_of(6), sink)
        await client.send_all(b"one")
        await entered.wait()
        await trio.sleep(1000)
        released.set()
        await trio.sleep(30)
        await client.send_all(b"two")
    assert sink.body == b"onetwo"


# --- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [0, 1, 200_000])
async def test_no_thread_for_a_client_that_pauses(sent: int) -> None:
    """However much it sent before, the thread is free for others while it pauses."""
    threads = BodyThreads(1)
    sink = Taken()
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: take(peer, framing_of(sent + 1), sink, threads=threads))
        await client.send_all(BODY[:sent])
        while len(sink.body) < sent:
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await threads.run(lambda: "free") == "free"
        assert len(sink.body) == sent
        await client.send_all(b"x")


async def test_more_bodies_than_threads() -> None:
    """Bodies take turns: with one thread, a short one ends while a long one is in full flow."""
    threads = BodyThreads(1)
    has_ended = False

    def end_of_long(_: int) -> None:
        assert len(long.body) < 20 * TURN_BYTES, "the short body never got its turn"

    long, short = Taken(end_of_long), Taken()

    async def flow(client: trio.SocketStream) -> None:
        piece = b"%x\r\n%s\r\n" % (BUFFER_BYTES, bytes(BUFFER_BYTES))
        while not has_ended:
            await client.send_all(piece)
        await client.send_all(b"0\r\n\r\n")

    async with (
        connected_peer(send_idle_s=1) as (long_client, long_peer),
        connected_peer(send_idle_s=1) as (short_client, short_peer),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(lambda: take(long_peer, framing_of(None), long, threads=threads))
        nursery.start_soon(flow, long_client)
        while long.calls < 3:  # noqa: ASYNC110 - a socket or thread tells, no event
            await trio.lowlevel.checkpoint()
        await short_client.send_all(BODY[:1000])
        await take(short_peer, framing_of(1000), short, threads=threads)
        has_ended = True
    assert short.body == BODY[:1000]


class Dripping(Taken):
    """A sink whose client sends a byte more each time, so that there is always something to receive."""

    def __init__(self, client: trio.SocketStream) -> None:
        super().__init__(self._drip)
        self._socket = client.socket

    def _drip(self, call: int) -> None:
        assert call < 1000, "nobody else got the thread"
        os.write(self._socket.fileno(), b"x")


@pytest.mark.parametrize("begun_with", [1, 100_000])
async def test_dripping_holds_no_thread(begun_with: int) -> None:
    """Whoever drips without a pause, also after full flow, gives the thread to those who wait for one."""
    threads = BodyThreads(1)
    short = Taken()
    async with (
        connected_peer(send_idle_s=1) as (client, peer),
        connected_peer(send_idle_s=1) as (short_client, short_peer),
        trio.open_nursery() as nursery,
    ):
        dripping = Dripping(client)
        await client.send_all(BODY[:begun_with])
        nursery.start_soon(lambda: take(peer, framing_of(1 << 30), dripping, threads=threads))
        while not dripping.calls:  # noqa: ASYNC110 - a socket or thread tells, no event
            await trio.lowlevel.checkpoint()
        await short_client.send_all(b"short")
        await take(short_peer, framing_of(5), short, threads=threads)
        nursery.cancel_scope.cancel()
    assert short.body == b"short"


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("by_length", [True, False])
async def test_a_body_inside_tls(version: ssl.TLSVersion, *, by_length: bool) -> None:
    """Bytes that OpenSSL holds are never waited for, and the connection goes on behind the body, both ways."""
    raw, framing = framed(BODY, by_length=by_length)
    sink = Taken()
    async with connected_encrypted(contexts(version)) as (client, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            await client.send_all(raw[:5])
            await trio.testing.wait_all_tasks_blocked(0.01)
            await client.send_all(raw[5:] + NEXT)

        nursery.start_soon(send)
        await take(peer, framing, sink)
        assert sink.body == BODY
        while len(peer.unread) < len(NEXT):
            assert await peer.fill(100)
        assert peer.unread == NEXT
        await peer.send(b"answer")
        assert await client.receive_some(100) == b"answer"
