"""What can go wrong on the way to a server, as values: what a proxy is told to do to a request or a connection.

`UP` is towards the server, `DOWN` back to the client. Positions count bytes of the body, from 0; where the proxy does
not read HTTP, every byte of the connection counts as body. `BEFORE` means: not even the head passes.
"""

from dataclasses import dataclass
from typing import Final, Literal

Direction = Literal["up", "down"]
UP: Final = "up"
DOWN: Final = "down"
BEFORE: Final = -1


@dataclass(frozen=True, slots=True)
class Latency:
    """Each head, or the first byte of a connection, waits so long before it passes."""

    seconds: float
    direction: Direction = DOWN


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """No more than so many bytes in a second."""

    bytes_s: float
    direction: Direction = DOWN


@dataclass(frozen=True, slots=True)
class Stall:
    """From there on nothing passes, and nothing is closed, until the proxy heals; then it goes on."""

    after_bytes: int = BEFORE
    direction: Direction = DOWN


@dataclass(frozen=True, slots=True)
class Reset:
    """There the connection is reset, on both sides. With `DOWN` and `BEFORE` the server has done what was asked."""

    after_bytes: int = BEFORE
    direction: Direction = DOWN


@dataclass(frozen=True, slots=True)
class Cut:
    """There both sides of the connection are closed in order, as when a server ends too early."""

    after_bytes: int = BEFORE
    direction: Direction = DOWN


@dataclass(frozen=True, slots=True)
class HalfClose:
    """There the receiver is told that no more comes; the other direction stays open."""

    after_bytes: int = BEFORE
    direction: Direction = DOWN


@dataclass(frozen=True, slots=True)
class WrongByte:
    """One byte is changed; all else, and the length, stay as they are."""

    at: int
    direction: Direction = DOWN


@dataclass(frozen=True, slots=True)
class Answer:
    """The server is not asked; the whole request is read and this is answered, and the connection stays open."""

    status: int
    body: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()

    def raw(self, method: str) -> bytes:
        """The answer's bytes."""
        named = (*self.fields, ("Content-Length", str(len(self.body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in named)
        return f"HTTP/1.1 {self.status} Fault\r\n{lines}\r\n".encode() + (b"" if method == "HEAD" else self.body)


@dataclass(frozen=True, slots=True)
class AnsweredTwice:
    """The answer comes a second time, with nobody having asked."""


@dataclass(frozen=True, slots=True)
class AskedTwice:
    """The server gets the whole request twice, one after the other; the client sees the second answer."""


Fault = Latency | Bandwidth | Stall | Reset | Cut | HalfClose | WrongByte | Answer | AnsweredTwice | AskedTwice
