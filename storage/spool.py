"""Local files that bytes pass on their way to an object store: one per part, nameless, within one budget of bytes.

So a part can be sent again after a failure, worker threads write as to any file, and many uploads at once cost disk and
not memory. A process that dies leaves nothing behind. Who finds no room waits on the event loop, in the order of
arrival; a part that was filled needs no more room to be sent, so somebody always goes on. Files that are only kept for
the next request of an upload give way to whoever waits. Knows no digests, rows or object stores.
"""

import os
import tempfile
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import trio

from storage import durable
from storage.blocking import Pool
from storage.digest import Hasher
from storage.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

_WHAT: Final = "the spool"
# Files that were sent whole wait for the next part: their pages need not be found and cleared again (a part of 8 MiB
# has 2048). Bounded, as they are beside the budget.
_SPARE: Final = 8
_SPARE_BYTES: Final = 16 << 20
# A full spool turns over in seconds when its uploads move; who hears 503 then tries another replica or comes back.
_PATIENCE_S: Final = 60.0
# Uploads whose last bytes are kept between two requests; the room for them is part of the budget anyway.
_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class SpoolStatistics:
    """A snapshot for metrics: bytes that parts may fill, of those the ones kept for later, and who waits for room."""

    budget_bytes: int
    reserved_bytes: int
    kept_bytes: int
    waiting: int


