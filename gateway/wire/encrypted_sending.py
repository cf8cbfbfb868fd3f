"""A span of a file out of a TLS channel: read, encrypted and sent in worker threads, in turns. Knows no HTTP.

    loop: wait until the reader takes more -> thread: a turn -> loop: ... until the span is out
A *turn* reads a buffer, sends it in pieces, and reads the next. It ends when

    the span is out                  -> done
    `TURN_BYTES` are out             -> another turn, behind whoever waits for a thread
    the reader takes no more         -> the loop waits for it; before that, the thread lingers a few moments, but
                                        not while others wait for a thread, and `_LINGERS` times in a turn at most
    the task is cancelled, or failed -> the connection is broken (`Peer`)

So a reader that is slow or stalled holds neither a thread nor a buffer, and OpenSSL keeps one record of it. Where a
turn ends is always the border of a piece: when OpenSSL took nothing of a piece it must be given the very same bytes
next, and as many; they are read again. Pages that are not in memory are waited for in the thread.
"""

import os
from dataclasses import dataclass
from typing import Final

import trio

from gateway.wire.channel import PIECE_BYTES, Channel
from gateway.wire.file_sending import too_short
from gateway.wire.patience import Patience
from gateway.wire.recall import FileSpan
from gateway.wire.threads import Threads

SMALL_BYTES: Final = PIECE_BYTES
"""Spans up to this size leave from the loop: encrypting them takes some 50 µs, and a hop to a thread costs more."""
TURN_BYTES: Final = 8 * 1024 * 1024
"""Some 6 ms of work: a hop to the loop and back is 1 % of it."""
_BUFFER_BYTES: Final = 128 * 1024
"""Read at once. It stays in the processor's cache between reading and encrypting: with 8 readers 128 KiB cost 0.76 CPU
s/GiB, 64 KiB 0.90, 256 KiB 0.94 and 512 KiB 1.1, in one run on a busy machine; with one reader all the same."""
_MOMENT_S: Final = 0.01
_MOMENTS: Final = 5
"""How long a thread waits for a reader in full flow, moment by moment: as long as nobody else wants the thread. With
one moment in place of five the hops to the loop and back, of 45 µs each, made 8 readers cost 7 % more."""
_LINGERS: Final = 8
"""How often in a turn, so that it tells of its progress at least twice a second."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a turn came to."""

    sent_bytes: int
    is_full: bool
    """Whether the reader has to be waited for."""


def send_small_nowait(channel: Channel, span: FileSpan) -> int:
    """Send a small span from the loop: how many bytes are on their way; 0: it is large, or something is waited for.

    After 0 the span belongs to `send_encrypted`. Raises OSError for a broken connection.
    """
    count = span.stop - span.start
    if not 0 < count <= SMALL_BYTES:
        return 0
    buffer = memoryview(bytearray(count))
    try:
        got = os.preadv(span.descriptor, [buffer], span.start, os.RWF_NOWAIT)
    except OSError:  # not in memory, or the file system cannot tell; another error is found again in the thread
        return 0
    return channel.send_nowait(buffer[:got]) if got == count else 0


async def send_encrypted(channel: Channel, span: FileSpan, *, patience: Patience, threads: Threads) -> None:
    """Send the span. Waiting for the reader is bounded by `patience`, which the caller has entered.

    Raises OSError for a broken connection, `FileTooShort`. Cancelled, it ends within a buffer's time; cancelled or
    failed, some of it may be out.
    """
    place = span.start
    while place < span.stop:
        turn = await threads.run(_turn, channel, FileSpan(span.descriptor, place, span.stop), threads)
        place += turn.sent_bytes
        patience.moved(turn.sent_bytes)
        if turn.is_full:
            await channel.wait_writable()


# --- in a thread


def _turn(channel: Channel, span: FileSpan, threads: Threads) -> _Turn:
    buffer = memoryview(bytearray(min(_BUFFER_BYTES, span.stop - span.start)))
    place, end = span.start, min(span.stop, span.start + TURN_BYTES)
    lingers = _LINGERS
    while place < end:
        trio.from_thread.check_cancelled()
        got = os.preadv(span.descriptor, [buffer[: span.stop - place]], place)
        if not got:
            raise too_short(span)
        sent = 0
        while sent < got:
            taken = channel.send_nowait(buffer[sent : min(sent + PIECE_BYTES, got)])
            sent += taken
            if not taken:
                lingers -= 1
                if lingers < 0 or not _linger(channel, threads):
                    return _Turn(place + sent - span.start, is_full=True)
        place += got
    return _Turn(place - span.start, is_full=False)


def _linger(channel: Channel, threads: Threads) -> bool:
    """Wait a little for a reader that was quick until now; whether it takes more."""
    return any(channel.poll_writable(_MOMENT_S) for _ in range(_MOMENTS) if not threads.are_wanted)
