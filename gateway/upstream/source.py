"""A blob of an upstream, as an intake reads it: spans of it, from whichever address gives them.

What comes is only what was asked for (rows P3 and P4): another size, another range or an encoding is found in the
answer's head, before a byte of it is used. Whether the bytes are right is for who hashes them. Keeps nothing.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final, Self

from gateway.upstream import naming
from gateway.upstream.asking import Endpoint, Question, Questions
from gateway.upstream.errors import UpstreamDenied, UpstreamError, UpstreamFailed, UpstreamSlow, UpstreamUnknown
from storage import BlobUnknown, Damaged, Digest, Span, StorageError, Unavailable
from storage.transfer import Response, Stalled, TransferError

_ACCEPTED: Final = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE})
_CONTENT_RANGE: Final = re.compile(r"bytes +(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class _OtherSize(UpstreamFailed):
    """The upstream's blob is not as large as its manifest says."""


@dataclass(slots=True)
class UpstreamBlob:
    """A `storage.Source`. Raises what that says, always `from` an `UpstreamError`; `Damaged` for another size.

    An address that failed is asked last from then on.
    """

    questions: Questions
    image: str
    digest: Digest
    size_bytes: int
    _order: list[Endpoint] = field(init=False)

    def __post_init__(self) -> None:
        self._order = list(self.questions.endpoints)

    @property
    def name(self) -> str:
        """See `storage.Source`."""
        return f"blob {self.digest} of {self.image}"

    @asynccontextmanager
    async def read(self, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `storage.Source`. An upstream that knows no ranges gives everything, and what was read is skipped."""
        if not 0 <= span.start <= span.stop <= self.size_bytes:
            raise ValueError(f"span {span.start}-{span.stop} lies outside of {self.size_bytes} bytes")
        if not span.size_bytes:
            yield _Nothing()
            return
        async with AsyncExitStack() as streams:
            try:
                attempt = partial(self._open_at, span, streams)
                body = await self.questions.in_turn(attempt, tuple(self._order))
            except UpstreamError as error:
                raise self._meaning(error) from error
            yield body

    async def _open_at(self, span: Span, streams: AsyncExitStack, endpoint: Endpoint) -> AsyncIterator[bytes]:
        is_whole = span == Span(0, self.size_bytes)
        question = Question(
            "GET",
            self.image,
            partial(naming.blob_path, digest=self.digest),
            headers=() if is_whole else (("range", f"bytes={span.start}-{span.stop - 1}"),),
            accepted=_ACCEPTED,
            is_of_blob=True,
        )
        try:
            async with AsyncExitStack() as opening:
                response = await opening.enter_async_context(self.questions.stream(question, endpoint))
                first = first_byte(response, span, self.size_bytes, what=f"{self.name} at {endpoint.url}")
                await streams.enter_async_context(opening.pop_all())
        except UpstreamError:
            self._ask_last(endpoint)
            raise
        return _Body(self, endpoint, response, span=span, position=first)

    def broke(self, endpoint: Endpoint, error: UpstreamError) -> Unavailable:
        """Note that a body could not be read to its end; the error to raise for it.

        The breaker is not told: often it is a store behind the registry that breaks, and the registry is well.
        """
        self._ask_last(endpoint)
        return Unavailable(str(error))

    def _ask_last(self, endpoint: Endpoint) -> None:
        self._order.remove(endpoint)
        self._order.append(endpoint)

    def _meaning(self, error: UpstreamError) -> StorageError:
        if isinstance(error, UpstreamUnknown | UpstreamDenied):
            return BlobUnknown(str(error))
        return Damaged(str(error)) if isinstance(error, _OtherSize) else Unavailable(str(error))


class _Nothing:
    """The chunks of an empty span."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


class _Body:
    """The chunks of a span. `position`: where in the blob the answer begins; what lies before the span is skipped."""

    def __init__(
        self, blob: UpstreamBlob, endpoint: Endpoint, response: Response, *, span: Span, position: int
    ) -> None:
        self._blob = blob
        self._endpoint = endpoint
        self._chunks = response.chunks()
        self._span = span
        self._position = position
        # An answer with more than the span is left at its end; of any other, the end is looked for.
        self._is_left_early = response.status == HTTPStatus.OK and span.stop < blob.size_bytes

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not (self._is_left_early and self._position >= self._span.stop):
            chunk = await self._receive()
            if not chunk:
                break
            start, self._position = self._position, self._position + len(chunk)
            if self._position > self._span.stop and not self._is_left_early:
                longer = _OtherSize(f"{self._blob.name} has more than {self._span.stop} bytes at {self._endpoint.url}")
                raise Damaged(str(longer)) from longer
            if wanted := chunk[max(0, self._span.start - start) : self._span.stop - start]:
                return wanted
        raise StopAsyncIteration

    async def _receive(self) -> bytes:
        """The next chunk; none at the end."""
        try:
            chunk = await anext(self._chunks, b"")
        except (TransferError, UpstreamError) as error:
            kind = UpstreamSlow if isinstance(error, Stalled | UpstreamSlow) else UpstreamFailed
            trouble = kind(f"{self._blob.name} at {self._endpoint.url} broke after {self._position} bytes: {error}")
            raise self._blob.broke(self._endpoint, trouble) from trouble
        if not chunk and self._position < self._span.stop:
            ended = UpstreamFailed(f"{self._blob.name} ended after {self._position} bytes at {self._endpoint.url}")
            raise self._blob.broke(self._endpoint, ended) from ended
        return chunk


def first_byte(response: Response, span: Span, size_bytes: int, *, what: str) -> int:
    """Where in the blob the answer begins. Raises `UpstreamFailed` for one that is not what was asked for."""
    encoding = response.header("content-encoding").lower()
    if encoding not in {"", "identity"}:
        raise UpstreamFailed(f"{what} comes encoded ({encoding[:40]!a}), which nobody asked for")
    if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise _OtherSize(f"{what} is shorter than {span.stop} bytes")
    if response.status == HTTPStatus.OK:
        if response.size_bytes not in {None, size_bytes}:
            raise _OtherSize(f"{what} has {response.size_bytes} bytes, not {size_bytes}")
        return 0
    found = _CONTENT_RANGE.fullmatch(response.header("content-range").strip())
    if found is None or (int(found[1]), int(found[2])) != (span.start, span.stop - 1):
        raise UpstreamFailed(f"{what}: another range came than was asked for")
    if found[3] not in {"*", str(size_bytes)}:
        raise _OtherSize(f"{what} has {found[3]} bytes, not {size_bytes}")
    if response.size_bytes not in {None, span.size_bytes}:
        raise UpstreamFailed(f"{what}: the range that came has {response.size_bytes} bytes, not {span.size_bytes}")
    return span.start
