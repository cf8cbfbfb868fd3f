"""An answer: its head, and its body as it is received. Knows no sockets: bytes come from a `Source`."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, Self

from storage.transfer.errors import TooLarge
from storage.transfer.framing import Framing
from storage.transfer.heads import Head


class Receiving(Protocol):
    """Where the bytes of a body come from."""

    async def receive(self, max_bytes: int) -> bytes:
        """1 to `max_bytes` bytes; none at the end of the connection."""
        ...


class Response:
    """Read its body within `Client.request`, once, from one task."""

    def __init__(self, head: Head, framing: Framing, unread: bytes, source: Receiving, *, reusable: bool) -> None:
        self.status = head.status
        self.headers: Sequence[tuple[str, str]] = head.headers
        """In order; names in lower case, repeated ones kept, values without surrounding blanks."""
        self.size_bytes = head.size_bytes
        """Of the body as framed (so 0 for HEAD); None: only its end tells."""
        self._body = Body(framing, unread, source)
        self._reusable = reusable

    def header(self, name: str, default: str = "") -> str:
        """The first field of this name, in lower case."""
        return next((value for each, value in self.headers if each == name), default)

    def chunks(self) -> AsyncIterator[bytes]:
        """The body: chunks of 1 byte to 256 KiB, concatenated in order; read one ahead of the server never.

        Raises `Broken` where the body is cut off or misframed, `Stalled` when no byte comes for the idle time; the time
        that the caller takes between chunks does not count. Cancelled, nothing is lost: it can be asked again.
        """
        return self._body

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body, at most `limit_bytes`, else `TooLarge`. Raises also what `chunks` raises."""
        too_large = TooLarge(f"the answer's body is larger than {limit_bytes} bytes")
        if self.size_bytes is not None and self.size_bytes > limit_bytes:
            raise too_large
        parts, size_bytes = [], 0
        async for chunk in self._body:
            size_bytes += len(chunk)
            if size_bytes > limit_bytes:
                raise too_large
            parts.append(chunk)
        return b"".join(parts)

    def is_over_nowait(self) -> bool:
        """Whether the connection can serve again: this body was received, exactly, and nothing forbids it.

        The rest of a body that has come already, unasked for, counts as received.
        """
        return self._reusable and self._body.finish_nowait()


class Body:
    """The iterator behind `Response.chunks`."""

    def __init__(self, framing: Framing, unread: bytes, source: Receiving) -> None:
        self._framing = framing
        self._unread = unread
        self._source = source
        self._failure: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        try:
            while not self._framing.done:
                if chunk := await self._next():
                    return chunk
        except Exception as error:
            self._failure = error
            raise
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        received, self._unread = self._unread, b""
        if not received:
            received = await self._source.receive(self._framing.wanted_bytes)
            if not received:
                self._framing.end()
                return b""
        return self._framing.take(received)

    def finish_nowait(self) -> bool:
        """See `Response.is_over_nowait`."""
        if self._failure is not None:
            return False
        if self._unread:
            unread, self._unread = self._unread, b""
            try:
                if self._framing.done:
                    return False
                self._framing.take(unread)
            except Exception:  # noqa: BLE001  # whatever it is, nobody reads this body, and the connection is closed
                return False
        return self._framing.done and self._framing.exact
