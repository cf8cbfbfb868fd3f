"""HTTP/1.1 as a proxy sees it: a stream of bytes cut into heads and pieces of bodies, and nothing changed in it.

Only what is needed to tell where a message ends. A proxy relies on its neighbours to send no request before the last
one was answered; what breaks the framing is an error of the test's own server or client and raises ValueError.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

_HEAD_LIMIT = 256 * 1024
_BODILESS = {204, 304}


@dataclass(frozen=True, slots=True)
class Head:
    """A request line or status line and its fields, names in lower case; `raw` is all of it as it came."""

    raw: bytes
    words: tuple[str, str, str]
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, raw: bytes) -> "Head":
        """Take a head apart, the empty line included."""
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        one, two, *rest = [*first.split(" ", 2), "", ""]
        fields = ((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
        return cls(raw, (one, two, rest[0]), tuple(fields))

    @property
    def method(self) -> str:
        """Of a request."""
        return self.words[0]

    @property
    def target(self) -> str:
        """Of a request."""
        return self.words[1]

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.words[1])

    def field(self, name: str) -> str:
        """All values of a field, joined; empty without one."""
        return ", ".join(value for key, value in self.fields if key == name)


@dataclass(frozen=True, slots=True)
class Piece:
    """The next bytes of a message: its head, or some of its body. `ends`: the message is complete with them."""

    head: Head | None
    body: bytes
    ends: bool

    @property
    def raw(self) -> bytes:
        """The bytes as they came."""
        return self.head.raw if self.head else self.body


class Messages:
    """One direction of a connection. `has_body` says of a head whether a body may follow at all."""

    def __init__(self, has_body: Callable[[Head], bool], *, until_close: bool) -> None:
        self._has_body = has_body
        self._until_close = until_close  # what a message without any framing means: answers go on, requests end
        self._pending = bytearray()
        self._body: _Body | None = None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces that these bytes complete, in order; an unfinished head is kept for the next call."""
        while data or (self._body is None and self._pending):
            if self._body is None:
                head, data = self._cut_head(data)
                if head is None:
                    return
                self._body = self._framing(head)
                yield self._piece(Piece(head, b"", self._body.complete))
            else:
                taken = self._body.take(data)
                chunk, data = data[:taken], data[taken:]
                yield self._piece(Piece(None, chunk, self._body.complete))

    def _piece(self, piece: Piece) -> Piece:
        if piece.ends:
            self._body = None
        return piece

    def _cut_head(self, data: bytes) -> tuple[Head | None, bytes]:
        self._pending += data
        raw, end, rest = self._pending.partition(b"\r\n\r\n")
        if not end:
            if len(raw) > _HEAD_LIMIT:
                raise ValueError("no end of a head in sight")
            return None, b""
        self._pending.clear()
        return Head.parse(bytes(raw + end)), bytes(rest)

    def _framing(self, head: Head) -> "_Body":
        if not self._has_body(head):
            return _Length(0)
        if "chunked" in head.field("transfer-encoding").lower():
            return _Chunked()
        length = head.field("content-length")
        if length:
            return _Length(int(length))
        return _Endless() if self._until_close else _Length(0)


def requests() -> Messages:
    """What comes from a client."""
    return Messages(lambda head: True, until_close=False)


def answers(method: Callable[[], str]) -> Messages:
    """What comes from a server; `method` is that of the request which is being answered."""

    def has_body(head: Head) -> bool:
        return not (method() == "HEAD" or head.status in _BODILESS or head.status < 200)

    return Messages(has_body, until_close=True)


class _Length:
    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    @property
    def complete(self) -> bool:
        return self._left == 0

    def take(self, data: bytes) -> int:
        taken = min(len(data), self._left)
        self._left -= taken
        return taken


class _Endless:
    complete = False

    def take(self, data: bytes) -> int:
        return len(data)


class _Chunked:
    """Counts through chunk sizes, chunks, and the trailer's lines."""

    def __init__(self) -> None:
        self.complete = False
        self._line = bytearray()
        self._left = 0  # of the chunk and the line end after it
        self._in_trailer = False

    def take(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not self.complete:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
            else:
                end = data.find(b"\n", at)
                self._line += data[at : end + 1] if end >= 0 else data[at:]
                at = end + 1 if end >= 0 else len(data)
                if end >= 0:
                    self._end_of_line(bytes(self._line).strip())
                    self._line.clear()
        return at

    def _end_of_line(self, line: bytes) -> None:
        if self._in_trailer:
            self.complete = not line
        else:
            size = int(line.partition(b";")[0], 16)
            self._in_trailer = size == 0
            self._left = size + 2 if size else 0


_Body = _Length | _Endless | _Chunked
