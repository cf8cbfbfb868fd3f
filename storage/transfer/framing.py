"""Where an answer's body ends: by length, by chunks, or with the connection (RFC 9112, 6.3 and 7.1). Pure.

Chunks are read by llhttp, through httptools: its reader is strict, and fast where a server sends chunks of one byte.
What it does not bound is bounded here: extensions and trailers.
"""

from typing import Final, Protocol

import httptools

from storage.transfer.errors import Broken
from storage.transfer.heads import Head

CHUNK_BYTES: Final = 256 * 1024
"""Received at once. Where 64 KiB cost 1.6 CPU s/GiB this took 1.1, and 1 MiB no less."""
_CODED_BYTES: Final = 64 * 1024
"""Received at once of a chunked body: a server that sends chunks of one byte holds the loop for 4 ms at most."""
_OVERHEAD_BYTES: Final = 64 * 1024
"""Of chunk extensions and trailers without a byte of the body between them."""
_HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Framing(Protocol):
    """One body. Give it what was received until `done`."""

    @property
    def done(self) -> bool:
        """Whether the last byte of the body was taken."""
        ...

    @property
    def exact(self) -> bool:
        """Whether nothing was received beyond the body."""
        ...

    @property
    def wanted_bytes(self) -> int:
        """How much to receive at most; at least 1 while not `done`."""
        ...

    def take(self, received: bytes) -> bytes:
        """The bytes of the body among those received (at least one): none or more. Raises `Broken`."""
        ...

    def end(self) -> None:
        """The connection has ended. Raises `Broken` where the body has not."""
        ...


class LengthFraming:
    """A body of a known number of bytes; 0 for none."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes
        self.exact = True

    @property
    def done(self) -> bool:
        """See `Framing`."""
        return self._left == 0

    @property
    def wanted_bytes(self) -> int:
        """See `Framing`: never beyond the body, so that what lies there is found before the connection serves again."""
        return min(CHUNK_BYTES, self._left)

    def take(self, received: bytes) -> bytes:
        """See `Framing`."""
        if len(received) > self._left:
            self.exact = False
            received = received[: self._left]
        self._left -= len(received)
        return received

    def end(self) -> None:
        """See `Framing`."""
        if self._left:
            raise Broken(f"the connection ended {self._left} bytes before the end of the body")


class UntilEndFraming:
    """A body without length or chunks: it ends with the connection."""

    def __init__(self) -> None:
        self.done = False
        self.exact = False
        self.wanted_bytes = CHUNK_BYTES

    def take(self, received: bytes) -> bytes:
        """See `Framing`."""
        return received

    def end(self) -> None:
        """See `Framing`."""
        self.done = True


class ChunkedFraming:
    """A body in chunks; its trailers are checked and dropped."""

    def __init__(self) -> None:
        self.done = False
        self.exact = True
        self.wanted_bytes = _CODED_BYTES
        self._parts: list[bytes] = []
        self._overhead_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(_HEAD)

    def take(self, received: bytes) -> bytes:
        """See `Framing`."""
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserError as error:
            if not self.done:  # behind the end it may be anything
                raise Broken(f"the chunks of the body are malformed: {error}") from error
            self.exact = False
        parts, self._parts = self._parts, []
        self._overhead_bytes = 0 if parts else self._overhead_bytes + len(received)
        if self._overhead_bytes > _OVERHEAD_BYTES:
            raise Broken("the body has endless chunk extensions or trailers")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self) -> None:
        """See `Framing`."""
        raise Broken("the connection ended before the last chunk of the body")

    def on_body(self, part: bytes) -> None:
        """For httptools."""
        if not self.done:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        """For httptools."""
        self.done = True

    def on_message_begin(self) -> None:
        """For httptools: something that looks like the answer to the next request, which nobody has sent."""
        if self.done:
            self.exact = False


def framing_of(head: Head) -> Framing:
    """How the body of this answer ends."""
    if head.chunked:
        return ChunkedFraming()
    return UntilEndFraming() if head.size_bytes is None else LengthFraming(head.size_bytes)
