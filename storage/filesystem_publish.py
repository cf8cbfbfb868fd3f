"""From staged bytes, or a file of somebody else, to a durable object: a second name, a copy, or compressed.

Rules of the file
- Only the holder of the staging area publishes from it; it alone writes `staging/<id>.key` and `blobs/partial/<id>`.
- Bytes and mode are on the disk before the object has its name, and the name is on the disk before `publish` returns.
- A name that exists already is from an earlier, interrupted publish of the same bytes: it is used, unless its size
  shows that it was damaged since; then it is replaced by rename, never written.
- Bytes whose fsync failed are lost, whatever a second fsync says: the kernel may have dropped them and marked the
  pages clean. The staging area, or the adopted file, is removed then, and its client begins anew.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import trio

from storage import durable, seekable
from storage.blobstore import StoredObject
from storage.blocking import Pool
from storage.digest import Digest
from storage.errors import BlobUnknown, Damaged, StorageFull
from storage.filesystem_layout import IDENTITY, ZSTD, Layout, ObjectName, describe
from storage.filesystem_reading import CLOSE_DEADLINE_S, close_descriptor

# Bytes copied in one turn of a thread: about 10 ms, so that others get the thread and cancelling is quick.
COPY_TURN_BYTES: Final = 16 * 1024 * 1024


def published_key(layout: Layout, staging_id: str) -> str | None:
    """The key of the object that was last published from the area, if it is there; blocks."""
    try:
        with layout.note_path(staging_id).open(encoding="ascii", errors="replace") as note:
            name = ObjectName.parse(note.read(512))
    except (FileNotFoundError, BlobUnknown):  # a torn note was written before the object had its name
        return None
    return name.key if layout.object_path(name).exists() else None


def remove_staging(layout: Layout, staging_id: str) -> None:
    """Remove all names of the area, its own last, so that nothing is left that nobody would look for; blocks."""
    layout.partial_path(staging_id).unlink(missing_ok=True)
    layout.note_path(staging_id).unlink(missing_ok=True)
    layout.staging_path(staging_id).unlink(missing_ok=True)


@asynccontextmanager
async def open_partial(layout: Layout, staging_id: str, pool: Pool) -> AsyncIterator[int]:
    """A new file at the area's partial path, for reading and writing; closed at the end, and removed if still there."""
    path = layout.partial_path(staging_id)
    descriptor = await pool.run(_open_new, path, f"staging area {staging_id}")
    try:
        yield descriptor
    finally:
        with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            await pool.run(_remove, path)
        with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            await close_descriptor(descriptor, pool)


def _open_new(path: Path, what: str) -> int:
    with durable.failures_of(what):
        path.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, durable.NEW_FILE_MODE)


def _remove(path: Path) -> None:
    with suppress(OSError):  # the next holder, or who drops the area, removes it
        path.unlink(missing_ok=True)


