"""Reading blobs from a bucket: one span of one object, in windows or in ranges side by side.

Windows. A reader that wants everything to the end often leaves early (containerd 2.1 aborts after 2 MiB), and what is
on its way then was fetched for nothing. So an open-ended span of a large blob is asked for in windows, the first of
`window_bytes`, each as long as what was read before it, up to 64 MiB: one who leaves has cost one window at most, and
one who stays waits for few answers to begin. A connection that breaks is replaced, and reading goes on where it was.

Ranges. Where a store limits each connection, `parallel_get` ranges are fetched side by side and given in order. All
readers of a store share a budget of ranges ahead; who gets none of it reads as if there were one connection.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Self

import trio

from storage.blobstore import BlobReader, OpenFile, Span
from storage.errors import Damaged, StorageError, Unavailable
from storage.s3.bucket import Bucket
from storage.s3.keys import ObjectName

BUDGET_BYTES: Final = 64 << 20
"""Of ranges that were fetched ahead, for all readers of one store in one process."""
PARALLEL_FROM_BYTES: Final = 16 << 20
"""Below it one connection is done before others have begun."""
_LARGEST_WINDOW_BYTES: Final = 64 << 20
_FEW_WINDOWS: Final = 3
_RESUMPTIONS: Final = 4  # without a whole window between them; the bucket has tried four times for each
_PATIENCE_S: Final = 60.0  # without a byte; each attempt may take 30 s to find that the service is silent
_CLOSE_DEADLINE_S: Final = 5.0


class S3Reader:
    """One open object, one span; see `blobstore.BlobReader`."""

    __slots__ = ("_chunks",)

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    @property
    def file(self) -> OpenFile | None:
        """The bytes lie in no file."""
        return None

    def chunks(self) -> AsyncIterator[bytes]:
        """See `blobstore.BlobReader.chunks`. Raises `Unavailable` when the store cannot go on, `BlobUnknown` too."""
        return self._chunks


@asynccontextmanager
async def open_reader(
    bucket: Bucket, name: ObjectName, span: Span, budget: trio.Semaphore
) -> AsyncIterator[BlobReader]:
    """Open a span that lies within the object. Raises `BlobUnknown`, `Damaged` if the object has another size.

    `budget` counts ranges of `parallel_range_bytes`. Leaving closes the connections at once.
    """
    settings = bucket.settings
    if settings.parallel_get > 1 and span.size_bytes > PARALLEL_FROM_BYTES:
        async with _open_ranges(bucket, name, span, budget) as reader:
            yield reader
        return
    windows = Windows(bucket, name, span)
    try:
        await windows.begin()
        yield S3Reader(windows)
    finally:
        await windows.aclose()


class Windows:
    """The asynchronous iterator behind `BlobReader.chunks`: one answer of the store after the other."""

    def __init__(self, bucket: Bucket, name: ObjectName, span: Span) -> None:
        self._bucket = bucket
        self._name = name
        self._span = span
        self._position = span.start
        self._window_stop = span.start
        self._resumptions = 0
        self._troubled_since: float | None = None
        self._answer = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] | None = None

    async def begin(self) -> None:
        """Ask for the first window, so that an absent or damaged object is known of before the first byte."""
        if self._span.size_bytes:
            await self._ask()
            return
        found = await self._bucket.head(self._name.blob)
        self._check(found.size_bytes)

    async def aclose(self) -> None:
        """Close the connection if its answer is not over; also if cancelled."""
        self._chunks = None
        with trio.move_on_after(_CLOSE_DEADLINE_S, shield=True):
            await self._answer.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while self._position < self._span.stop:
            try:
                if self._chunks is None:
                    await self._ask()
                elif chunk := await anext(self._chunks, b""):
                    self._position += len(chunk)
                    self._troubled_since = None
                    return chunk
                else:
                    await self._end_window()
            except Unavailable:
                await self.aclose()
                if not self._may_resume():
                    raise
        raise StopAsyncIteration

    async def _ask(self) -> None:
        span = Span(self._position, self._next_stop())
        whole = span == Span(0, self._name.size_bytes)
        download = await self._answer.enter_async_context(self._bucket.get(self._name.blob, None if whole else span))
        self._check(download.total_bytes)
        if download.size_bytes != span.size_bytes:
            raise Damaged(f"object {self._name.key}: the store gives {download.size_bytes} bytes of {span.size_bytes}")
        self._window_stop = span.stop
        self._chunks = download.chunks()

    def _may_resume(self) -> bool:
        self._resumptions += 1
        now = trio.current_time()
        if self._troubled_since is None:
            self._troubled_since = now
        return self._resumptions <= _RESUMPTIONS and now - self._troubled_since <= _PATIENCE_S

    async def _end_window(self) -> None:
        await self.aclose()
        if self._position != self._window_stop:
            raise Damaged(f"object {self._name.key}: the store gives no more than {self._position} bytes")
        self._resumptions = 0

    def _next_stop(self) -> int:
        """Where the next window ends; after a broken connection it is asked for anew from there on."""
        stop, window_bytes = self._span.stop, self._bucket.settings.window_bytes
        open_ended = stop == self._name.size_bytes and self._span.size_bytes > _FEW_WINDOWS * window_bytes
        if not open_ended:
            return stop
        read_bytes = self._position - self._span.start
        return min(stop, self._position + min(max(window_bytes, read_bytes), _LARGEST_WINDOW_BYTES))

    def _check(self, size_bytes: int) -> None:
        if size_bytes != self._name.size_bytes:
            raise Damaged(f"object {self._name.key} has {size_bytes} bytes, not {self._name.size_bytes}")


@dataclass(slots=True)
class _Range:
    """A span that is fetched ahead."""

    span: Span
    chunks: deque[bytes] = field(default_factory=deque)
    over: trio.Event = field(default_factory=trio.Event)
    error: StorageError | None = None


class _Ranges:
    """The asynchronous iterator: ranges in order, each either fetched ahead or read as it comes."""

    def __init__(
        self, bucket: Bucket, name: ObjectName, span: Span, budget: trio.Semaphore, nursery: trio.Nursery
    ) -> None:
        self._bucket = bucket
        self._name = name
        self._span = span
        self._budget = budget
        self._nursery = nursery
        self._asked = span.start
        self._ahead: deque[_Range] = deque()
        self._direct: Windows | None = None
        self._current: deque[bytes] = deque()

    async def begin(self) -> None:
        """Begin with the first range directly, and ask for the next ones when it is known to be there."""
        self._direct = Windows(self._bucket, self._name, self._next())
        await self._direct.begin()
        self._look_ahead()

    async def aclose(self) -> None:
        """Close the connection of the range that is read, and give back what was taken of the budget."""
        while self._ahead:
            self._ahead.popleft()
            self._budget.release()
        if self._direct is not None:
            await self._direct.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._current:
                await trio.lowlevel.checkpoint()
                return self._current.popleft()
            if self._direct is not None:
                if chunk := await anext(self._direct, b""):
                    return chunk
                await self._direct.aclose()
                self._direct = None
            elif self._ahead:
                await self._take()
            elif self._asked < self._span.stop:
                self._direct = Windows(self._bucket, self._name, self._next())
            else:
                raise StopAsyncIteration
            self._look_ahead()

    async def _take(self) -> None:
        first = self._ahead[0]
        await first.over.wait()
        self._ahead.popleft()
        self._budget.release()
        if first.error is not None:
            raise first.error
        self._current = first.chunks

    def _look_ahead(self) -> None:
        while len(self._ahead) < self._bucket.settings.parallel_get - 1 and self._asked < self._span.stop:
            try:
                self._budget.acquire_nowait()
            except trio.WouldBlock:
                return
            self._ahead.append(ahead := _Range(self._next()))
            self._nursery.start_soon(self._fetch, ahead)

    def _next(self) -> Span:
        start = self._asked
        self._asked = min(start + self._bucket.settings.parallel_range_bytes, self._span.stop)
        return Span(start, self._asked)

    async def _fetch(self, ahead: _Range) -> None:
        windows = Windows(self._bucket, self._name, ahead.span)
        try:
            async for chunk in windows:
                ahead.chunks.append(chunk)
        except StorageError as error:
            ahead.error = error
        finally:
            await windows.aclose()
        ahead.over.set()


@asynccontextmanager
async def _open_ranges(
    bucket: Bucket, name: ObjectName, span: Span, budget: trio.Semaphore
) -> AsyncIterator[BlobReader]:
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        ranges = _Ranges(bucket, name, span, budget, nursery)
        try:
            await ranges.begin()
            yield S3Reader(ranges)
        except Exception as error:  # noqa: BLE001 - raised again below, outside of the nursery's group
            failure = error
        finally:
            await ranges.aclose()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
