"""Machines in a mount namespace: this one without its clients' own folders, or another Debian that lies in a folder.

What is mounted is held by one process that ends when the tests do; with it and with what runs inside, the mounts are
gone, also after a kill. Nothing is mounted where other processes of this machine could see it.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.clients.machines import DIE_WITH_PARENT, STOP_S, Machine
from tests.system_packages import SEARCH_PATH

# docker 20 keeps a key in /etc/docker and skopeo a list of known blobs in /var/lib/containers, whatever it is told.
HERE: Final = """set -eu
for own in /etc/docker /var/lib/containers; do
  mkdir -p "$own"
  mount -t tmpfs tmpfs "$own"
done
echo ready
exec cat
"""

# The new root is a mount and truly the root (not a chroot), or dockerd could not unpack layers in it.
THERE: Final = """set -eu
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
for writable in tmp run root var/tmp etc/docker; do
  test -d "$writable" || continue
  mount -t tmpfs tmpfs "$writable"
done
mkdir -p "./$2" var/lib/containers
mount -t tmpfs tmpfs var/lib/containers
mount --bind "$2" "./$2"
mount -o remount,bind,ro .
pivot_root . mnt
cd /
umount -l mnt
echo ready
exec cat
"""


def obstacle() -> str | None:
    """Why there can be no machine in a namespace here, as half a sentence, or None."""
    if os.geteuid() != 0:
        return "it needs root"
    for name in ("unshare", "nsenter", "setpriv"):
        if shutil.which(name, path=SEARCH_PATH) is None:
            return f"{name} is not installed"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "this system allows no mount namespace"


@contextlib.contextmanager
def here(work: Path) -> Iterator[Machine]:
    """The machine that this runs on, with the folders empty in which its own clients keep what they know."""
    with _held(HERE) as entry:
        yield Machine(work, entry)


@contextlib.contextmanager
def there(root: Path, work: Path) -> Iterator[Machine]:
    """The machine in `root`, which stays as it is, and sees `work` at the same path."""
    with _held(THERE, str(root), str(work)) as entry:
        yield Machine(work, entry)


@contextlib.contextmanager
def _held(script: str, *words: str) -> Iterator[tuple[str, ...]]:
    """A namespace set up by the script; gives the words that lead a command into it."""
    with subprocess.Popen(
        ["unshare", "--mount", *DIE_WITH_PARENT, "sh", "-c", script, "sh", *words],
        stdin=subprocess.PIPE,  # closed at the end, or with this process: the holder reads it to the end and is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != b"ready\n":
            pytest.fail(f"no namespace: {holder.stderr.read().decode()}")
        try:
            yield ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
        finally:
            holder.stdin.close()
            holder.wait(STOP_S)
