"""How much room a hot set has, and who leaves when there is none. Over all processes of the machine; blocks.

What is kept and what grows is counted in a small file, `ledger`, under its lock; every look at the directory (which is
only made when there is no room, and by the upkeep) sets the count right, so what a killed process had reserved comes
back. Who leaves, and why (docs/decisions/0014-hot-set.md):
- first what was used only once, oldest first, as long as such files fill more than a quarter of the set: a scan of
  everything (a mirror, a backup) pushes out no more than that;
- then what was used longest ago;
- what is open somewhere counts as used now and leaves last: removing it would free nothing before it is closed.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage import durable
from storage.hotset_files import FileName, HotSetLayout, lock_unused, mark_used

_ONCE_SHARE: Final = 0.25
"""Of the capacity. At least the share of the largest file that is kept, so that each may be used a second time."""
_SLACK_SHARE: Final = 0.05
"""Of the capacity: made free beyond what is needed, so that the directory is not looked at for every file."""
_PATIENCE_S: Final = 5.0
"""After finding no room at all: how long that is believed, so that a full disk is not walked for every miss."""


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    size_bytes: int
    used_at: float
    is_wanted_again: bool


@dataclass(frozen=True, slots=True)
class _Census:
    kept: list[_Kept]
    kept_bytes: int
    growing_bytes: int


class Room:
    """The count of one hot set, and the way to make room in it."""

    def __init__(self, layout: HotSetLayout, *, capacity_bytes: int, reserve_bytes: int) -> None:
        self._layout = layout
        self._capacity_bytes = capacity_bytes
        self._reserve_bytes = reserve_bytes
        self._full_until = 0.0
        self.evicted_files = 0
        self.evicted_bytes = 0

    def take(self, size_bytes: int, *, now: float, growing: FileName | None = None) -> bool:
        """Reserve room for a file that will have so many bytes, others make way for it; False if there is none.

        `growing`: its name, if it is in the directory already.
        """
        if time.monotonic() < self._full_until:
            return False
        with self._ledger() as ledger:
            used = _read(ledger)
            promised = size_bytes + self._unwritten(apart_from=growing)
            if self._lacking(used, size_bytes, promised) > 0:
                used = self._make_room(size_bytes, promised, now=now, growing=growing)
                if self._lacking(used, size_bytes, promised) > 0:
                    _write(ledger, used)
                    self._full_until = time.monotonic() + _PATIENCE_S
                    return False
            _write(ledger, used + size_bytes)
        return True

    def give_back(self, size_bytes: int) -> None:
        """A file of so many bytes is no longer here, or did not come."""
        if size_bytes:
            with self._ledger() as ledger:
                _write(ledger, max(0, _read(ledger) - size_bytes))

    def recount(self, *, now: float) -> int:
        """Set the count right by looking, and make room if there is too much; gives the bytes that are used."""
        with self._ledger() as ledger:
            used = self._make_room(0, 0, now=now)
            _write(ledger, used)
        self._full_until = 0.0
        return used

    def is_disk_short(self) -> bool:
        """Whether less is free on the disk than must stay free."""
        return self._free_bytes() < self._reserve_bytes

    def _lacking(self, used: int, size_bytes: int, promised: int) -> int:
        """How many bytes must go before `size_bytes` may come: for the capacity, and for the disk.

        `promised`: what will be written altogether, by everybody who fills.
        """
        return max(
            used + size_bytes - self._capacity_bytes,
            self._reserve_bytes + promised - self._free_bytes(),
        )

    def _unwritten(self, *, apart_from: FileName | None) -> int:
        """What is missing of the growing files; there are as many as fills."""
        missing = 0
        for path, name in self._layout.walk_growing():
            with suppress(FileNotFoundError):
                if name != apart_from:
                    missing += max(0, name.size_bytes - path.lstat().st_size)
        return missing

    def _free_bytes(self) -> int:
        found = os.statvfs(self._layout.root)
        return found.f_bavail * found.f_frsize

    # --- making room ------------------------------------------------------------------------------------------------

    def _make_room(self, size_bytes: int, promised: int, *, now: float, growing: FileName | None = None) -> int:
        census = self._census(apart_from=growing)
        used = census.kept_bytes + census.growing_bytes
        lacking = self._lacking(used, size_bytes, promised)
        if lacking <= 0:
            return used
        if used + size_bytes > self._capacity_bytes:
            lacking += int(self._capacity_bytes * _SLACK_SHARE)
        return used - self._evict(census.kept, lacking, now=now)

    def _census(self, *, apart_from: FileName | None) -> _Census:
        kept = []
        for path, name in self._layout.walk_kept():
            with suppress(FileNotFoundError):
                found = _look(path, name)
                if found is not None:
                    kept.append(found)
        growing = sum(name.size_bytes for _, name in self._layout.walk_growing() if name != apart_from)
        return _Census(kept, sum(each.size_bytes for each in kept), growing)

    def _evict(self, kept: list[_Kept], lacking: int, *, now: float) -> int:
        """Remove files until so many bytes are free; gives how many are."""
        freed = 0
        in_use = []
        for each in self._in_order(kept):
            if freed >= lacking:
                break
            descriptor = lock_unused(each.path)
            if descriptor is None:
                in_use.append(each)
                continue
            try:
                freed += self._remove(each)
            finally:
                os.close(descriptor)
        for each in in_use:
            if freed < lacking:
                freed += self._remove(each)
            else:
                _mark_used(each.path, now=now)
        return freed

    def _in_order(self, kept: list[_Kept]) -> Iterator[_Kept]:
        """Who leaves first."""
        once = sorted((each for each in kept if not each.is_wanted_again), key=lambda each: each.used_at)
        again = sorted((each for each in kept if each.is_wanted_again), key=lambda each: each.used_at)
        once_bytes = sum(each.size_bytes for each in once)
        passing = 0
        while once_bytes > self._capacity_bytes * _ONCE_SHARE:
            once_bytes -= once[passing].size_bytes
            passing += 1
        yield from once[:passing]
        yield from again
        yield from once[passing:]

    def _remove(self, each: _Kept) -> int:
        each.path.unlink(missing_ok=True)
        self.evicted_files += 1
        self.evicted_bytes += each.size_bytes
        return each.size_bytes

    @contextmanager
    def _ledger(self) -> Iterator[int]:
        """The open, locked file; the lock is held for some system calls, or for one walk of the directory."""
        descriptor = os.open(self._layout.ledger, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.NEW_FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _look(path: Path, name: FileName) -> _Kept | None:
    """A kept file; one of the wrong length is removed."""
    status = path.lstat()
    if status.st_size != name.size_bytes:
        path.unlink(missing_ok=True)
        return None
    return _Kept(path, name.size_bytes, status.st_atime, bool(status.st_mode & stat.S_IXUSR))


def _mark_used(path: Path, *, now: float) -> None:
    with suppress(FileNotFoundError), closing(path.open("rb")) as file:
        mark_used(file.fileno(), now=now)


def _read(ledger: int) -> int:
    text = os.pread(ledger, 32, 0)
    return int(text) if text.strip().isdigit() else 0


def _write(ledger: int, used: int) -> None:
    os.pwrite(ledger, b"%-31d\n" % used, 0)