class Publication:
    """One publish through a held staging area, of `size_bytes` in `descriptor`.

    `source` is where that file lies, if it is not the area's own: such a file is never changed in its length.
    """

    def __init__(
        self,
        layout: Layout,
        staging_id: str,
        *,
        descriptor: int,
        size_bytes: int,
        digest: Digest,
        source: Path | None = None,
    ) -> None:
        self._layout = layout
        self._staging_id = staging_id
        self._source = source or layout.staging_path(staging_id)
        self._is_adopted = source is not None
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._digest = digest
        self._what = f"blob {digest}"

    async def run(self, pool: Pool, *, compress: bool) -> StoredObject:
        """Publish; may be cancelled until the object has its name, and then leaves nothing new behind."""
        done = await pool.run(self._at_once, compress=compress)
        if done == "compress":
            done = await self._compressed(pool) or await pool.run(self._link)
        return done if isinstance(done, StoredObject) else await self._copied(pool)

    def _at_once(self, *, compress: bool) -> StoredObject | Literal["compress"] | None:
        """The object, if one turn of a thread makes or finds it; None where it has to be copied."""
        with durable.failures_of(self._what):
            found = self._find()
            if found is not None:
                return found
            self._check_size()
            if compress and seekable.compressible(self._descriptor, self._size_bytes):
                return "compress"
        return self._link()

    def _name(self, encoding: str) -> ObjectName:
        return ObjectName(self._digest, self._staging_id, encoding)

    def _find(self) -> StoredObject | None:
        """What an earlier publish of this area left, made durable again as it may have been interrupted."""
        for encoding in (IDENTITY, ZSTD):
            name = self._name(encoding)
            try:
                stored = self._layout.look(name)
            except (FileNotFoundError, Damaged):
                continue
            if stored.size_bytes == self._size_bytes:
                self._layout.make_fan_out(name)
                self._layout.sync_fan_out(name)
                return stored
        return None

    def _check_size(self) -> None:
        """The file is longer than what was written only where taking back a failed write failed too."""
        file_bytes = os.fstat(self._descriptor).st_size
        if file_bytes > self._size_bytes and not self._is_adopted:
            os.ftruncate(self._descriptor, self._size_bytes)
        elif file_bytes != self._size_bytes:
            raise Damaged(f"{self._what}: {file_bytes} bytes are staged, {self._size_bytes} were written")

    def _link(self) -> StoredObject | None:
        """Give the staging file its second name; None where the file system has no hard links."""
        name = self._name(IDENTITY)
        with durable.failures_of(self._what):
            self._seal(self._descriptor)
            self._prepare_name(name)
            try:
                self._layout.object_path(name).hardlink_to(self._source)
            except FileExistsError:
                self._replace(name)
            except OSError as error:
                if error.errno in durable.NO_HARD_LINK:
                    return None
                raise
            self._layout.sync_fan_out(name)
            return describe(self._descriptor, name)

    def _seal(self, descriptor: int) -> None:
        """Bring the bytes to the disk, read-only and with the time of publishing."""
        os.utime(descriptor)
        os.fchmod(descriptor, durable.SEALED_MODE)
        try:
            os.fsync(descriptor)
        except OSError:
            if self._is_adopted:
                self._source.unlink(missing_ok=True)
            remove_staging(self._layout, self._staging_id)
            raise

    def _prepare_name(self, name: ObjectName) -> None:
        """Make the directories, and note the key first: after a crash the note tells what to look for."""
        self._layout.make_fan_out(name)
        self._layout.note_path(self._staging_id).write_text(name.key, encoding="ascii")

    def _replace(self, name: ObjectName) -> None:
        partial = self._layout.partial_path(self._staging_id)
        partial.unlink(missing_ok=True)
        partial.hardlink_to(self._source)
        partial.rename(self._layout.object_path(name))

    async def _compressed(self, pool: Pool) -> StoredObject | None:
        """The object as seekable zstd; None if that saves too little after all, or there is no room for it."""
        try:
            async with open_partial(self._layout, self._staging_id, pool) as target:
                writer = seekable.Writer(source=self._descriptor, size_bytes=self._size_bytes, target=target)
                while not writer.done:
                    await pool.run(self._compress_turn, writer)
                return await pool.run(self._finish_compressed, writer, target)
        except StorageFull:
            return None  # a second name needs no room

    def _compress_turn(self, writer: seekable.Writer) -> None:
        with durable.failures_of(self._what):
            writer.turn()

    def _finish_compressed(self, writer: seekable.Writer, target: int) -> StoredObject | None:
        with durable.failures_of(self._what):
            writer.finish(self._digest)
            if os.fstat(target).st_size * seekable.LEAST_RATIO > self._size_bytes:
                return None
        return self._name_partial(target, ZSTD)

    async def _copied(self, pool: Pool) -> StoredObject:
        async with open_partial(self._layout, self._staging_id, pool) as target:
            await copy(self._descriptor, target, size_bytes=self._size_bytes, pool=pool, what=self._what)
            return await pool.run(self._name_partial, target, IDENTITY)

    def _name_partial(self, target: int, encoding: str) -> StoredObject:
        """Turn the finished partial file into the object, replacing a damaged one."""
        name = self._name(encoding)
        with durable.failures_of(self._what):
            os.fchmod(target, durable.SEALED_MODE)
            os.fsync(target)
            self._prepare_name(name)
            self._layout.partial_path(self._staging_id).rename(self._layout.object_path(name))
            self._layout.sync_fan_out(name)
            return describe(target, name)


async def copy(source: int, target: int, *, size_bytes: int, pool: Pool, what: str) -> None:
    """Copy the first bytes of source to the empty target, in turns; may be cancelled between them.

    Raises `Damaged` when the source has fewer bytes.
    """
    position = 0
    while position < size_bytes:
        turn_bytes = min(COPY_TURN_BYTES, size_bytes - position)
        copied = await pool.run(_copy_turn, source, target, position=position, size_bytes=turn_bytes, what=what)
        if copied == 0:
            raise Damaged(f"{what}: the staged file ends after {position} bytes, {size_bytes} were written")
        position += copied


def _copy_turn(source: int, target: int, *, position: int, size_bytes: int, what: str) -> int:
    with durable.failures_of(what):
        return durable.append_copy(source, target, position=position, size_bytes=size_bytes)
