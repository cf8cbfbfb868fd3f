"""Where an intake's bytes come from, and how a stream that breaks is gone on with. Knows no files and no digests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio

from storage.blobstore import Span
from storage.errors import Damaged, Unavailable

_RESUMES: Final = 5
"""How often a stream may break before it is given up, counted anew after every `_PROGRESS_BYTES`."""
_PROGRESS_BYTES: Final = 16 * 1024 * 1024
_PAUSE_S: Final = 0.1
"""Before the first resumption; doubled each time: 3.1 s in all."""


class Source(Protocol):
    """One blob somewhere else: an object of a store, a blob of an upstream registry."""

    @property
    def name(self) -> str:
        """What it is called in messages; no secrets."""
        ...

    def read(self, span: Span) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The span, in chunks of 1 byte to 256 KiB, in order. Safe to be called several times, one after the other.

        Raises `BlobUnknown`, `Damaged` (also for a wrong size), and `Unavailable` for what may go better next time; a
        stream that ends early counts as that. Idle times are the source's business.
        """
        ...


async def deliver(source: Source, span: Span, take: Callable[[bytes], Awaitable[None]]) -> None:
    """Hand every chunk of the span to `take`, once and in order; a stream that breaks is resumed where it broke.

    A source that gives nothing at all has said what it has to say: the first time that is believed at once, in the
    middle after one more try, so that a service that is down is told of soon. Raises what `take` raises, and of the
    source what resuming does not help. To be called in a task of its own, or where nothing else is open: it enters and
    leaves the source's contexts as it goes.
    """
    taker = _Taker(take, span, source.name)
    patience = _Patience(span.start)
    while taker.position < span.stop:
        try:
            async with source.read(Span(taker.position, span.stop)) as chunks:
                await taker.take_from(chunks)
            if taker.position < span.stop and taker.refusal is None:
                raise Unavailable(f"{source.name} ended after {taker.position} of {span.stop} bytes")  # noqa: TRY301
        except Unavailable:
            if taker.refusal is None:
                pause_s = patience.broke_at(taker.position)
                if pause_s is None:
                    raise
                await trio.sleep(pause_s)
        if taker.refusal is not None:
            raise taker.refusal


class _Patience:
    """How often a stream may break."""

    def __init__(self, start: int) -> None:
        self._start = self._position = self._counted_from = start
        self._resumes = 0
        self._gave_nothing = False

    def broke_at(self, position: int) -> float | None:
        """How long to wait before it is resumed; None: no more."""
        if position - self._counted_from >= _PROGRESS_BYTES:
            self._counted_from, self._resumes = position, 0
        gave_nothing = position == self._position
        if position == self._start or (gave_nothing and self._gave_nothing) or self._resumes == _RESUMES:
            return None
        self._position, self._gave_nothing = position, gave_nothing
        self._resumes += 1
        return _PAUSE_S * 2.0 ** (self._resumes - 1)


class _Taker:
    """What was taken so far. A refusal is kept: raised inside, it would pass through contexts of the source."""

    def __init__(self, take: Callable[[bytes], Awaitable[None]], span: Span, name: str) -> None:
        self._take = take
        self._stop = span.stop
        self._name = name
        self.position = span.start
        self.refusal: Exception | None = None

    async def take_from(self, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            self.position += len(chunk)
            if self.position > self._stop:  # at once: there may be no end
                self.refusal = Damaged(f"{self._name} has more than {self._stop} bytes")
                return
            try:
                await self._take(chunk)
            except Exception as error:  # noqa: BLE001  # it is raised as soon as the source is left
                self.refusal = error
                return
