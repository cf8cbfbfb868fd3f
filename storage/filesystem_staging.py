"""Staging areas of a filesystem store: hold one, fill it, let go.

Rules of the file
- A staging area is a file `staging/<id>`. Who holds an exclusive flock on it holds the area; the kernel lets go when
  the holder dies. The lock belongs to the inode, so after locking one must see that the path still names that inode.
- Only the holder touches the area's other names (`filesystem_publish`), so what a dead holder left there is simply
  overwritten, or removed with the area.
- Publishing may make the staging file the object itself. It is *sealed* from then on (mode 0444, more than one name),
  and a sealed file is never written or truncated: the staging area gets a copy of its own instead.
"""

import fcntl
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from storage import durable
from storage.blobstore import BlockingWriter, StoredObject
from storage.blocking import Pool
from storage.digest import CANONICAL, Digest, Hasher
from storage.errors import Busy, Damaged, UploadUnknown
from storage.file_hashing import hash_turn
from storage.filesystem_layout import Layout
from storage.filesystem_publish import Publication, copy, open_partial, published_key, remove_staging
from storage.filesystem_reading import CLOSE_DEADLINE_S, close_descriptor

# How often the path may turn out to name another file than the one that was locked; a guess, once was never exceeded.
_LOCK_ATTEMPTS: Final = 16


def hold(layout: Layout, staging_id: str, *, create: bool) -> int:
    """Lock the staging area and give its descriptor; blocks, but never waits for another holder.

    Raises `Busy`, `UploadUnknown` (only without `create`), or what `durable.failure` makes of the disk's trouble.
    """
    path = layout.staging_path(staging_id)
    with durable.failures_of(f"staging area {staging_id}"):
        for _ in range(_LOCK_ATTEMPTS):
            try:
                descriptor = _open_staging(path, create=create)
            except FileNotFoundError as error:
                raise layout.absent_staging(staging_id) from error
            if _lock(descriptor, path):
                return descriptor
            os.close(descriptor)  # removed or replaced between open and lock: look again
    raise Busy(f"staging area {staging_id} changes hands too fast")


def _open_staging(path: Path, *, create: bool) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | flags | (os.O_CREAT if create else 0), durable.NEW_FILE_MODE)
    except PermissionError:
        return os.open(path, os.O_RDONLY | flags)  # sealed, and we are not root


