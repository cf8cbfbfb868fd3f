"""The hot set: a byte-bounded directory on local disk, in front of where blobs really lie.

All processes of a machine share one directory: what one of them brings in, all of them serve, by sendfile. It holds
copies only, each verified before it is kept, and may be deleted at any time. What keeps the processes apart is said in
`hotset_files`, who makes room for whom in `hotset_room`, how a blob comes in in `storage.intake`. Knows keys, digests
and sizes; no stores, no rows.
"""

import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from storage import durable
from storage.blocking import Pool
from storage.digest import Hasher
from storage.errors import StorageFull
from storage.hotset_files import (
    Entry,
    FileName,
    GrowingFile,
    HotSetLayout,
    adopt_file,
    lock_unused,
    named_files,
    open_kept,
    remove_abandoned,
)
from storage.hotset_room import Room

LARGEST_SHARE: Final = 0.25
"""Of the capacity: a larger blob is not kept, as it would push out more pulls than it saves."""
_TOUCH_S: Final = 60.0
"""How often the time of use of a file is written at most; a use that comes so much later is another one."""
ABANDONED_S: Final = 600.0
"""How long a growing file that nobody fills is kept for whoever comes back for the blob."""
LOOK_BYTES: Final = 64 * 1024 * 1024
"""Written to a growing file between two looks at what the disk has left."""
_READ_BYTES: Final = 1024 * 1024
_WHAT: Final = "hot set"


@dataclass(frozen=True, slots=True)
class HotSetStatistics:
    """Counted by this process since it started. `hits`: opened from the set; `refused`: blobs that found no room."""

    hits: int
    misses: int
    kept: int
    refused: int
    evicted_files: int
    evicted_bytes: int


@dataclass(frozen=True, slots=True)
class UpkeepReport:
    """What one turn of the upkeep did; `is_ours` false: another process of the machine does it."""

    is_ours: bool
    used_bytes: int = 0
    abandoned: int = 0
    checked_bytes: int = 0
    damaged: int = 0


