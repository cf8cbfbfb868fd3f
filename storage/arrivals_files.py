"""The growing files of blobs that come from upstreams: one directory per named storage, for all processes of a machine.

    boot                in which boot of the machine the files here were written
    <storage>/<name>    a blob on its way in, see `hotset_files.GrowingFile`; gone once it is published

Nothing here is needed: what is lost is fetched again. All functions block.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

from storage import durable
from storage.errors import StorageFull
from storage.hotset import ABANDONED_S, LOOK_BYTES
from storage.hotset_files import FileName, GrowingFile, named_files, remove_abandoned
from storage.upload import boot_id

_WHAT: Final = "arrivals"


class ArrivalsDirectory:
    """Where blobs of one storage arrive. `reserve_bytes` stay free on the disk."""

    def __init__(self, root: Path, *, reserve_bytes: int, clock: Callable[[], float]) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self.refused = 0
        """How many blobs found no room since the start."""

    def create(self) -> None:
        """Make it; raises `Unavailable` or `StorageFull`."""
        with durable.failures_of(_WHAT):
            self._root.mkdir(durable.DIRECTORY_MODE, parents=True, exist_ok=True)

    def tidy(self, *, is_after_boot: bool = False) -> int:
        """Remove what nobody fills and nobody came back for; how many files. After a boot all of that.

        A file that was verified says so before its bytes are on the disk; what a power failure left of it is unknown.
        """
        with durable.failures_of(_WHAT):
            changed_before = None if is_after_boot else self._clock() - ABANDONED_S
            return remove_abandoned(list(named_files(self._root)), changed_before=changed_before)

    def claim(self, name: FileName) -> GrowingFile | None:
        """The growing file, ours or another's; None if there is no room for it, or trouble with the directory."""
        try:
            growing = GrowingFile.open(self._root / str(name), name)
            if growing is None or not growing.is_ours or growing.look().size_bytes:
                return growing
            with ExitStack() as stack:
                stack.enter_context(closing(growing))
                if not self._has_room(name):
                    self.refused += 1
                    growing.give_up()
                    return None
                stack.pop_all()
        except OSError:
            return None
        return growing

    def append(self, growing: GrowingFile, parts: list[bytes], position: int) -> None:
        """Write to our growing file; see `intake_area.Area.append`."""
        with durable.failures_of(_WHAT):
            size_bytes = growing.append(parts, position)
            is_time = position // LOOK_BYTES != (position + size_bytes) // LOOK_BYTES
            if is_time and self._free_bytes() < self._reserve_bytes:
                raise StorageFull(f"{_WHAT}: the disk has less left than must stay free")

    def mark_verified(self, growing: GrowingFile) -> None:
        """Tell all who follow it that its bytes are right."""
        with durable.failures_of(_WHAT):
            growing.mark_verified(now=self._clock())

    def _has_room(self, wanted: FileName) -> bool:
        """Whether all that is on its way can be written."""
        promised = wanted.size_bytes
        for path, name in named_files(self._root):
            with suppress(FileNotFoundError):
                if name != wanted:
                    promised += max(0, name.size_bytes - path.lstat().st_size)
        return self._free_bytes() - promised >= self._reserve_bytes

    def _free_bytes(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize


def condemn(growing: GrowingFile) -> None:
    """Remove our file and tell all who follow it that its bytes are wrong."""
    with durable.failures_of(_WHAT):
        growing.condemn()


def give_up(growing: GrowingFile) -> None:
    """Remove our file."""
    with durable.failures_of(_WHAT):
        growing.give_up()


def machine_id(root: Path) -> str:
    """What all processes over this directory, and nobody else, call themselves to other machines."""
    with durable.failures_of(_WHAT):
        status = root.stat()
    return hashlib.sha256(f"{boot_id()} {status.st_dev} {status.st_ino}".encode("ascii")).hexdigest()[:32]


def is_after_boot(root: Path) -> bool:
    """Whether the machine was started since `note_boot`."""
    with durable.failures_of(_WHAT):
        try:
            return (root / "boot").read_text(encoding="ascii").strip() != boot_id()
        except FileNotFoundError:
            return True


def note_boot(root: Path) -> None:
    """What grows here from now on is of this boot."""
    with durable.failures_of(_WHAT):
        (root / "boot").write_text(boot_id(), encoding="ascii")
