"""A sink that has to wait for room: the loop waits, no thread does, the client is not blamed, and no byte is lost."""

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway.wire.absorption import BUFFER_BYTES, BodyThreads, absorb
from tests.gateway.wire.loopback import connected_peer, patient_clock
from tests.gateway.wire.test_absorption import BODY, NEXT, framed, send_pieces

ROOM_BYTES = 300_000


class Gated:
    """A sink with room for `ROOM_BYTES` at a time; `wait` is what making room takes."""

    def __init__(self, wait: Callable[[], trio.Event | None] = lambda: None) -> None:
        self.body = bytearray()
        self.rooms = 0
        self.most = 0
        self._taken = 0
        self._wait = wait

    def __call__(self, parts: Sequence[memoryview]) -> None:
        """Take the next bytes, more than there is room for if need be."""
        self.body += b"".join(parts)
        self._taken += sum(map(len, parts))
        self.most = max(self.most, self._taken)

    @property
    def is_full(self) -> bool:
        """Whether it has more than it wanted."""
        return self._taken >= ROOM_BYTES

    async def room(self) -> None:
        """Make room."""
        assert self.is_full
        if (event := self._wait()) is not None:
            await event.wait()
        self._taken = 0
        self.rooms += 1


@pytest.fixture
def autojump_clock() -> MockClock:
    """In place of the ready-made one: these tests wait for the kernel, too."""
    return patient_clock()


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("carried", [0, 400_000])
async def test_every_byte_once(carried: int, *, by_length: bool) -> None:
    """However often it is full the body arrives whole, and never much more than there was room for."""
    raw, framing = framed(BODY, by_length=by_length)
    sink = Gated()
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        peer.unread = (raw + NEXT)[:carried]
        nursery.start_soon(send_pieces, client, (raw + NEXT)[carried:])
        await absorb(peer, framing, sink, idle_s=60, threads=BodyThreads(1), gate=sink)
    assert sink.body == BODY
    assert sink.rooms >= 2
    assert sink.most < ROOM_BYTES + 2 * BUFFER_BYTES


async def test_no_thread_waits_for_room() -> None:
    """While one body waits for room, another one goes through the only thread."""
    opened = trio.Event()
    full, free = Gated(lambda: opened), Gated()
    threads = BodyThreads(1)
    raw, framing = framed(BODY, by_length=True)
    other_raw, other_framing = framed(BODY[:ROOM_BYTES], by_length=True)
    async with (
        connected_peer(send_idle_s=1) as (client, peer),
        connected_peer(send_idle_s=1) as (other_client, other_peer),
        trio.open_nursery() as nursery,
    ):

        async def fill() -> None:
            await absorb(peer, framing, full, idle_s=60, threads=threads, gate=full)

        nursery.start_soon(send_pieces, client, raw)
        nursery.start_soon(fill)
        while not full.is_full:
            await wait_all_tasks_blocked(0.001)
        nursery.start_soon(send_pieces, other_client, other_raw)
        await absorb(other_peer, other_framing, free, idle_s=60, threads=threads, gate=free)
        assert free.body == BODY[:ROOM_BYTES]
        assert not framing.done
        opened.set()
    assert full.body == BODY


async def test_waiting_for_room_is_not_the_clients_fault(autojump_clock: MockClock) -> None:
    """However long room takes, a client that sends is not given up for it."""
    sink = Gated()

    async def slow() -> None:
        await trio.sleep(1000)
        await Gated.room(sink)

    sink.room = slow  # type: ignore[method-assign]
    raw, framing = framed(BODY, by_length=True)
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(send_pieces, client, raw)
        await absorb(peer, framing, sink, idle_s=5, threads=BodyThreads(1), gate=sink)
    assert sink.body == BODY
    assert trio.current_time() >= 2000


async def test_room_that_cannot_be_made() -> None:
    """What the gate raises ends the body as if the sink had raised it; the rest can still be read."""
    sink = Gated()

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise MemoryError("the store does not answer")

    sink.room = fail  # type: ignore[method-assign]
    raw, framing = framed(BODY, by_length=True)
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(send_pieces, client, raw)
        with pytest.raises(MemoryError, match="the store"):
            await absorb(peer, framing, sink, idle_s=60, threads=BodyThreads(1), gate=sink)
        rest = Gated()
        await absorb(peer, framing, rest, idle_s=60, threads=BodyThreads(1))
    assert sink.body + rest.body == BODY


async def test_cancelled_while_it_waits_for_room() -> None:
    """It ends at once, and nothing is lost or given twice."""
    sink = Gated(trio.Event)
    raw, framing = framed(BODY, by_length=True)
    async with connected_peer(send_idle_s=1) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(send_pieces, client, raw)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:

                async def run() -> None:
                    await absorb(peer, framing, sink, idle_s=60, threads=BodyThreads(1), gate=sink)

                inner.start_soon(run)
                while not sink.is_full:
                    await wait_all_tasks_blocked(0.001)
                scope.cancel()
        before = bytes(sink.body)
        rest = Gated()
        await absorb(peer, framing, rest, idle_s=60, threads=BodyThreads(1), gate=rest)
    assert before == BODY[: len(before)]
    assert sink.body + rest.body == BODY