class HotSet:
    """One directory; open it in each process. Call `prepare` once before anything else, `upkeep` every minute or so.

    `capacity_bytes`: of whole and growing blobs together. `reserve_bytes`: what stays free on the disk. When there is
    no room, blobs are not kept and not gathered: their readers are served from the origin.
    """

    def __init__(
        self,
        directory: Path,
        *,
        capacity_bytes: int,
        pool: Pool,
        reserve_bytes: int = 1 << 30,
        recheck_s: float = 30 * 86400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`recheck_s`: in this time the upkeep has hashed everything that is kept once more."""
        self._layout = HotSetLayout(directory)
        self._room = Room(self._layout, capacity_bytes=capacity_bytes, reserve_bytes=reserve_bytes)
        self._largest_bytes = int(capacity_bytes * LARGEST_SHARE)
        self.pool: Final = pool
        self.wants_all: Final = False
        """A copy can be fetched again: what nobody waits for is given up, see `storage.intake`."""
        # Waiting for the disk takes seconds for a large blob; opening files must not wait for it.
        self._syncing = Pool(f"{pool.name}-sync", 2)
        self._recheck_s = recheck_s
        self._clock = clock
        self._checked_at: float | None = None
        # Where in the order of names the next check begins: at random, as processes may not live for a whole round.
        self._cursor = f"{random.randrange(1 << 16):04x}"  # noqa: S311 - nobody gains from guessing it
        self._hits = self._misses = self._kept = self._refused = 0

    async def prepare(self) -> None:
        """Make the directories, remove what killed processes left growing; raises `Unavailable` or `StorageFull`."""
        await self.pool.run(self._prepare)

    def _prepare(self) -> None:
        with durable.failures_of(_WHAT):
            self._layout.create()
            remove_abandoned(self._layout.walk_growing(), changed_before=None)
            self._room.recount(now=self._clock())

    def admits(self, entry: Entry) -> bool:
        """Whether the blob is kept if there is room; tells by its size alone."""
        return 0 < entry.size_bytes <= self._largest_bytes

    def statistics(self) -> HotSetStatistics:
        """A snapshot for metrics."""
        return HotSetStatistics(
            hits=self._hits,
            misses=self._misses,
            kept=self._kept,
            refused=self._refused,
            evicted_files=self._room.evicted_files,
            evicted_bytes=self._room.evicted_bytes,
        )

    # --- whole blobs ------------------------------------------------------------------------------------------------

    async def open(self, entry: Entry) -> int | None:
        """A descriptor of the whole blob, to be closed by the caller; None if it is not kept.

        Trouble with the directory is None too: there is always the origin.
        """
        descriptor = await self.pool.run(self._open, entry.name)
        if descriptor is None:
            self._misses += 1
        else:
            self._hits += 1
        return descriptor

    def _open(self, name: FileName) -> int | None:
        try:
            return open_kept(self._layout, name, now=self._clock(), touch_s=_TOUCH_S)
        except OSError:
            return None

    async def adopt(self, entry: Entry, path: Path) -> bool:
        """Keep a second name of a whole, verified file, which is never written again; False if that cannot be.

        So where the file lies on another file system, and where there is no room: then the origin is asked next time.
        """
        kept = self.admits(entry) and await self._syncing.run(self._adopt, entry.name, path)
        self._kept += kept
        return kept

    def _adopt(self, name: FileName, path: Path) -> bool:
        try:
            is_taken = self._room.take(name.size_bytes, now=self._clock())
            if not is_taken:
                self._refused += 1
                return False
            try:
                adopt_file(self._layout, name, path, now=self._clock())
            except BaseException:
                self._room.give_back(name.size_bytes)
                raise
        except OSError:
            return False
        return True

    async def forget(self, key: str) -> None:
        """Remove what is kept under a key, if anything is; who has it open reads on. Raises `Unavailable`."""
        await self.pool.run(self._forget, key)

    def _forget(self, key: str) -> None:
        with durable.failures_of(_WHAT):
            self._room.give_back(self._layout.forget(key))

    # --- growing blobs: for `storage.intake` ------------------------------------------------------------------------

    async def claim(self, entry: Entry) -> int | GrowingFile | None:
        """A descriptor of the blob if it is whole by now; else its growing file, ours or another's; None: no room.

        Whatever it gives is to be closed by the caller. Trouble with the directory is None.
        """
        return await self.pool.run(self._claim, entry.name)

    def _claim(self, name: FileName) -> int | GrowingFile | None:
        try:
            growing = GrowingFile.open(self._layout.growing_path(name), name)
            if growing is not None and not (growing.is_ours and growing.look().size_bytes == 0):
                return growing
            # New, but perhaps only because the one before was kept a moment ago.
            with ExitStack() as stack:
                if growing is not None:
                    stack.callback(_drop, growing)
                descriptor = open_kept(self._layout, name, now=self._clock(), touch_s=_TOUCH_S)
                if descriptor is not None or growing is None:
                    return descriptor
                if not self._room.take(name.size_bytes, now=self._clock(), growing=name):
                    self._refused += 1
                    return None
                stack.pop_all()
        except OSError:
            return None
        return growing

    @asynccontextmanager
    async def hold(self, growing: GrowingFile) -> AsyncIterator[bool]:  # noqa: ARG002  # the protocol's shape
        """See `intake_area.Area.hold`: on one machine the lock of the file says it all."""
        await trio.lowlevel.checkpoint()
        yield True

    def append(self, growing: GrowingFile, parts: list[bytes], position: int) -> None:
        """Write to our growing file, in a thread of the caller. Raises `StorageFull` or `Unavailable`; nothing added.

        `StorageFull` also when the disk has less left than must stay free, and nobody can make way.
        """
        with durable.failures_of(_WHAT):
            size_bytes = growing.append(parts, position)
            if position // LOOK_BYTES != (position + size_bytes) // LOOK_BYTES and self._room.is_disk_short():
                self._room.recount(now=self._clock())
                if self._room.is_disk_short():
                    raise StorageFull(f"{_WHAT}: the disk has less left than must stay free")

    def mark_verified(self, growing: GrowingFile) -> None:
        """See `GrowingFile.mark_verified`; in a thread of the caller. Raises `Unavailable`."""
        with durable.failures_of(_WHAT):
            growing.mark_verified(now=self._clock())

    async def keep(self, growing: GrowingFile) -> bool:
        """Keep our verified file; False if the disk would not (it is removed then, and readers that have it go on).

        Another's is kept by who filled it.
        """
        if not growing.is_ours:
            return False
        kept = await self._syncing.run(self._keep, growing)
        self._kept += kept
        return kept

    def _keep(self, growing: GrowingFile) -> bool:
        try:
            growing.keep(self._layout.kept_path(growing.name))
        except OSError:
            self._give_up(growing)
            return False
        return True

    async def condemn(self, growing: GrowingFile) -> None:
        """Remove our file and tell all who follow it that its bytes are wrong."""
        await self.pool.run(self._end, growing, growing.condemn)

    async def give_up(self, growing: GrowingFile) -> None:
        """Remove our file; who follows it has to go on by other means."""
        await self.pool.run(self._give_up, growing)

    def _give_up(self, growing: GrowingFile) -> None:
        self._end(growing, growing.give_up)

    def _end(self, growing: GrowingFile, how: Callable[[], None]) -> None:
        with durable.failures_of(_WHAT):
            how()
            self._room.give_back(growing.name.size_bytes)

    # --- upkeep -----------------------------------------------------------------------------------------------------

    async def upkeep(self, *, check_bytes: int = 1 << 30) -> UpkeepReport:
        """One turn of what has to be done once per machine; the first process that comes does it.

        Removes what was abandoned or is not whole, counts, makes room, and hashes some kept files once more (at most
        `check_bytes` and one file): a copy that rotted is removed. Raises `Unavailable` or `StorageFull`.
        """
        lock = await self.pool.run(self._lock_upkeep)
        if lock is None:
            return UpkeepReport(is_ours=False)
        try:
            abandoned, used = await self.pool.run(self._tidy)
            checked, damaged = await self._check_some(check_bytes, used_bytes=used)
        finally:
            os.close(lock)
        return UpkeepReport(is_ours=True, used_bytes=used, abandoned=abandoned, checked_bytes=checked, damaged=damaged)

    def _lock_upkeep(self) -> int | None:
        with durable.failures_of(_WHAT):
            self._layout.upkeep.touch(durable.NEW_FILE_MODE)
            return lock_unused(self._layout.upkeep)

    def _tidy(self) -> tuple[int, int]:
        with durable.failures_of(_WHAT):
            oldest = self._clock() - ABANDONED_S
            abandoned = remove_abandoned(self._layout.walk_growing(), changed_before=oldest)
            return abandoned, self._room.recount(now=self._clock())

    async def _check_some(self, limit_bytes: int, *, used_bytes: int) -> tuple[int, int]:
        """Hash what is due: as much of the whole as the time since the last turn is of the time for a round."""
        now = self._clock()
        elapsed_s = 0.0 if self._checked_at is None else max(0.0, now - self._checked_at)
        due_bytes = int(used_bytes * elapsed_s / self._recheck_s)
        if self._checked_at is not None and due_bytes == 0:
            return 0, 0  # the time adds up until a byte is due
        self._checked_at = now
        checked = damaged = 0
        while checked < min(due_bytes, limit_bytes):
            found = await self.pool.run(self._next_kept)
            if found is None:
                break
            path, name = found
            checked += max(name.size_bytes, 1)
            damaged += not await self._is_sound(path, name)
        return checked, damaged

    def _next_kept(self) -> tuple[Path, FileName] | None:
        """The kept file behind the cursor, in the order of names; after the last one the first. Lists few directories.

        A name begins as its directory is called, so directories before the cursor's have nothing behind it.
        """
        directories = self._layout.fan_out()
        behind = [each for each in directories if each.name >= self._cursor[: len(each.name)]]
        for after, some in ((self._cursor, behind), ("", directories)):
            for directory in some:
                names = ((str(name), path, name) for path, name in named_files(directory))
                found = min((each for each in names if each[0] > after), default=None)
                if found is not None:
                    self._cursor, path, name = found
                    return path, name
        return None

    async def _is_sound(self, path: Path, name: FileName) -> bool:
        """Whether the kept file has its digest still; removes it if not. Reads it turn by turn."""
        hasher = Hasher()
        try:
            while await self.pool.run(_hash_turn, path, hasher):
                pass
        except OSError:
            return True  # evicted meanwhile, or the disk's trouble: who reads it will be told
        if hasher.digest() == name.digest:
            return True
        await self.pool.run(self._remove_damaged, path, name)
        return False

    def _remove_damaged(self, path: Path, name: FileName) -> None:
        with durable.failures_of(_WHAT):
            path.unlink(missing_ok=True)
            self._room.give_back(name.size_bytes)


def _hash_turn(path: Path, hasher: Hasher) -> bool:
    """Hash the next 16 MiB; False at the end."""
    with path.open("rb", buffering=0) as file:
        for _ in range(16):
            chunk = os.pread(file.fileno(), _READ_BYTES, hasher.size_bytes)
            if not chunk:
                return False
            hasher.update(chunk)
    return True


def _drop(growing: GrowingFile) -> None:
    """Remove a growing file that is ours and empty."""
    with closing(growing):
        growing.give_up()
