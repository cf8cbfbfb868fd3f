"""Where a request's body ends: by length or by chunks (RFC 9112 sections 6 and 7.1). Pure: bytes in, bytes out.

Own code in place of h11's readers because those accept a bare LF in trailers, and copy each byte three times.

    chunked:  size line -> data -> CR LF -> size line ... -> 0 -> trailer lines -> empty line, done
"""

import re
from enum import Enum, auto
from typing import Final, Protocol

from gateway.wire.refusals import Refused

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_LINE_BYTES: Final = 1024
"""A chunk's size line with its extensions; nobody sends extensions."""
_TRAILER_BYTES: Final = 8192
"""All trailer fields together; they are checked and dropped."""
_PARTS_AT_ONCE: Final = 512
"""A client that sends chunks of one byte must not hold the event loop: about 1 ms of work."""


class Framing(Protocol):
    """One body. `split` (or `take`) until `done`; then what comes next belongs to the next request."""

    @property
    def done(self) -> bool:
        """Whether the last byte of the body was taken."""
        ...

    @property
    def known_left(self) -> int | None:
        """Bytes of the body still to come, None if only the client knows."""
        ...

    def split(self, received: memoryview) -> tuple[list[memoryview], int]:
        """The body's parts at the front of `received` (none of them empty, nothing copied), and how far that reaches.

        What lies beyond belongs to the next request when `done`. Else give it again: at once if there are parts,
        otherwise (an unfinished line of at most 1 KiB) with more behind it. Raises `Refused` when the framing is
        broken at the front of `received`, so after the parts that came before.
        """
        ...


def take(framing: Framing, received: bytes) -> tuple[bytes, bytes]:
    """As `Framing.split`, in bytes: those of the body, and what is beyond. Copies nothing where all is the body's."""
    parts, used = framing.split(memoryview(received))
    if len(parts) == 1 and len(parts[0]) == len(received):
        return received, b""
    return b"".join(parts), received[used:]


class LengthFraming:
    """A body of a known number of bytes; 0 for none."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    @property
    def done(self) -> bool:
        """See `Framing`."""
        return self._left == 0

    @property
    def known_left(self) -> int | None:
        """See `Framing`."""
        return self._left

    def split(self, received: memoryview) -> tuple[list[memoryview], int]:
        """See `Framing`."""
        part = received[: self._left]
        self._left -= len(part)
        return [part] if part else [], len(part)


class _Phase(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    DONE = auto()


class ChunkedFraming:
    """A body in chunks."""

    def __init__(self) -> None:
        self._phase = _Phase.SIZE
        self._left = 0
        self._trailer_bytes = 0

    @property
    def done(self) -> bool:
        """See `Framing`."""
        return self._phase is _Phase.DONE

    @property
    def known_left(self) -> int | None:
        """See `Framing`."""
        return 0 if self.done else None

    def split(self, received: memoryview) -> tuple[list[memoryview], int]:
        """See `Framing`."""
        parts: list[memoryview] = []
        place = 0
        while place < len(received) and len(parts) < _PARTS_AT_ONCE and self._phase is not _Phase.DONE:
            if self._phase is _Phase.DATA:
                part = received[place : place + self._left]
                parts.append(part)
                place += len(part)
                self._left -= len(part)
                if self._left == 0:
                    self._phase = _Phase.DATA_END
                continue
            try:
                used = self._take_line(bytes(received[place : place + _LINE_BYTES + 1]))
            except Refused:
                if parts:
                    break  # what came before it is the body's; the next call meets it again
                raise
            if not used:
                break
            place += used
        return parts, place

    def _take_line(self, received: bytes) -> int:
        """The line at the front, if it is whole; its length, or 0."""
        end = received.find(b"\n")
        if end < 0:
            if len(received) > _LINE_BYTES:
                raise Refused("a line of the chunked body is too long")
            return 0
        self._line(received[: end + 1])
        return end + 1

    def _line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n") or len(line) > _LINE_BYTES:
            raise Refused("a line of the chunked body is malformed")
        line = line[:-2]
        if self._phase is _Phase.SIZE:
            size = _SIZE_LINE.fullmatch(line)
            if size is None:
                raise Refused("a chunk's size is malformed")
            self._left = int(size[1], 16)
            self._phase = _Phase.DATA if self._left else _Phase.TRAILER
        elif self._phase is _Phase.DATA_END:
            if line:
                raise Refused("a chunk is longer than its size says")
            self._phase = _Phase.SIZE
        else:
            self._trailer(line)

    def _trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if not line:
            self._phase = _Phase.DONE
        elif self._trailer_bytes > _TRAILER_BYTES or _TRAILER.fullmatch(line) is None:
            raise Refused("the trailer of the chunked body is malformed")


def framing_of(body_bytes: int | None) -> Framing:
    """The framing of a body of that length; None is chunked."""
    return ChunkedFraming() if body_bytes is None else LengthFraming(body_bytes)
