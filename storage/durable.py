"""Changes of a directory tree that survive power loss, and the one table from errno to storage error.

Everything here blocks: call it in a pool. It knows paths and descriptors; nothing of digests, keys or staging.
The order that makes a new file durable is always: its bytes and mode, fsync; its name; fsync of the directory; and
fsync of the parent of every directory that was made for it.
"""

import errno
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from storage.errors import StorageError, StorageFull, Unavailable

DIRECTORY_MODE: Final = 0o700
NEW_FILE_MODE: Final = 0o600
SEALED_MODE: Final = 0o444

# The most buffers of one vectored call (limits.h of Linux; POSIX promises 16, the kernel has had 1024 since 2.4).
_IOV_MAX: Final = 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# What link(2) says where hard links cannot be had: the file system has none (vfat, some FUSE), forbids them, or the
# two directories lie on two of them (mounts, project quotas).
NO_HARD_LINK: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOSYS})


def failure(error: OSError, what: str) -> StorageError:
    """The storage error for `error` while handling `what`; the message has no path, the chained cause has.

    "No such file" is not decided here: only the caller knows whether that means an absent object.
    """
    if error.errno in _FULL:
        return StorageFull(f"{what}: no space left in the store")
    reason = os.strerror(error.errno) if error.errno is not None else "input/output failure"
    return Unavailable(f"{what}: {reason}")


@contextmanager
def failures_of(what: str) -> Iterator[None]:
    """Map every OSError of the block by `failure`."""
    try:
        yield
    except OSError as error:
        raise failure(error, what) from error


def sync_directory(path: Path) -> None:
    """Make the names in the directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> bool:
    """Make one directory, not yet durably; whether it was new."""
    try:
        path.mkdir(DIRECTORY_MODE)
    except FileExistsError:
        return False
    return True


def make_directories(path: Path) -> None:
    """Make the directory and its missing parents, each durable before the next; existing ones are left as they are."""
    if path.is_dir():
        return
    make_directories(path.parent)
    make_directory(path)
    sync_directory(path.parent)


def write_all(descriptor: int, parts: Sequence[bytes | bytearray | memoryview], position: int) -> int:
    """Write all parts at `position`, one behind the other; how many bytes they are.

    On an error the file may be longer than before, so truncate it.
    """
    start = position
    rest = deque(view for part in parts if (view := memoryview(part).cast("B")))
    while rest:
        written = os.pwritev(descriptor, list(islice(rest, _IOV_MAX)), position)
        position += written
        while rest and written >= len(rest[0]):
            written -= len(rest.popleft())
        if written:
            rest[0] = rest[0][written:]
    return position - start


def append_copy(source: int, target: int, *, position: int, size_bytes: int) -> int:
    """Copy up to `size_bytes` from `position` of source to where target's own offset stands; how many were copied.

    The kernel copies (sendfile between files): nothing passes through this process, and unlike copy_file_range it
    works between any two file systems.
    """
    return os.sendfile(target, source, position, size_bytes)
