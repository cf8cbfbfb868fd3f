"""The contract between the server and whoever remembers answers: `Recall`. Knows no registry and does no I/O.

A server that was told of one asks it before the application, for GET and HEAD requests without a body. What it gives
is sent as it is, so it must be byte for byte what the application would answer at that instant.

The values are named tuples: a frozen dataclass of five fields costs 1.2 us to make, a tuple 0.3, and an answer out of
memory makes several.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class FileSpan(NamedTuple):
    """Bytes [start, stop) of an open file; the descriptor stays open until the answer is released."""

    descriptor: int
    start: int
    stop: int


class Asked(NamedTuple):
    """A request as the server read it: no body, one meaning (see `heads`), and nothing decoded."""

    method: bytes
    target: bytes
    """The raw path with its query."""
    headers: Sequence[tuple[bytes, bytes]]
    """In the order in which they came; names in lower case, values without surrounding blanks."""
    client: tuple[str, int]
    scheme: str


def nothing_to_release() -> None:
    """For answers that hold no file."""


class Recalled(NamedTuple):
    """A whole answer."""

    status: int
    head: bytes
    """Status line and fields, each with its CR LF, a Content-Length among them (but for 304). The server adds its own
    fields (`date`, `connection` where needed) and the empty line."""
    body: bytes | FileSpan | Sequence[bytes | FileSpan]
    """Empty for HEAD and 304."""
    size_bytes: int
    """Bytes of the body as it is sent; 0 for HEAD and 304."""
    release: Callable[[], None] = nothing_to_release
    """Called exactly once, when the answer is sent or the sending has failed."""


class Recall(Protocol):
    """Somebody who remembers answers."""

    def recall(self, asked: Asked) -> Recalled | None:
        """The answer, or None: ask the application. Called on the event loop; never waits, never raises."""
        ...