def _lock(descriptor: int, path: Path) -> bool:
    """Lock the open file; False if the path names another one by now. Closes it if it raises."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
    except BlockingIOError:
        os.close(descriptor)
        raise Busy(f"staging area {path.name} is held by somebody else") from None
    except BaseException:
        os.close(descriptor)
        raise


def _open_adopted(path: Path, what: str) -> int:
    with durable.failures_of(what):
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


class FilesystemStaging:
    """A held staging area; see `blobstore.Staging`. Takes over the descriptor that `hold` gave."""

    def __init__(self, layout: Layout, staging_id: str, *, descriptor: int, pool: Pool, compress: bool) -> None:
        self._layout = layout
        self._staging_id = staging_id
        self._descriptor = descriptor
        self._pool = pool
        self._compress = compress
        self._what = f"staging area {staging_id}"
        self._offset = os.fstat(descriptor).st_size
        self._dropped = False

    @property
    def staging_id(self) -> str:
        """The id that the caller made."""
        return self._staging_id

    @property
    def offset(self) -> int:
        """Number of bytes held."""
        return self._offset

    async def close(self) -> None:
        """Let go and keep the bytes."""
        descriptor, self._descriptor = self._descriptor, -1
        await close_descriptor(descriptor, self._pool)

    async def write(self, chunk: bytes | bytearray | memoryview, hasher: Hasher) -> None:
        """See `blobstore.Staging.write`. Always in a thread, as any write may have to wait for a slow disk.

        On the loop a chunk of 16 KiB would cost a fifth of the CPU (docs/decisions/0003), but bodies come in chunks of
        256 KiB, and every request would wait whenever the kernel makes the writer wait for its disk.
        """
        self._check_held()
        if self._is_sealed():
            await self._detach(self._offset)
        await self._pool.run(self._append, (chunk,), hasher)

    async def writer(self, hasher: Hasher) -> BlockingWriter:
        """See `blobstore.Staging.writer`. A sealed area gets its own file now: that copy waits for the pool."""
        await trio.lowlevel.checkpoint()
        self._check_held()
        if self._is_sealed():
            await self._detach(self._offset)
        return _Writer(self, hasher)

    def hasher(self) -> None:
        """See `blobstore.Staging.hasher`: none is kept beside the bytes."""

    async def settle(self, hasher: Hasher | None) -> None:  # noqa: ARG002  # the contract's shape
        """See `blobstore.Staging.settle`: written bytes are there for all processes of this boot, and that is all."""
        await trio.lowlevel.checkpoint()

    def append(self, parts: Sequence[bytes | bytearray | memoryview], hasher: Hasher) -> None:
        """For `writer`. Bytes that come after the area was sealed are the caller's mistake: ValueError."""
        self._check_held()
        if self._is_sealed():
            raise ValueError(f"{self._what} was published: ask for another writer")
        self._append(parts, hasher)

    def _append(self, parts: Sequence[bytes | bytearray | memoryview], hasher: Hasher) -> None:
        with durable.failures_of(self._what):
            try:
                written = durable.write_all(self._descriptor, parts, self._offset)
            except OSError:
                with suppress(OSError):  # the next write goes to the same place whether or not this works
                    os.ftruncate(self._descriptor, self._offset)
                raise
        for part in parts:
            hasher.update(part)
        self._offset += written

    def verifies(self, digest: Digest, size_bytes: int) -> bool:  # noqa: ARG002  # the contract's shape
        """See `blobstore.Staging.verifies`: who writes here hashes."""
        return False

    async def receive(self, digest: Digest, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:  # noqa: ARG002
        """See `blobstore.Staging.receive`: not offered, as `verifies` says."""
        raise ValueError(f"{size_bytes} bytes of {digest} cannot be verified here: write them")

    async def rehash(self, hasher: Hasher) -> None:
        """See `blobstore.Staging.rehash`. If it is cancelled or fails, forget the hasher: it has seen some bytes."""
        self._check_held()
        while hasher.size_bytes < self._offset:
            await self._pool.run(self._hash_turn, hasher)

    def _hash_turn(self, hasher: Hasher) -> None:
        with durable.failures_of(self._what):
            if not hash_turn(self._descriptor, hasher, self._offset):
                raise Damaged(f"{self._what} ends after {hasher.size_bytes} bytes, {self._offset} were written")

    async def truncate(self, size_bytes: int) -> None:
        """See `blobstore.Staging.truncate`; ValueError beyond the offset."""
        self._check_held()
        if not 0 <= size_bytes <= self._offset:
            raise ValueError(f"cannot truncate {self._offset} bytes to {size_bytes}")
        if self._is_sealed():
            await self._detach(size_bytes)
        else:
            await self._pool.run(self._cut, size_bytes)

    def _cut(self, size_bytes: int) -> None:
        with durable.failures_of(self._what):
            os.ftruncate(self._descriptor, size_bytes)
        self._offset = size_bytes

    async def publish(self, digest: Digest) -> StoredObject:
        """See `blobstore.Staging.publish`.

        If the bytes are compressed, they are hashed on the way and `DigestMismatch` is raised where the caller erred.
        After a failed fsync the staging area is gone: the bytes cannot be trusted, and a retry must send them again.
        """
        self._check_held()
        if digest.algorithm != CANONICAL:
            raise ValueError(f"objects are named by sha256, not by {digest.algorithm}")
        publication = Publication(
            self._layout, self._staging_id, descriptor=self._descriptor, size_bytes=self._offset, digest=digest
        )
        try:
            return await publication.run(self._pool, compress=self._compress)
        finally:
            self._dropped = os.fstat(self._descriptor).st_nlink == 0

    async def adopt(self, path: Path, digest: Digest, size_bytes: int) -> StoredObject:
        """Publish another file through this area; see `blobstore.BlobStore.adopt`."""
        self._check_held()
        if digest.algorithm != CANONICAL:
            raise ValueError(f"objects are named by sha256, not by {digest.algorithm}")
        descriptor = await self._pool.run(_open_adopted, path, f"blob {digest}")
        try:
            publication = Publication(
                self._layout,
                self._staging_id,
                descriptor=descriptor,
                size_bytes=size_bytes,
                digest=digest,
                source=path,
            )
            return await publication.run(self._pool, compress=self._compress)
        finally:
            self._dropped = os.fstat(self._descriptor).st_nlink == 0
            with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await close_descriptor(descriptor, self._pool)

    async def published(self) -> StoredObject | None:
        """See `blobstore.Staging.published`.

        The key is read from a note beside the area that is not synced: a power failure, unlike a crash of the process,
        may have taken it, and then only a scan finds the object.
        """
        return None if self._dropped else await self._pool.run(self._look_at_published)

    def _look_at_published(self) -> StoredObject | None:
        with durable.failures_of(self._what):
            key = published_key(self._layout, self._staging_id)
            return None if key is None else self._layout.look_anyhow(key)

    async def discard(self) -> None:
        """See `blobstore.Staging.discard`."""
        if not self._dropped:
            await self._pool.run(self._drop)

    def _drop(self) -> None:
        with durable.failures_of(self._what):
            remove_staging(self._layout, self._staging_id)
        self._dropped = True

    def _check_held(self) -> None:
        if self._dropped:
            raise UploadUnknown(f"{self._what} was discarded")
        if self._descriptor < 0:
            raise ValueError(f"{self._what} is no longer held")

    def _is_sealed(self) -> bool:
        status = os.fstat(self._descriptor)
        return status.st_nlink > 1 or not status.st_mode & stat.S_IWUSR

    async def _detach(self, size_bytes: int) -> None:
        """Give the area a file of its own, with the first bytes of the sealed one, which stays as it is."""
        async with open_partial(self._layout, self._staging_id, self._pool) as target:
            await copy(self._descriptor, target, size_bytes=size_bytes, pool=self._pool, what=self._what)
            await self._pool.run(self._adopt, target)
        self._offset = size_bytes

    def _adopt(self, target: int) -> None:
        with durable.failures_of(self._what):
            fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
            replacement = os.dup(target)  # shares the lock
            try:
                self._layout.partial_path(self._staging_id).rename(self._layout.staging_path(self._staging_id))
            except BaseException:
                os.close(replacement)
                raise
        os.close(self._descriptor)
        self._descriptor = replacement


class _Writer:
    """See `blobstore.BlockingWriter`."""

    def __init__(self, staging: FilesystemStaging, hasher: Hasher) -> None:
        self._staging = staging
        self._hasher = hasher

    @property
    def is_full(self) -> bool:
        return False

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        self._staging.append(parts, self._hasher)

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()
