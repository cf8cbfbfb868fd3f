"""Reading objects of a filesystem store: one descriptor, one span, chunks without waiting where the page cache allows.

Measured (docs/decisions/0003): a turn in a thread costs 0.06 to 0.23 ms of CPU, three to ten times what copying
256 KiB out of the page cache costs. So a chunk is first asked for with RWF_NOWAIT on the event loop, which never waits
for the disk, and only what is not in the page cache is read in a thread.
"""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Protocol, Self

import trio

from storage import durable
from storage.blobstore import CHUNK_BYTES, OpenFile, Span
from storage.blocking import Pool
from storage.errors import Damaged
from storage.seekable import FRAME_BYTES, Pread

# How long a descriptor of a removed file waits for a thread to be closed in before it is closed on the loop.
CLOSE_DEADLINE_S: Final = 5.0
# What preadv2(2) says where the file system or the kernel does not know RWF_NOWAIT.
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class Source(Protocol):
    """Where chunks come from: the file as it is, or `seekable.Frames`."""

    def chunk(self, position: int, stop: int, pread: Pread) -> bytes | None:
        """1 byte to 256 KiB from `position` on, not beyond `stop`; None, and nothing moved, if `pread` gave None."""
        ...


class PlainBytes:
    """The file's bytes are the blob's bytes."""

    __slots__ = ("_descriptor", "_what")

    def __init__(self, descriptor: int, what: str) -> None:
        self._descriptor = descriptor
        self._what = what

    def chunk(self, position: int, stop: int, pread: Pread) -> bytes | None:
        """See `Source`; raises `Damaged` where the file ends before `stop`."""
        chunk = pread(self._descriptor, min(CHUNK_BYTES, stop - position), position)
        if chunk == b"":
            raise Damaged(f"{self._what}: the file ends after {position} bytes")
        return chunk


class PageCache:
    """Reads that never wait for the disk. For one event loop: its buffer is free again when `pread` returns."""

    def __init__(self) -> None:
        # One for all readers: a fresh buffer per read costs page faults, up to six times the read itself. Larger than a
        # chunk, because zstd may make a frame a little larger than its content.
        self._buffer = memoryview(bytearray(CHUNK_BYTES + FRAME_BYTES // 64))
        self._supported = True

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes | None:
        """Exactly the asked bytes, or None if any of them is not in the page cache (or beyond the end of the file)."""
        if not self._supported:
            return None
        try:
            count = os.preadv(descriptor, [self._buffer[:size_bytes]], offset, os.RWF_NOWAIT)
        except OSError as error:  # EAGAIN is the usual one; a real failure shows again in the thread
            self._supported = error.errno not in _UNSUPPORTED
            return None
        return bytes(self._buffer[:size_bytes]) if count == size_bytes else None


class Chunks:
    """The asynchronous iterator behind `BlobReader.chunks`. It owns nothing, so leaving it half-way is fine."""

    __slots__ = ("_cache", "_pool", "_position", "_source", "_stop", "_what")

    def __init__(self, source: Source, span: Span, *, what: str, pool: Pool, cache: PageCache) -> None:
        self._source = source
        self._position = span.start
        self._stop = span.stop
        self._what = what
        self._pool = pool
        self._cache = cache

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._position >= self._stop:
            raise StopAsyncIteration
        await trio.lowlevel.checkpoint()
        chunk = self._source.chunk(self._position, self._stop, self._cache.pread)
        if chunk is None:
            chunk = await self._pool.run(self._wait_for_chunk)
        self._position += len(chunk)
        return chunk

    def _wait_for_chunk(self) -> bytes:
        with durable.failures_of(self._what):
            chunk = self._source.chunk(self._position, self._stop, os.pread)
        assert chunk is not None  # noqa: S101 - os.pread waits
        return chunk


class FileReader:
    """One open object and one span of it; see `blobstore.BlobReader`."""

    __slots__ = ("_chunks", "_file")

    def __init__(self, chunks: Chunks, file: OpenFile | None) -> None:
        self._chunks = chunks
        self._file = file

    @property
    def file(self) -> OpenFile | None:
        """The descriptor for sendfile; None for compressed objects."""
        return self._file

    def chunks(self) -> AsyncIterator[bytes]:
        """See `blobstore.BlobReader.chunks`."""
        return self._chunks


async def close_descriptor(descriptor: int, pool: Pool) -> None:
    """Close it, also if cancelled; the disk's trouble is not raised. Call it shielded.

    Closing the last descriptor of a removed file frees its blocks, which takes long for a large file: that is done in
    a thread. Any other close is quick.
    """
    if os.fstat(descriptor).st_nlink > 0:
        _close(descriptor)
        return
    try:
        await pool.run(_close, descriptor)
    except BaseException:  # no thread was free in time
        _close(descriptor)
        raise


def _close(descriptor: int) -> None:
    with suppress(OSError):  # the descriptor is gone whatever close says, and what mattered was synced before
        os.close(descriptor)
