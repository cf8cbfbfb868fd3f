"""The files of a hot set: what their names, modes, times and locks say to every process of the machine. Blocks.

    kept/<aa>/<name>       a whole blob whose digest was right when it was put here
    growing/<name>         a blob on its way in
    ledger, upkeep         see `hotset_room`

A name is `<hash of the key>.<digest of the blob>.<size>`, so a file can be judged by itself. Blobs on their way in from
an upstream (`storage.arrivals`) grow in such files too; they are never kept here. Rules of a growing file:
- Who holds an exclusive flock on it fills it, from its end on. The kernel lets go when a filler dies; whoever follows
  the file then takes the lock and goes on where it ends.
- Its mode tells how it ended, to all who have it open: 0444 the bytes are right, 0000 they are not. It is renamed to
  its kept name only after that and after its bytes are on the disk, so a kept file survives a power failure whole.
- A growing file without a name and without such a mode was given up. What its readers have got of it was not verified
  and must be verified by whoever goes on by other means.
Rules of a kept file:
- Who reads it holds a shared flock, which also goes with every copy (dup) of the descriptor. So whoever makes room
  sees what is in use, by other processes and by the lane too.
- Its modification time is when it was kept, its access time (set by hand, so mount options do not matter) when it was
  last used; both are the same until it is used again. The owner's execute bit says that it was (`hotset_room`).
"""

import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from storage import durable
from storage.digest import HEX_LENGTHS, Digest

VERIFIED_MODE: Final = 0o444
WANTED_AGAIN_MODE: Final = 0o544
DAMAGED_MODE: Final = 0o000
# How often a path may name another file than the one that was just locked; a guess, once was never exceeded.
_LOCK_ATTEMPTS: Final = 16
# Times of use are set by hand: a kernel that sets them on reading, too (relatime), would blur them.
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME
_NAME: Final = re.compile(r"(?P<place>[0-9a-f]{40})\.(?P<hex>(?:[0-9a-f]{64}){1,2})\.(?P<size>[0-9]{1,19})")
_ALGORITHMS: Final = {length: name for name, length in HEX_LENGTHS.items()}


@dataclass(frozen=True, slots=True)
class FileName:
    """What a file's name says."""

    place: str
    digest: Digest
    size_bytes: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a name; None for what no hot set has made."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        digest = Digest(_ALGORITHMS[len(match["hex"])], match["hex"])
        return cls(match["place"], digest, int(match["size"]))

    def __str__(self) -> str:
        return f"{self.place}.{self.digest.hex}.{self.size_bytes}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob as a hot set knows it: the key that its origin gave it (any text), its digest and its size."""

    key: str
    digest: Digest
    size_bytes: int

    @property
    def name(self) -> FileName:
        """The name of its file."""
        return FileName(place_of(self.key), self.digest, self.size_bytes)


def place_of(key: str) -> str:
    """The part of a name that tells the key: no key can name a file elsewhere."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]


class HotSetLayout:
    """The directories of one hot set. Methods raise OSError."""

    def __init__(self, root: Path) -> None:
        self.root: Final = root.absolute()
        self.kept: Final = self.root / "kept"
        self.growing: Final = self.root / "growing"
        self.ledger: Final = self.root / "ledger"
        self.upkeep: Final = self.root / "upkeep"

    def create(self) -> None:
        """Make the directories; repeating it is fine."""
        for directory in (self.root, self.kept, self.growing):
            directory.mkdir(durable.DIRECTORY_MODE, parents=True, exist_ok=True)

    def kept_path(self, name: FileName) -> Path:
        """Where the whole blob lies."""
        return self._fan_out(name.place) / str(name)

    def growing_path(self, name: FileName) -> Path:
        """Where it lies on its way in."""
        return self.growing / str(name)

    def walk_kept(self) -> Iterator[tuple[Path, FileName]]:
        """All kept files, in the order of their names' first two digits."""
        for directory in self.fan_out():
            yield from named_files(directory)

    def fan_out(self) -> list[Path]:
        """The directories of the kept files, in the order of their names."""
        return sorted(self.kept.iterdir())

    def walk_growing(self) -> Iterator[tuple[Path, FileName]]:
        """All growing files."""
        return named_files(self.growing)

    def forget(self, key: str) -> int:
        """Remove what is kept under a key; gives its bytes."""
        place = place_of(key)
        freed = 0
        for path, name in list(named_files(self._fan_out(place))):
            if name.place == place:
                path.unlink(missing_ok=True)
                freed += name.size_bytes
        return freed

    def _fan_out(self, place: str) -> Path:
        return self.kept / place[:2]


def named_files(directory: Path) -> Iterator[tuple[Path, FileName]]:
    """The files of a directory that have such names, in any order; none if it is not there."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as found:
        for each in found:
            name = FileName.parse(each.name)
            if name is not None:
                yield directory / each.name, name


# --- kept files ---------------------------------------------------------------------------------------------------


def open_kept(layout: HotSetLayout, name: FileName, *, now: float, touch_s: float) -> int | None:
    """A descriptor of the kept file, marked as in use; None if it is not kept, or was not whole (then it is no more).

    Its time of use is written at most every `touch_s`, and a use that comes so much later than it was kept makes it
    one that is wanted again.
    """
    path = layout.kept_path(name)
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if status.st_size == name.size_bytes and stat.S_IMODE(status.st_mode) != DAMAGED_MODE:
            with suppress(BlockingIOError):  # it is being evicted: what is open stays readable
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if now - status.st_atime >= touch_s:
                mark_used(descriptor, now=now)
            return descriptor
        path.unlink(missing_ok=True)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def adopt_file(layout: HotSetLayout, name: FileName, path: Path, *, now: float) -> None:
    """Give a whole, verified file its kept name as a second one, after its bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        os.fchmod(descriptor, VERIFIED_MODE)
        os.utime(descriptor, ns=(int(now * 1e9), int(now * 1e9)))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    target = layout.kept_path(name)
    target.parent.mkdir(durable.DIRECTORY_MODE, exist_ok=True)
    target.hardlink_to(path)


