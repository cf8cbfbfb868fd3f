"""The slow data plane: boto3 in threads, for stores or networks that our own client cannot speak to (proxies).

See `bucket_objects.DataPlane`. It costs up to twice the CPU, a thread and 1 MiB per transfer, and the store does not
verify digests, because botocore hashes by itself or not at all.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import trio

from storage.blobstore import CHUNK_BYTES, Span
from storage.blocking import Pool
from storage.s3.bucket_objects import Download, ObjectInfo, UploadPart
from storage.s3.control import Body, Control, Opened
from storage.s3.failures import Refused, Trouble, Unreached
from storage.transfer.payload import FileSpan, Payload, Stream

# Measured: a quarter of it costs a third more CPU; eight times as much gains little and costs 150 MiB for 8 readers.
_READ_BYTES: Final = 1 << 20
_CLOSE_DEADLINE_S: Final = 5.0
_NOT_FOUND: Final = 404


class ThreadPlane:
    """See the module docstring. Does not own the control plane that it uses."""

    verifies = False

    def __init__(self, control: Control, *, pool: Pool) -> None:
        self._control = control
        self._pool = pool

    async def aclose(self) -> None:
        """Nothing of its own to close."""

    async def put(
        self,
        key: str,
        payload: Payload,
        *,
        part: UploadPart | None = None,
        sha256: str | None = None,  # noqa: ARG002 - see `verifies`
        if_absent: bool = False,
    ) -> str:
        """See `DataPlane.put`; `sha256` is not used, as `verifies` says."""
        body, size_bytes = _body(payload)
        try:
            return await self._pool.run(self._control.put, key, body, size_bytes, part=part, if_absent=if_absent)
        except Trouble:
            if isinstance(body, _StreamBody) and body.failure is not None:
                raise body.failure from None  # what botocore made of it says less
            raise

    @asynccontextmanager
    async def get(self, key: str, span: Span | None) -> AsyncIterator[Download]:
        """See `DataPlane.get`."""
        opened = await self._pool.run(self._control.open, key, span)
        try:
            chunks = _Chunks(opened, pool=self._pool)
            yield Download(chunks, size_bytes=opened.size_bytes, total_bytes=opened.total_bytes, etag=opened.etag)
        finally:
            with trio.move_on_after(_CLOSE_DEADLINE_S, shield=True):
                await self._pool.run(opened.close)

    async def head(self, key: str) -> ObjectInfo:
        """See `DataPlane.head`."""
        try:
            return await self._pool.run(self._control.head, key)
        except Refused as refused:
            if refused.status != _NOT_FOUND:
                raise
        async with self.get(key, None) as download:  # says whether the object or the bucket is absent
            raise Unreached(f"{key} came back ({download.total_bytes} bytes)")


class _Chunks:
    """A body that is read in threads."""

    __slots__ = ("_left", "_opened", "_pool", "_read")

    def __init__(self, opened: Opened, *, pool: Pool) -> None:
        self._opened = opened
        self._pool = pool
        self._left = opened.size_bytes
        self._read = memoryview(b"")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._read:
            if not self._left:
                raise StopAsyncIteration
            self._read = memoryview(await self._pool.run(self._opened.read, min(_READ_BYTES, self._left)))
            if not self._read:
                raise Unreached(f"the answer ended {self._left} bytes early")
            self._left -= len(self._read)
        else:
            await trio.lowlevel.checkpoint()
        chunk = bytes(self._read[:CHUNK_BYTES])
        self._read = self._read[CHUNK_BYTES:]
        return chunk


class _FileBody:
    """A span of a file that is read from its start, wherever the descriptor stands."""

    def __init__(self, span: FileSpan) -> None:
        self._descriptor = span.descriptor
        self._position = span.start
        self._stop = span.stop

    def read(self, size_bytes: int = -1, /) -> bytes:
        """See `storage.s3.control.Body`."""
        left = self._stop - self._position
        content = os.pread(self._descriptor, left if size_bytes < 0 else min(left, size_bytes), self._position)
        self._position += len(content)
        return content


class _StreamBody:
    """Chunks of the event loop, asked for from the thread that sends them. `failure`: what kept it from going on."""

    def __init__(self, stream: Stream) -> None:
        self._chunks = aiter(stream.chunks)
        self._left = stream.size_bytes
        self._rest = memoryview(b"")
        self.failure: Exception | None = None

    def read(self, size_bytes: int = -1, /) -> bytes:
        """See `storage.s3.control.Body`; for a thread of a pool only. Without a size, one chunk."""
        if not self._rest:
            try:
                self._rest = memoryview(trio.from_thread.run(self._next))
            except Exception as error:
                self.failure = error
                raise
        cut = len(self._rest) if size_bytes < 0 else size_bytes
        content, self._rest = bytes(self._rest[:cut]), self._rest[cut:]
        return content

    async def _next(self) -> bytes:
        async for chunk in self._chunks:
            if len(chunk):
                self._left -= len(chunk)
                if self._left < 0:
                    raise Unreached("the stream is longer than it promised", passes=False)
                return bytes(chunk)
        if self._left:  # the service would wait for the rest
            raise Unreached(f"the stream ended {self._left} bytes before the end that it promised", passes=False)
        return b""


def _body(payload: Payload) -> tuple[Body | bytes, int]:
    if isinstance(payload, FileSpan):
        return _FileBody(payload), payload.stop - payload.start
    if isinstance(payload, Stream):
        return _StreamBody(payload), payload.size_bytes
    return payload, len(payload)
