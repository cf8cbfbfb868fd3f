"""The rest of a request's body, received in worker threads: socket, buffer, sink, without a copy in between.

    loop: wait for the first byte -> thread: a turn -> loop: wait ... until the body ends
A *turn* reads what has come, as much as fits into a buffer at a time, and hands the body's parts to the sink, which may
block (it hashes and writes). A client that keeps sending keeps its thread, unless others wait for one. A client that
pauses gives its thread and its buffer back: idle bodies cost neither, however many there are.

A sink that has to wait for room (for a slower store behind it) has a *gate*: when that is full the turn ends, and the
loop waits for room, so that no thread does.

The thread touches the peer's channel, its `unread` and the framing only while the task that runs `absorb` waits for it.
Knows no ASGI; what the sink does is the application's business.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from gateway.wire.framing import Framing
from gateway.wire.patience import PROGRESS_BYTES
from gateway.wire.peer import Peer, PeerGone
from gateway.wire.threads import Threads

Sink = Callable[[Sequence[memoryview]], None]
"""Takes the next bytes of the body, 1 byte to `BUFFER_BYTES` in parts that are none of them empty; called in a thread,
one call at a time. The parts lie in a buffer that is used again: they are gone when the call returns."""


class Gate(Protocol):
    """What a sink may have to wait for between two turns."""

    @property
    def is_full(self) -> bool:
        """Asked after each buffer, in the thread: whether the sink should be given no more until `room` has returned.

        Up to two buffers more may come before it is asked again.
        """
        ...

    async def room(self) -> None:
        """On the loop: wait until there is room. What it raises ends the body, as if the sink had raised it."""
        ...


BODY_THREADS: Final = 2
"""For all bodies of a worker, apart from the threads for files: uploads must not keep readers waiting. One hashes while
the other waits for the disk. Four beside the event loop on one core let a manifest wait half as long again."""
BUFFER_BYTES: Final = 512 * 1024
"""Received, hashed and written at once."""
TURN_BYTES: Final = 8 * 1024 * 1024
"""After so many bytes a thread that others wait for is given back: some 10 ms of work."""
_CALL_BYTES: Final = 64 * 1024
"""What receiving and passing on count for at least in a turn, however little they bring."""
_LINGER_S: Final = 0.02
"""How long a thread waits for a client in full flow: a hop to the loop and back costs as much CPU as 64 KiB."""
_FLOW_BYTES: Final = 64 * 1024
"""What a client must send for its thread to wait for it, each time: a slow one never has a thread that waits."""
_BATCH_BYTES: Final = 128 * 1024
"""Less than this at once costs more for the calls than for the bytes: then more is left to come together."""
_BATCH_S: Final = 0.004
"""How long for, at most: as soon as that much is there, or the sender's window is full, it goes on (SO_RCVLOWAT). At
100 MB/s it takes 2.2 CPU s/GiB, where reading what is there took 2.9."""
_SLOW_BYTES: Final = 4 * 1024
"""What that wait must bring: a client below 1 MB/s is waited for on the loop, where its patience runs. Without this one
that drips a byte per wait held a thread for hours."""
_MOMENT_S: Final = 0.02
"""The same on the loop, for a client whose last turns did not fill a buffer: one at 20 MB/s takes 4.8 CPU s/GiB instead
of 7.5, and one that drips gets fifty turns per second at most."""


class BodyThreads(Threads):
    """The threads for bodies, and a buffer for each, used again: made anew each time they leave holes in the heap.

    One per worker.
    """

    def __init__(self, size: int = BODY_THREADS) -> None:
        super().__init__(size)
        self._free: list[bytearray] = []

    @contextmanager
    def buffer(self) -> Iterator[bytearray]:
        """In a thread: `BUFFER_BYTES` for its turn, with anything in them."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray(BUFFER_BYTES)
        try:
            yield buffer
        finally:
            self._free.append(buffer)


async def absorb(
    peer: Peer, framing: Framing, sink: Sink, *, idle_s: float, threads: BodyThreads, gate: Gate | None = None
) -> None:
    """Receive the rest of the body and give it to the sink; what is beyond its end is left in `peer.unread`.

    While the `gate` is full nothing is received, which uses up nobody's patience.

    Raises `trio.TooSlowError` when fewer than `PROGRESS_BYTES` came while we waited for the client for `idle_s`,
    `PeerGone`, `Refused` for broken framing, and what the sink raises: then the bytes of that call are off the peer
    and the rest may still be read. When cancelled it waits for the call of the sink that runs, and for no other;
    what the sink was given is off the peer, what it was not given is there.
    """
    await _Absorption(peer, framing, sink, threads, gate).run(idle_s)