def mark_used(descriptor: int, *, now: float) -> None:
    """Write down that the kept file was used again."""
    os.utime(descriptor, ns=(int(now * 1e9), os.fstat(descriptor).st_mtime_ns))
    os.fchmod(descriptor, WANTED_AGAIN_MODE)


def lock_unused(path: Path) -> int | None:
    """A descriptor that holds the only lock on the file; None if somebody uses it, or if it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def remove_abandoned(files: Iterable[tuple[Path, FileName]], *, changed_before: float | None) -> int:
    """Remove growing files that nobody fills and nobody came back for; how many. None: however late they changed."""
    removed = 0
    for path, _ in files:
        try:
            descriptor = lock_unused(path)
        except PermissionError:  # condemned by who then died, and we are not root
            path.unlink(missing_ok=True)
            continue
        if descriptor is None:
            continue
        try:
            if changed_before is None or os.fstat(descriptor).st_mtime <= changed_before:
                path.unlink(missing_ok=True)
                removed += 1
        finally:
            os.close(descriptor)
    return removed


# --- growing files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """A growing file at one instant."""

    size_bytes: int
    is_verified: bool
    is_damaged: bool
    is_given_up: bool
    changed_ns: int
    """When it was written or touched last, for comparing."""


class GrowingFile:
    """One growing file, opened for filling or following. Close it once."""

    __slots__ = ("descriptor", "is_ours", "name", "path")

    def __init__(self, path: Path, name: FileName, descriptor: int, *, is_ours: bool) -> None:
        self.path = path
        self.name = name
        self.descriptor = descriptor
        self.is_ours = is_ours
        """Whether we hold the lock, and so are the one that fills it."""

    @classmethod
    def open(cls, path: Path, name: FileName) -> Self | None:
        """The growing file at that path, made if there is none; locked if nobody else holds it.

        None if it changed hands too fast: look again whether it is kept by now.
        """
        for _ in range(_LOCK_ATTEMPTS):
            try:
                descriptor = _open_growing(path)
            except (PermissionError, FileNotFoundError):  # just ended by another process; root is never refused
                continue
            growing = cls(path, name, descriptor, is_ours=False)
            try:
                growing.try_lock()
                if growing.is_named():
                    return growing
            except BaseException:
                growing.close()
                raise
            growing.close()
        return None

    def try_lock(self) -> bool:
        """Become the one that fills it, if nobody is. Never waits."""
        if not self.is_ours:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # held by another; or a file system without locks: then nobody takes over
                return False
            self.is_ours = True
        return True

    def unlock(self) -> None:
        """Leave the rest to whoever comes."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.is_ours = False

    def is_named(self) -> bool:
        """Whether it is still the growing file of its name."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False

    def look(self) -> Look:
        """How far it is; cheap enough for the event loop."""
        status = os.fstat(self.descriptor)
        mode = stat.S_IMODE(status.st_mode)
        return Look(
            size_bytes=status.st_size,
            is_verified=mode in {VERIFIED_MODE, WANTED_AGAIN_MODE},
            is_damaged=mode == DAMAGED_MODE,
            is_given_up=status.st_nlink == 0,
            changed_ns=status.st_mtime_ns,
        )

    def append(self, parts: Sequence[bytes | bytearray | memoryview], position: int) -> int:
        """Write the parts at `position`, which is its end; how many bytes they are. On an error nothing is added."""
        try:
            return durable.write_all(self.descriptor, parts, position)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.descriptor, position)
            raise

    def mark_verified(self, *, now: float) -> None:
        """Tell all who follow it that its bytes are right."""
        os.utime(self.descriptor, ns=(int(now * 1e9), int(now * 1e9)))
        os.fchmod(self.descriptor, VERIFIED_MODE)

    def touch(self) -> None:
        """Tell all who follow it that its filler is at work, though nothing comes."""
        os.utime(self.descriptor)

    def keep(self, target: Path) -> None:
        """Give a verified file its kept name, after its bytes are on the disk."""
        os.fdatasync(self.descriptor)
        target.parent.mkdir(durable.DIRECTORY_MODE, exist_ok=True)
        self.path.rename(target)
        self.unlock()
        with suppress(OSError):  # nobody shares it yet, and without the mark it only looks unused
            fcntl.flock(self.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def condemn(self) -> None:
        """Tell all who follow it that its bytes are wrong, and remove it."""
        os.fchmod(self.descriptor, DAMAGED_MODE)
        self.give_up()

    def give_up(self) -> None:
        """Remove it; whoever has it open still has what is in it. Only for who holds the lock."""
        if self.is_named():
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the descriptor, and with it let go of the lock."""
        with suppress(OSError):
            os.close(self.descriptor)


def _open_growing(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, durable.NEW_FILE_MODE)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _FLAGS)  # verified already, and we are not root
