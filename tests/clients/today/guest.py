"""Runs programs inside a folder that holds another Debian, as if it were the machine.

The folder is read-only inside and stays as it was. The mounts that make it a machine live in a namespace of their
own, held by one process that ends when the tests do; with it and with what runs inside, the mounts are gone, also
after a kill.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.clients.machines import DIE_WITH_PARENT, STOP_S, Machine

# The new root is a mount and truly the root (not a chroot), or dockerd could not unpack layers in it.
ENTER: Final = """set -eu
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
for writable in tmp run root var/tmp; do mount -t tmpfs tmpfs "$writable"; done
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


@contextlib.contextmanager
def guest(root: Path, work: Path) -> Iterator[Machine]:
    """The machine in `root`, which sees `work` at the same path. Nothing of it runs after the block."""
    holder = subprocess.Popen(
        ["unshare", "--mount", *DIE_WITH_PARENT, "sh", "-c", ENTER, "sh", str(root), str(work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    try:
        ready = holder.stdout.readline()
        assert ready == b"ready\n", holder.stderr.read().decode()
        yield Machine(work, ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--"))
    finally:
        for pipe in (holder.stdin, holder.stdout, holder.stderr):
            pipe.close()  # the holder reads its input to the end
        holder.wait(STOP_S)