class SpoolPart:
    """One file; nobody else has it. `write`, `read` and `cut` block: call them in a thread."""

    __slots__ = ("_descriptor", "_spool", "capacity_bytes", "size_bytes")

    def __init__(self, spool: "Spool", descriptor: int, capacity_bytes: int) -> None:
        self._spool = spool
        self._descriptor = descriptor
        self.capacity_bytes = capacity_bytes
        self.size_bytes = 0

    @property
    def descriptor(self) -> int:
        """For sending; the bytes are at 0 to `size_bytes`. ValueError after `close`."""
        if self._descriptor < 0:
            raise ValueError("the part of the spool was closed")
        return self._descriptor

    def write(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append; all or nothing. ValueError beyond the capacity; raises `StorageFull` or `Unavailable`."""
        size_bytes = sum(memoryview(part).nbytes for part in parts)
        if self.size_bytes + size_bytes > self.capacity_bytes:
            raise ValueError(f"a part of {self.capacity_bytes} bytes is full: ask for room")
        with durable.failures_of(_WHAT):
            self.size_bytes += durable.write_all(self.descriptor, parts, self.size_bytes)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, which were written."""
        with durable.failures_of(_WHAT):
            return os.pread(self.descriptor, stop - start, start)

    def cut(self, size_bytes: int) -> None:
        """Forget what is behind so many bytes."""
        self.size_bytes = size_bytes

    def close(self, *, was_sent: bool = False) -> None:
        """Give the room back; safe to call twice. `was_sent`: nobody reads the file any more, not even the kernel."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._spool._take_back(self, descriptor, reuse=was_sent)  # noqa: SLF001 - one of two classes of one machine


@dataclass(slots=True)
class Kept:
    """What the next request of an upload can use, if the upload is then what it was: its last bytes, its hasher."""

    version: int
    part: SpoolPart | None
    hasher: Hasher | None


@dataclass(eq=False, slots=True)
class _Waiter:
    size_bytes: int
    granted: trio.Event


class Spool:
    """See the module docstring. One per process and directory; for the event loop, but for what `SpoolPart` says."""

    def __init__(self, directory: Path, *, budget_bytes: int, pool: Pool) -> None:
        self._directory = directory
        self._budget_bytes = budget_bytes
        self._free_bytes = budget_bytes
        self._pool = pool
        self._waiters: deque[_Waiter] = deque()
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._spare: list[int] = []
        self._is_open = True
        self._is_serving = False

    @property
    def budget_bytes(self) -> int:
        """All parts together have at most so many bytes."""
        return self._budget_bytes

    async def prepare(self) -> None:
        """Make the directory; raises `Unavailable` where that fails."""
        await self._pool.run(self._prepare)

    def _prepare(self) -> None:
        with durable.failures_of(_WHAT):
            durable.make_directories(self._directory)

    def close(self) -> None:
        """Close what is kept for later; parts that are in use are closed by who has them."""
        self._is_open = False
        for upload in list(self._kept):
            self.forget(upload)
        while self._spare:
            os.close(self._spare.pop())

    def statistics(self) -> SpoolStatistics:
        """A snapshot for metrics."""
        kept = sum(each.part.capacity_bytes for each in self._kept.values() if each.part is not None)
        reserved = self._budget_bytes - self._free_bytes
        return SpoolStatistics(self._budget_bytes, reserved, kept, len(self._waiters))

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks on a part in a thread; see `blocking.Pool.run`."""
        return await self._pool.run(call, *args, **kwargs)

    # --- room ---------------------------------------------------------------------------------------------------

    async def part(self, capacity_bytes: int) -> SpoolPart:
        """An empty part that takes so many bytes, the caller's until it closes it; waits for room, first come first.

        ValueError for more than the whole budget; raises `StorageFull` or `Unavailable` for trouble of the disk, and
        `Unavailable` after `_PATIENCE_S` without room: uploads that trickle hold theirs for as long as they live.
        """
        if not 0 < capacity_bytes <= self._budget_bytes:
            raise ValueError(f"a part of {capacity_bytes} bytes does not fit into a spool of {self._budget_bytes}")
        await self._reserve(capacity_bytes)
        try:
            descriptor = self._spare.pop() if self._spare else await self._pool.run(self._open)
        except BaseException:
            self._give_back(capacity_bytes)
            raise
        return SpoolPart(self, descriptor, capacity_bytes)

    def _open(self) -> int:
        with durable.failures_of(_WHAT):
            try:
                flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
                return os.open(self._directory, flags, durable.NEW_FILE_MODE)
            except OSError:  # a file system without nameless files; any other trouble shows again
                descriptor, path = tempfile.mkstemp(dir=self._directory)
                Path(path).unlink()
                return descriptor

    async def _reserve(self, size_bytes: int) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._waiters and self._make_room(size_bytes):
            self._free_bytes -= size_bytes
            return
        with trio.move_on_after(_PATIENCE_S):
            await self._wait_for_turn(_Waiter(size_bytes, trio.Event()))
            return
        raise Unavailable(f"{_WHAT} is full of other uploads: push again in a while, or raise spool_bytes")

    async def _wait_for_turn(self, waiter: _Waiter) -> None:
        self._waiters.append(waiter)
        self._serve()
        try:
            await waiter.granted.wait()
        except BaseException:
            if waiter.granted.is_set():
                self._give_back(waiter.size_bytes)
            else:
                self._waiters.remove(waiter)
                self._serve()
            raise

    def _make_room(self, size_bytes: int) -> bool:
        """Let kept files go, the oldest first, until there is room; whether there is."""
        if self._free_bytes < size_bytes:
            for upload in [each for each, kept in self._kept.items() if kept.part is not None]:
                self._drop_part(self._kept[upload])
                if self._free_bytes >= size_bytes:
                    break
        return self._free_bytes >= size_bytes

    def _serve(self) -> None:
        """Grant room to who waits, in their order. Dropping what is kept gives room back, and so comes here again."""
        if self._is_serving:
            return
        self._is_serving = True
        while self._waiters and self._make_room(self._waiters[0].size_bytes):
            waiter = self._waiters.popleft()
            self._free_bytes -= waiter.size_bytes
            waiter.granted.set()
        self._is_serving = False

    def _give_back(self, size_bytes: int) -> None:
        self._free_bytes += size_bytes
        self._serve()

    def _take_back(self, part: SpoolPart, descriptor: int, *, reuse: bool) -> None:
        is_handy = part.capacity_bytes <= _SPARE_BYTES and len(self._spare) < _SPARE
        if reuse and is_handy and self._is_open:
            self._spare.append(descriptor)
        else:
            with suppress(OSError):
                os.close(descriptor)
        self._give_back(part.capacity_bytes)

    # --- between two requests -----------------------------------------------------------------------------------

    def keep(self, upload: str, kept: Kept) -> None:
        """Keep the end of an upload for its next request, as long as nobody waits for the room; takes the part over."""
        self.forget(upload)
        self._kept[upload] = kept
        if len(self._kept) > _KEPT:
            self.forget(next(iter(self._kept)))
        if not self._is_open:
            self.forget(upload)
        self._serve()

    def take(self, upload: str, version: int) -> Kept | None:
        """What was kept, if the upload still has that version; the part is the caller's again."""
        kept = self._kept.pop(upload, None)
        if kept is not None and kept.version != version:
            self._drop_part(kept)
            return None
        return kept

    def forget(self, upload: str) -> None:
        """The upload has ended."""
        kept = self._kept.pop(upload, None)
        if kept is not None:
            self._drop_part(kept)

    @staticmethod
    def _drop_part(kept: Kept) -> None:
        part, kept.part = kept.part, None
        if part is not None:
            part.close()
