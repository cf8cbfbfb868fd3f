"""What a reader of an intake is given: the bytes as they come.

As spans of the growing file where the caller can send such, so that they never pass through this process again.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import trio

from storage import durable
from storage.blobstore import OpenFile, Span
from storage.blocking import Pool
from storage.digest import Digest, Hasher
from storage.errors import Damaged, StorageError, Unavailable
from storage.filesystem_reading import Chunks, PageCache, PlainBytes
from storage.intake import Intake, Intakes, OnDamage
from storage.intake_source import Source, deliver

_HASH_TURN_BYTES: Final = 16 * 1024 * 1024
_READ_BYTES: Final = 1024 * 1024


class FollowingReader:
    """A `blobstore.BlobReader` of an intake that is joined for as long as the reader is used."""

    def __init__(
        self, intake: Intake, span: Span, *, intakes: Intakes, pool: Pool, cache: PageCache, on_damage: OnDamage
    ) -> None:
        self._intake = intake
        self._span = span
        self._intakes = intakes
        self._pool = pool
        self._cache = cache
        self._on_damage = on_damage
        self._what = intake.source.name

    @property
    def file(self) -> OpenFile | None:
        """The span in the file, if the blob is whole by now."""
        if not self._intake.is_whole:
            return None
        return OpenFile(self._intake.descriptor, self._span.start, self._span.stop)

    async def pieces(self) -> AsyncGenerator[bytes | OpenFile, None]:
        """The span as it comes, in order: spans of the file, or bytes once there is no file to go on with.

        A descriptor is valid until the reader is closed. Call this or `chunks`, once. Raises `Damaged` before the last
        byte if the blob's bytes are not right, and what the source raised.
        """
        position = self._span.start
        while position < self._span.stop:
            ready = min(await self._intake.wait_beyond(position), self._span.stop)
            if ready <= position:
                break
            yield OpenFile(self._intake.descriptor, position, ready)
            position = ready
        if position < self._span.stop:
            async with aclosing(self._alone(position)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See `blobstore.BlobReader.chunks`."""
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                if isinstance(piece, bytes):
                    yield piece
                    continue
                source = PlainBytes(piece.descriptor, self._what)
                span = Span(piece.start, piece.stop)
                async for chunk in Chunks(source, span, what=self._what, pool=self._pool, cache=self._cache):
                    yield chunk

    async def _alone(self, position: int) -> AsyncGenerator[bytes, None]:
        """The rest from the source, for this reader only. Of a whole blob the digest is checked here, then."""
        entry, rest = self._intake.entry, Span(position, self._span.stop)
        is_all = self._span == Span(0, entry.size_bytes)
        hasher = await self._hash_of(position) if is_all else None
        async with _pumped(self._intakes, self._intake.source, rest) as chunks:
            if hasher is None:
                async for chunk in chunks:
                    yield chunk
                return
            checked = verified(chunks, hasher, digest=entry.digest, what=self._what)
            try:
                async with aclosing(checked):
                    async for chunk in checked:
                        yield chunk
            except Damaged:
                self._intakes.run_beside(self._on_damage)
                raise

    async def _hash_of(self, position: int) -> Hasher:
        """A hasher that has seen what this reader has got."""
        hasher = Hasher()
        while hasher.size_bytes < position:
            await self._pool.run(self._hash_turn, hasher, position)
        return hasher

    def _hash_turn(self, hasher: Hasher, position: int) -> None:
        stop = min(position, hasher.size_bytes + _HASH_TURN_BYTES)
        with durable.failures_of(self._what):
            while (start := hasher.size_bytes) < stop:
                chunk = os.pread(self._intake.descriptor, min(_READ_BYTES, stop - start), start)
                if not chunk:
                    raise Unavailable(f"{self._what}: the local file became shorter")
                hasher.update(chunk)


async def verified(
    chunks: AsyncIterator[bytes], hasher: Hasher, *, digest: Digest, what: str
) -> AsyncGenerator[bytes, None]:
    """The chunks, the last one only when everything the hasher has seen has this digest; else raises `Damaged`.

    For who reads a blob to its end. A chunk has at most 256 KiB: hashing it here costs less than a turn in a thread.
    """
    held = b""
    async for chunk in chunks:
        if held:
            yield held
        hasher.update(chunk)
        held = chunk
    if hasher.digest() != digest:
        raise Damaged(f"{what} does not have the bytes of {digest}")
    if held:
        yield held


@asynccontextmanager
async def _pumped(intakes: Intakes, source: Source, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
    """The span from the source, fetched by a task of the intakes.

    A source's contexts cannot be opened in the middle of an answer, whose own scopes come and go between two pieces.
    """
    send, receive = trio.open_memory_channel[bytes](0)  # no more is fetched than is asked for
    scope = trio.CancelScope()
    failures: list[StorageError] = []

    async def pump() -> None:
        with scope:
            async with send:
                try:
                    await deliver(source, span, send.send)
                except StorageError as error:
                    failures.append(error)

    async def received() -> AsyncGenerator[bytes, None]:
        async for chunk in receive:
            yield chunk
        if failures:
            raise type(failures[0])(*failures[0].args) from failures[0]

    intakes.run_beside(pump)
    try:
        async with aclosing(received()) as chunks:
            yield chunks
    finally:
        scope.cancel()
        receive.close()
