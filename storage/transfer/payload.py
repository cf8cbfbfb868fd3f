"""What a request carries: bytes, a span of a file, or a stream of known length. Values; nothing is opened here."""

from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Bytes `start` to `stop` (not included) of an open file, which stays open until the request is over.

    Leaves by sendfile over plain TCP. Can be sent again, so the bytes must not change meanwhile. Meant for files that
    were just written: a page that is not in memory any more makes the event loop wait for the disk.
    """

    descriptor: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Stream:
    """Exactly `size_bytes`, in chunks of any size. Read once, so it cannot be sent again.

    The idle time does not run while a chunk is waited for: a source has patience of its own. When the server answers
    before all was sent, the iterator is cancelled where it waits, and not asked again. What it raises comes out of
    `Client.request` as it is.
    """

    size_bytes: int
    chunks: AsyncIterable[bytes | memoryview]


Payload = bytes | FileSpan | Stream

EMPTY: Final = b""


def size_of(payload: Payload) -> int:
    """How many bytes it promises."""
    match payload:
        case bytes():
            return len(payload)
        case FileSpan():
            return payload.stop - payload.start
        case Stream():
            return payload.size_bytes


def is_repeatable(payload: Payload) -> bool:
    """Whether it can be sent a second time."""
    return not isinstance(payload, Stream)
