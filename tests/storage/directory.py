"""A filesystem store's directory as the tests see it: open it, damage it, mount something in it, use it elsewhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from storage.blocking import Pool
from storage.filesystem import FilesystemStore

HOLDER = """
import sys, pathlib, trio
from storage.blocking import Pool
from storage.filesystem import FilesystemStore

async def main():
    store = FilesystemStore(pathlib.Path(sys.argv[1]), pool=Pool("disk", 1))
    async with store.stage(sys.argv[2], create=True):
        print("held", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


class Directory:
    """A store's directory; see `place.Place`."""

    def __init__(self, root: Path, *, compression: str = "off") -> None:
        self.root = root
        self.compression = compression

    async def open(self) -> FilesystemStore:
        """A new store over the directory, as after a restart."""
        store = FilesystemStore(self.root, pool=Pool("disk", 4), compression=self.compression)
        await store.prepare()
        return store

    async def cut(self, key: str, size_bytes: int) -> None:
        """Truncate the object's file."""
        (self.root / key).chmod(0o600)
        os.truncate(self.root / key, size_bytes)

    def files(self) -> list[str]:
        """Every file below the root but the store's marker, by its path from there."""
        found = (str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir())
        return sorted(name for name in found if name != "storage-id")


@contextmanager
def python_process(script: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A Python process and what it prints; killed at the end if it still runs."""
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout
        finally:
            process.kill()


@contextmanager
def other_process(root: Path, staging_id: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the staging area."""
    with python_process(HOLDER, str(root), staging_id) as (process, output):
        assert output.readline() == "held\n"
        yield process


@contextmanager
def small_disk(path: Path, *, size_bytes: int) -> Iterator[Path]:
    """A file system of its own at `path`, in memory; skips the test where that is not allowed."""
    path.mkdir(exist_ok=True, parents=True)
    options = f"size={size_bytes},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def open_descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked


def open_names(path: Path) -> list[str]:
    """Which descriptors of this process are of that file, under whatever name it was opened."""
    wanted, found = path.stat(), []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            if os.path.samestat(each.stat(), wanted):
                found.append(each.name)
    return found


def open_below(root: Path) -> list[str]:
    """The files below a directory that this process has open, removed ones too, by the names that they had then."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(str(each.readlink()))
    return sorted(name for name in found if name.startswith(f"{root}/"))
