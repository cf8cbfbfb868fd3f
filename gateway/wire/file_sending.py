"""A span of a file out of a plain channel, in turns, so that others are served between them. Knows no HTTP.

By sendfile, on the loop, without a copy (for TLS see `encrypted_sending`). A page that is not in memory would make the
loop wait for the disk, so each turn is probed first, and what is missing is read ahead in a thread.
"""

import os
from typing import Final

import trio

from gateway.wire.channel import PlainChannel
from gateway.wire.patience import Patience
from gateway.wire.recall import FileSpan
from gateway.wire.threads import Threads

ROUND_BYTES: Final = 4 * 1024 * 1024
"""Sent until everybody had a turn, by all readers together: what a manifest waits for beside them, 1 to 2 ms. Turns of
8 MiB each made it 40 ms."""
TURN_BYTES: Final = 2 * 1024 * 1024
"""The longest turn, for a reader that is nearly alone: with 512 KiB one cost 0.170 CPU s/GiB, with this 0.156."""
_SHORTEST_TURN_BYTES: Final = 256 * 1024
"""Turns of 64 KiB cost half as much CPU again."""
_PROBE_BYTES: Final = 256 * 1024
"""Between two pages that are looked at: those in memory come and go in groups, mostly from the end that was read."""
_AHEAD_BYTES: Final = 2 * 1024 * 1024
"""Read in one go when pages are missing: what a disk needs to be fast, and all the memory that it takes."""
SHORT_BYTES: Final = 64 * 1024
"""Spans up to this size leave through memory, together with what goes before them: one call in place of two, and one
packet train in place of three, for a span rarely begins with a page. 17,000 to 20,000 of 64 KiB per CPU second where
sendfile gave 11,000 to 15,000."""
_PROBE: Final = [bytearray(1)]
_SHORT: Final = memoryview(bytearray(SHORT_BYTES))


class SendingThreads(Threads):
    """The threads for files that are sent, and how many readers of long spans there are."""

    readers = 0

    def turn_bytes(self) -> int:
        """How much one reader gets before it is the next one's turn."""
        return max(_SHORTEST_TURN_BYTES, min(TURN_BYTES, ROUND_BYTES // max(self.readers, 1)))


class FileTooShort(Exception):
    """The file ended before the span: what was promised cannot be sent."""


def read_short_nowait(span: FileSpan) -> memoryview | None:
    """The bytes of a short span; None: it is not short, or its file would have to be waited for, or ends too early.

    They lie in a buffer that the next call uses again: send them before anything is awaited.
    """
    count = span.stop - span.start
    if not 0 < count <= SHORT_BYTES:
        return None
    place = _SHORT[:count]
    try:
        return place if os.preadv(span.descriptor, [place], span.start, os.RWF_NOWAIT) == count else None
    except OSError:  # another error than waiting is found again, and told, by who sends it the long way
        return None


def send_turn_nowait(channel: PlainChannel, span: FileSpan) -> int:
    """One turn at most: how many bytes are on their way; 0: the reader or the disk would have to be waited for.

    Raises OSError for a broken connection, `FileTooShort`.
    """
    count = min(_SHORTEST_TURN_BYTES, span.stop - span.start)
    if not _are_in_memory(span.descriptor, span.start, count):
        return 0
    try:
        sent = os.sendfile(channel.socket.fileno(), span.descriptor, span.start, count)
    except BlockingIOError:
        return 0
    if sent == 0:
        raise too_short(span)
    return sent


async def send_file(channel: PlainChannel, span: FileSpan, *, patience: Patience, threads: SendingThreads) -> None:
    """Send the span. Waiting for the reader is bounded by `patience`, which the caller has entered.

    Raises OSError for a broken connection, `FileTooShort`. Cancelled or failed, some of it may be out.
    """
    threads.readers += 1
    try:
        await _send_in_turns(channel, span, patience, threads)
    finally:
        threads.readers -= 1


async def _send_in_turns(channel: PlainChannel, span: FileSpan, patience: Patience, threads: SendingThreads) -> None:
    out, descriptor, stop = channel.socket.fileno(), span.descriptor, span.stop
    place = span.start
    while place < stop:
        count = min(threads.turn_bytes(), stop - place)
        if not _are_in_memory(descriptor, place, count):
            await threads.run(_read, descriptor, min(_AHEAD_BYTES, stop - place), place)
        try:
            sent = os.sendfile(out, descriptor, place, count)
        except BlockingIOError:
            await channel.wait_writable()
            continue
        if sent == 0:
            raise too_short(span)
        place += sent
        patience.moved(sent)
        if place < stop:
            if sent == count:
                await trio.lowlevel.checkpoint()
            else:  # the socket's buffer is full
                await channel.wait_writable()


def too_short(span: FileSpan) -> FileTooShort:
    """The error for this span."""
    return FileTooShort(f"the file is shorter than {span.stop} bytes, which were promised")


def _are_in_memory(descriptor: int, place: int, count: int) -> bool:
    """Whether so many bytes can be sent without waiting for the disk, as far as some of their pages tell."""
    last = place + count - 1
    return all(_in_memory(descriptor, each) for each in range(place, last, _PROBE_BYTES)) and _in_memory(
        descriptor, last
    )


def _in_memory(descriptor: int, place: int) -> bool:
    """Whether reading there would not wait for the disk; True where the file system cannot tell."""
    try:
        os.preadv(descriptor, _PROBE, place, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _read(descriptor: int, size_bytes: int, place: int) -> None:
    """Bring pages into memory: read and throw away."""
    left = memoryview(bytearray(min(size_bytes, _SHORTEST_TURN_BYTES)))
    end = place + size_bytes
    while place < end and (got := os.preadv(descriptor, [left[: end - place]], place)):
        place += got
