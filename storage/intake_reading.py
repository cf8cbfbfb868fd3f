"""What a reader of an intake is given: the bytes as they come.

As spans of the growing file where the caller can send such, so that they never pass through this process again. The
iterators own nothing, so leaving one half-way is fine; what a reader holds is let go by `FollowingReader.close`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import trio

from storage import durable
from storage.blobstore import OpenFile, Span
from storage.blocking import Pool
from storage.digest import Digest, Hasher
from storage.errors import Damaged, StorageError, Unavailable
from storage.file_hashing import hash_turn
from storage.filesystem_reading import Chunks, PageCache, PlainBytes
from storage.intake import Intake, Intakes, foreign
from storage.intake_source import Source, deliver


class FollowingReader:
    """A `blobstore.BlobReader` of an intake that is joined for as long as the reader is used; close it then.

    `report` is called, not awaited, when this reader finds by itself that the source's bytes are wrong.
    """

    def __init__(
        self,
        intake: Intake,
        span: Span,
        *,
        intakes: Intakes,
        pool: Pool,
        cache: PageCache,
        report: Callable[[], None],
        alone: Source | None = None,
        is_trusted: bool = True,
    ) -> None:
        """`alone`: where this reader goes on by itself if the intake is homeless; the intake's own source if None.

        `is_trusted`: the source had the right bytes once. Else the last byte of every span, not only of the blob, comes
        after the whole blob was found right; who goes on alone reads all of it for that.
        """
        self._intake = intake
        self._alone_source = alone or intake.source
        self._begun: _Pieces | None = None
        self._span = span
        self._intakes = intakes
        self._pool = pool
        self._cache = cache
        self._report = report
        self._is_trusted = is_trusted
        self._pump: _Pump | None = None

    @property
    def file(self) -> OpenFile | None:
        """The span in the file, if the blob is whole by now."""
        if not self._intake.is_whole:
            return None
        return OpenFile(self._intake.descriptor, self._span.start, self._span.stop)

    def pieces(self) -> AsyncIterator[bytes | OpenFile]:
        """The span as it comes, in order: spans of the file, or bytes once there is no file to go on with.

        A descriptor is valid until the reader is closed. Call this or `chunks`, once. Raises `Damaged` before the last
        byte if the blob's bytes are not right, and what the source raised.
        """
        begun, self._begun = self._begun, None
        return begun or self._pieces()

    async def begin(self) -> None:
        """Wait for the first piece, before `pieces`, so that what cannot come is known before an answer begins."""
        self._begun = self._pieces()
        await self._begun.begin()

    def chunks(self) -> AsyncIterator[bytes]:
        """See `blobstore.BlobReader.chunks`."""
        return _Chunks(self.pieces(), what=self._intake.source.name, pool=self._pool, cache=self._cache)

    def close(self) -> None:
        """Stop what still runs for this reader alone."""
        if self._pump is not None:
            self._pump.close()

    def _pieces(self) -> "_Pieces":
        return _Pieces(self._intake, self._span, go_alone=self._alone, is_trusted=self._is_trusted)

    async def _alone(self, position: int) -> AsyncIterator[bytes]:
        """The rest from the source, for this reader only. Of a whole blob the digest is checked here, then."""
        entry, source = self._intake.entry, self._alone_source
        is_all = self._span == Span(0, entry.size_bytes)
        if self._is_trusted and not is_all:
            self._pump = _Pump(self._intakes, source, Span(position, self._span.stop))
            return self._pump
        known = min(position, self._intake.released_bytes)
        hasher = await self._hash_of(known)
        self._pump = pump = _Pump(self._intakes, source, Span(known, entry.size_bytes))
        verified = Verified(pump, hasher, digest=entry.digest, what=source.name, report=self._report)
        return verified if is_all else _Within(verified, Span(position, self._span.stop), position=known)

    async def _hash_of(self, position: int) -> Hasher:
        """A hasher that has seen what this reader has got."""
        hasher = Hasher(self._intake.entry.digest.algorithm)
        while hasher.size_bytes < position:
            await self._pool.run(self._hash_turn, hasher, position)
        return hasher

    def _hash_turn(self, hasher: Hasher, position: int) -> None:
        with durable.failures_of(self._intake.source.name):
            if not hash_turn(self._intake.descriptor, hasher, position):
                raise Unavailable(f"{self._intake.source.name}: the local file became shorter")


class _Pieces:
    """See `FollowingReader.pieces`."""

    def __init__(
        self,
        intake: Intake,
        span: Span,
        *,
        go_alone: Callable[[int], Awaitable[AsyncIterator[bytes]]],
        is_trusted: bool,
    ) -> None:
        self._intake = intake
        self._position = span.start
        self._stop = span.stop
        self._go_alone = go_alone
        self._is_trusted = is_trusted
        self._rest: AsyncIterator[bytes] | None = None
        self._first: bytes | OpenFile | None = None

    def __aiter__(self) -> Self:
        return self

    async def begin(self) -> None:
        self._first = await anext(self, None)

    async def __anext__(self) -> bytes | OpenFile:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._rest is not None:
            return await anext(self._rest)
        start = self._position
        if start >= self._stop:
            raise StopAsyncIteration
        ready = await self._ready(start)
        if ready > start:
            self._position = ready
            return OpenFile(self._intake.descriptor, start, ready)
        self._rest = await self._go_alone(start)
        return await anext(self._rest)

    async def _ready(self, start: int) -> int:
        """Up to where the file may be given; not beyond `start` if the rest is not in it."""
        ready = min(await self._intake.wait_beyond(start), self._stop)
        if self._is_trusted or ready < self._stop or self._intake.is_whole:
            return ready
        if start < ready - 1:
            return ready - 1
        return ready if await self._intake.wait_right() else start


class _Chunks:
    """The pieces as bytes."""

    def __init__(self, pieces: AsyncIterator[bytes | OpenFile], *, what: str, pool: Pool, cache: PageCache) -> None:
        self._pieces = pieces
        self._what = what
        self._pool = pool
        self._cache = cache
        self._of_piece: Chunks | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._of_piece is not None and (chunk := await anext(self._of_piece, None)) is not None:
                return chunk
            piece = await anext(self._pieces)
            if isinstance(piece, bytes):
                return piece
            source, span = PlainBytes(piece.descriptor, self._what), Span(piece.start, piece.stop)
            self._of_piece = Chunks(source, span, what=self._what, pool=self._pool, cache=self._cache)


class Verified:
    """The same chunks, the last one only if everything that the hasher has seen by then has this digest.

    Else it raises `Damaged`, after `report`. For who reads a blob to its end. A chunk has at most 256 KiB: hashing it
    here costs less than a turn in a thread.
    """

    def __init__(
        self, chunks: AsyncIterator[bytes], hasher: Hasher, *, digest: Digest, what: str, report: Callable[[], None]
    ) -> None:
        self._chunks = chunks
        self._hasher = hasher
        self._digest = digest
        self._what = what
        self._report = report
        self._held = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while chunk := await anext(self._chunks, b""):
            self._hasher.update(chunk)
            held, self._held = self._held, chunk
            if held:
                return held
        if not self._held:
            raise StopAsyncIteration
        if self._hasher.digest() != self._digest:
            self._report()
            raise Damaged(f"{self._what} does not have the bytes of {self._digest}")
        held, self._held = self._held, b""
        return held


class _Within:
    """Of chunks that begin at `position` those of a span; the last of them once all chunks have come.

    So it comes after whatever the end of the chunks proves.
    """

    def __init__(self, chunks: AsyncIterator[bytes], span: Span, *, position: int) -> None:
        self._chunks = chunks
        self._span = span
        self._position = position
        self._held = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while chunk := await anext(self._chunks, b""):
            start, self._position = self._position, self._position + len(chunk)
            wanted = chunk[max(0, self._span.start - start) : max(0, self._span.stop - start)]
            if wanted:
                held, self._held = self._held, wanted
                if held:
                    return held
        held, self._held = self._held, b""
        if not held:
            raise StopAsyncIteration
        return held


class _Pump:
    """A span from the source, fetched by a task of the intakes, no faster than it is taken.

    A source's contexts cannot be opened in the middle of an answer, whose own scopes come and go between two pieces.
    """

    def __init__(self, intakes: Intakes, source: Source, span: Span) -> None:
        self._source = source
        self._span = span
        self._scope = trio.CancelScope()
        self._failure: StorageError | None = None
        self._send, self._receive = trio.open_memory_channel[bytes](0)
        intakes.run_beside(self._run)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._failure is not None:
                raise self._failure from self._failure.__cause__
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Fetch no more."""
        self._scope.cancel()
        self._receive.close()

    async def _run(self) -> None:
        self._failure = Unavailable(f"fetching from {self._source.name} was stopped")
        with self._scope:
            async with self._send:
                try:
                    await deliver(self._source, self._span, self._send.send)
                    self._failure = None
                except StorageError as error:
                    self._failure = error
                except trio.BrokenResourceError:  # nobody takes the bytes any more
                    pass
                except Exception as error:  # noqa: BLE001  # a source's own kinds of trouble must not end the service
                    self._failure = foreign(error, self._source)