class _Absorption:
    """One body on its way. `run` and its turns alternate, so nothing here is used by two threads at once."""

    __slots__ = ("_framing", "_gate", "_patience_s", "_peer", "_progress", "_sink", "_threads")

    def __init__(self, peer: Peer, framing: Framing, sink: Sink, threads: BodyThreads, gate: Gate | None) -> None:
        self._peer = peer
        self._framing = framing
        self._sink = sink
        self._threads = threads
        self._gate = gate
        self._progress = 0  # bytes since patience was renewed
        self._patience_s = 0.0  # what is left of it; only waiting for the client uses it up

    async def run(self, idle_s: float) -> None:
        """See `absorb`."""
        self._patience_s = idle_s
        is_quiet, drips = not self._peer.unread, 0
        while not self._framing.done:
            if self._gate is not None and self._gate.is_full:
                await self._gate.room()
            if is_quiet:
                await self._wait(moment_s=_MOMENT_S if drips > 1 else 0)
            before = self._progress
            is_quiet = await self._threads.run(self._turn)
            drips = drips + 1 if self._progress - before < BUFFER_BYTES else 0
            if self._progress >= PROGRESS_BYTES:
                self._progress = 0
                self._patience_s = idle_s

    async def _wait(self, *, moment_s: float) -> None:
        """Until something has come, and a moment longer for more of it."""
        began = trio.current_time()
        with trio.move_on_after(self._patience_s) as scope:
            await self._peer.wait_readable()
            if moment_s:
                with trio.move_on_after(moment_s), self._batch():
                    await self._peer.wait_readable()
        if scope.cancelled_caught:
            raise trio.TooSlowError
        self._patience_s = max(0, self._patience_s - (trio.current_time() - began))

    @contextmanager
    def _batch(self) -> Iterator[None]:
        """Meanwhile the socket is readable only when a batch is there, or its window is full, or its end."""
        left = self._framing.known_left
        sock = self._peer.channel.socket
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(_BATCH_BYTES, left or _BATCH_BYTES))
            try:
                yield
            finally:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        except OSError as error:
            raise PeerGone("the connection was closed") from error

    # --- in a thread

    def _turn(self) -> bool:
        """Take what comes; True when the client pauses, False at the body's end or when the thread must be given up."""
        self._pass_on(memoryview(self._peer.unread))
        if self._framing.done:
            return False
        with self._threads.buffer() as buffer:
            return self._receive_all(memoryview(buffer))

    def _receive_all(self, buffer: memoryview) -> bool:
        flow = turn = 0
        has_waited = False
        while not self._framing.done:
            received = self._receive(buffer)
            if not received:
                if not self._is_worth_waiting(flow):
                    return True
                flow = 0
                continue
            if self._gate is not None and self._gate.is_full:
                return False
            flow += received
            turn += max(received, _CALL_BYTES)
            if turn >= TURN_BYTES:
                if self._threads.are_wanted:
                    return False
                turn = 0
            if has_waited and received < _SLOW_BYTES:
                return True
            has_waited = flow > _FLOW_BYTES and received < _BATCH_BYTES and not self._framing.done
            if has_waited:
                if self._threads.are_wanted:
                    return True
                with self._batch():
                    self._peer.channel.poll_readable(_BATCH_S)
        return False

    def _is_worth_waiting(self, flow: int) -> bool:
        """Wait for more in the thread if the client deserves it; whether there is more."""
        return flow >= _FLOW_BYTES and not self._threads.are_wanted and self._peer.channel.poll_readable(_LINGER_S)

    def _receive(self, buffer: memoryview) -> int:
        """Receive what is there, behind what was undecided, and pass it on; how many bytes came."""
        left = self._framing.known_left
        begin = len(self._peer.unread)
        buffer[:begin] = self._peer.unread
        end = self._fill(buffer if left is None else buffer[:left], begin)
        if end > begin:
            self._progress += end - begin
            self._pass_on(buffer[:end])
        return end - begin

    def _fill(self, buffer: memoryview, begin: int) -> int:
        """Receive into the buffer from `begin` until it is full or there is no more now; up to where."""
        end = begin
        while end < len(buffer):
            received = self._receive_into(buffer[end:])
            if received == 0 and end == begin:
                raise PeerGone("the client left within its request's body")
            if not received:  # nothing now; or the end, and that is there the next time, too
                break
            end += received
        return end

    def _receive_into(self, space: memoryview) -> int | None:
        try:
            return self._peer.channel.recv_into_nowait(space)
        except OSError as error:
            raise PeerGone("the client reset the connection within its request's body") from error

    def _pass_on(self, received: memoryview) -> None:
        """Give the body's parts to the sink; what is not the body's, or undecided, is unread, however this ends."""
        place = 0
        try:
            while not self._framing.done:
                trio.from_thread.check_cancelled()  # also between the many small parts that tiny chunks make
                parts, used = self._framing.split(received[place:])
                place += used
                if not parts:
                    break
                self._sink(parts)
        finally:
            self._peer.unread = bytes(received[place:])
