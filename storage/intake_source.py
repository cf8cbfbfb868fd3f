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

    Raises what `take` raises, which must not be `Unavailable`, and of the source what resuming does not help. To be
    called in a task of its own, or where nothing else is open: it enters and leaves the source's contexts as it goes.
    """
    position = counted_from = span.start
    resumes = 0
    while position < span.stop:
        try:
            async with source.read(Span(position, span.stop)) as chunks:
                async for chunk in chunks:
                    position += len(chunk)
                    if position > span.stop:
                        raise Damaged(f"{source.name} sent more than the {span.stop} bytes that it should have")
                    await take(chunk)
            if position < span.stop:
                raise Unavailable(f"{source.name} ended after {position} of {span.stop} bytes")  # noqa: TRY301
        except Unavailable:
            if position - counted_from >= _PROGRESS_BYTES:
                counted_from, resumes = position, 0
            if resumes == _RESUMES:
                raise
            await trio.sleep(_PAUSE_S * 2**resumes)
            resumes += 1
