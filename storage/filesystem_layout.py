"""Where things lie inside the directory of a filesystem store, and what their names say.

The format is a document: docs/storage-format.md. Everything that turns a key or a staging id into a path is here, and
only what matches the two grammars becomes one, so nothing from outside can name a file beyond the root.
"""

import os
import re
import stat
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from storage import durable, seekable
from storage.blobstore import StoredObject, check_staging_id
from storage.digest import CANONICAL, Digest
from storage.errors import BlobUnknown, Damaged, StorageError, Unavailable, UploadUnknown

IDENTITY: Final = "identity"
ZSTD: Final = "zstd"
_SUFFIXES: Final = {IDENTITY: "", ZSTD: ".zst"}
_KEY: Final = re.compile(
    r"blobs/sha256/(?P<a>[0-9a-f]{2})/(?P<b>[0-9a-f]{2})/"
    r"(?P<hex>(?P=a)(?P=b)[0-9a-f]{60})\.(?P<staging_id>[0-9a-z-]{1,64})(?P<suffix>\.zst)?"
)


@dataclass(frozen=True, slots=True)
class ObjectName:
    """What a key says: the blob's sha256, the staging area that it was published from, how it is encoded."""

    digest: Digest
    staging_id: str
    encoding: str

    @classmethod
    def parse(cls, key: str) -> Self:
        """Read a key; one that no publish can have made raises `BlobUnknown`, as there is no such object."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise BlobUnknown(f"no object can have the key {key[:200]!r}")
        encoding = ZSTD if match["suffix"] else IDENTITY
        return cls(Digest(CANONICAL, match["hex"]), match["staging_id"], encoding)

    @property
    def key(self) -> str:
        """The path of the object below the root, with slashes."""
        value = self.digest.hex
        return f"blobs/sha256/{value[:2]}/{value[2:4]}/{self.file_name}"

    @property
    def file_name(self) -> str:
        """The last part of the key; unique in the whole store."""
        return f"{self.digest.hex}.{self.staging_id}{_SUFFIXES[self.encoding]}"


class Layout:
    """The directories of one store. Methods that touch the disk block and raise OSError unless they say otherwise."""

    def __init__(self, root: Path) -> None:
        self.root: Final = root.absolute()
        self.objects: Final = self.root / "blobs" / "sha256"
        self.partials: Final = self.root / "blobs" / "partial"
        self.staging: Final = self.root / "staging"
        self.quarantine: Final = self.root / "quarantine"
        self.marker: Final = self.root / "storage-id"
        # Fan-out directories whose own names this process has seen to disk. It is not enough that one exists: another
        # process may have made it a moment ago and not synced it yet. At most 65,792 paths.
        self._durable: Final[set[Path]] = set()

    def create(self) -> None:
        """Make the directories, durably; repeating it is fine."""
        for directory in (self.objects, self.partials, self.staging, self.quarantine):
            durable.make_directories(directory)

    def mark(self) -> None:
        """Make the file that tells this directory from the empty mount point of a lost volume, durably, once."""
        try:
            descriptor = os.open(
                self.marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.NEW_FILE_MODE
            )
        except FileExistsError:
            return
        try:
            durable.write_all(descriptor, [f"{uuid.uuid4()}\n".encode("ascii")], 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        durable.sync_directory(self.root)

    def is_blank(self) -> bool:
        """Whether the directory shows no sign that a store was ever here: no marker, no object."""
        if self.marker.exists():
            return False
        try:
            with os.scandir(self.objects) as entries:
                return next(entries, None) is None
        except FileNotFoundError:
            return True

    def object_path(self, name: ObjectName) -> Path:
        """Where the object lies."""
        return self.root / name.key

    def quarantine_path(self, name: ObjectName) -> Path:
        """Where the object lies after it was put aside."""
        return self.quarantine / name.file_name

    def staging_path(self, staging_id: str) -> Path:
        """The file that is the staging area; ValueError for a malformed id, as in the next two."""
        return self.staging / check_staging_id(staging_id)

    def note_path(self, staging_id: str) -> Path:
        """A small file with the key that was published from a staging area; no staging id has a dot."""
        return self.staging / f"{check_staging_id(staging_id)}.key"

    def partial_path(self, staging_id: str) -> Path:
        """Where the holder of a staging area, and nobody else, builds a file before it gets its real name."""
        return self.partials / check_staging_id(staging_id)

    def make_fan_out(self, name: ObjectName) -> None:
        """Make the two directories above the object; durable when it returns."""
        second = self.object_path(name).parent
        first = second.parent
        for directory in (first, second):
            if durable.make_directory(directory) or directory not in self._durable:
                durable.sync_directory(directory.parent)
                self._durable.add(directory)

    def sync_fan_out(self, name: ObjectName) -> None:
        """Make the object's name (or its absence) durable."""
        durable.sync_directory(self.object_path(name).parent)

    def absent_object(self, key: str) -> StorageError:
        """What "no such file" means for an object: a disk that is not mounted must never look like an empty store."""
        if self.objects.is_dir():
            return BlobUnknown(f"no object {key}")
        return Unavailable(f"object {key}: the store's directories are missing (not mounted, or not prepared)")

    def absent_staging(self, staging_id: str) -> StorageError:
        """The same for a staging area."""
        if self.staging.is_dir():
            return UploadUnknown(f"no staging area {staging_id}")
        return Unavailable(
            f"staging area {staging_id}: the store's directories are missing (not mounted, or not prepared)"
        )

    def look(self, name: ObjectName) -> StoredObject:
        """Describe the object, from the size table if it is compressed.

        Raises FileNotFoundError, and `Damaged` for what is no regular file or has no valid table.
        """
        descriptor = open_object(self.object_path(name), name)
        try:
            return describe(descriptor, name)
        finally:
            os.close(descriptor)

    def walk(self) -> Generator[StoredObject, None, None]:
        """Every object; what goes away meanwhile is left out, what is not ours is passed over.

        A compressed object without a valid table is listed with `size_bytes` 0. Any trouble of the disk raises: an
        incomplete walk must not look like a complete one.
        """
        for first in _names(self.objects, required=True):
            for second in _names(self.objects / first):
                prefix = f"blobs/sha256/{first}/{second}"
                for file_name in _names(self.root / prefix):
                    stored = self.look_anyhow(f"{prefix}/{file_name}")
                    if stored is not None:
                        yield stored

    def look_anyhow(self, key: str) -> StoredObject | None:
        """Describe what lies under the key: None if it is gone or no key of ours, `size_bytes` 0 if it is damaged."""
        try:
            name = ObjectName.parse(key)
            try:
                return self.look(name)
            except Damaged:
                status = self.object_path(name).lstat()
                return StoredObject(key, name.digest, 0, status.st_size, name.encoding, int(status.st_mtime))
        except (BlobUnknown, FileNotFoundError):
            return None

    def walk_staging(self) -> Generator[tuple[str, int], None, None]:
        """Every staging area with its last change in Unix seconds."""
        for name in _names(self.staging, required=True):
            try:
                status = self.staging_path(name).lstat()
            except (ValueError, FileNotFoundError):  # a note of a key, or gone meanwhile
                continue
            yield name, int(status.st_mtime)


def open_object(path: Path, name: ObjectName) -> int:
    """Open a regular file for reading, never through a symbolic link and never waiting on a pipe.

    Raises FileNotFoundError; `Damaged` for anything that is there but no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        if stat.S_ISREG(path.lstat().st_mode):
            raise
        raise Damaged(f"object {name.key} is no regular file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged(f"object {name.key} is no regular file")
    return descriptor


def describe(descriptor: int, name: ObjectName) -> StoredObject:
    """What lies in the open file; raises `Damaged` for a compressed one without a valid table."""
    status = os.fstat(descriptor)
    size_bytes = status.st_size
    if name.encoding == ZSTD:
        size_bytes = seekable.read_size(descriptor, name.key)
    return StoredObject(name.key, name.digest, size_bytes, status.st_size, name.encoding, int(status.st_mtime))


def _names(directory: Path, *, required: bool = False) -> Iterator[str]:
    """The names in a directory; one that is gone (or is no directory) has none, unless it is required."""
    try:
        entries = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise
        return
    with entries:
        for entry in entries:
            yield entry.name
