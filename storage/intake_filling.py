"""Chunks from a source into a growing file, hashed on the way: one turn of a thread per mebibyte does both.

Measured (docs/decisions/0014-hot-set.md): a turn costs 0.06 to 0.2 ms, sha256 of 256 KiB 0.13 ms, so chunks are
gathered. Not the first one, though, nor those of a source that is slow: readers wait for at most one batch, and for
nothing that came a moment before the next chunk.
"""

from collections.abc import Callable
from typing import Final

import trio

from storage import durable
from storage.digest import Hasher
from storage.errors import StorageError, Unavailable
from storage.file_hashing import hash_turn
from storage.hotset_files import Entry, GrowingFile
from storage.intake_area import Area

BATCH_BYTES: Final = 1024 * 1024
"""A cold pull from a bucket cost 2.0 CPU s/GiB with 512 KiB, 1.75 with this, 1.65 with 2 MiB; a fill holds so much."""
_MOMENT_S: Final = 0.02


class Homeless(Exception):
    """The local disk does not take the bytes: it is full, or in trouble. The source is not to blame."""


class Filling:
    """One fill of one growing file, which is ours. `advance` is told how many bytes are in it."""

    def __init__(self, area: Area, growing: GrowingFile, entry: Entry, *, advance: Callable[[int], object]) -> None:
        self._area = area
        self._growing = growing
        self._entry = entry
        self._advance = advance
        self._hasher = Hasher(entry.digest.algorithm)
        self._parts: list[bytes] = []
        self._gathered_bytes = 0
        self._written_at = -1.0
        self._is_right: bool | None = None
        self.written_bytes = 0

    async def adopt(self, size_bytes: int) -> None:
        """Hash what another filler left, up to there; raises `Homeless`."""
        while self._hasher.size_bytes < size_bytes:
            try:
                await self._area.pool.run(self._hash_turn, size_bytes)
            except StorageError as error:
                raise Homeless(str(error)) from error
        self.written_bytes = size_bytes

    def _hash_turn(self, stop: int) -> None:
        with durable.failures_of("growing file"):
            if not hash_turn(self._growing.descriptor, self._hasher, stop):
                raise Unavailable("a growing file became shorter")

    async def put(self, chunk: bytes) -> None:
        """Take a chunk; it is in the file after the next few. Raises `Homeless`."""
        self._parts.append(chunk)
        self._gathered_bytes += len(chunk)
        if self._gathered_bytes >= BATCH_BYTES or trio.current_time() >= self._written_at + _MOMENT_S:
            await self.flush()
            self._written_at = trio.current_time()

    async def end(self) -> bool:
        """Write the rest; whether size and digest are right; the file says so to everybody then. Raises `Homeless`."""
        if self._is_right is None:
            await self.flush()
        return self._is_right is True

    async def flush(self) -> None:
        """Write what was gathered. Raises `Homeless`."""
        parts, self._parts, self._gathered_bytes = self._parts, [], 0
        try:
            await self._area.pool.run(self._write, parts)
        except StorageError as error:
            raise Homeless(str(error)) from error
        self._advance(self.written_bytes)

    def _write(self, parts: list[bytes]) -> None:
        if parts:
            self._area.append(self._growing, parts, self.written_bytes)
        for part in parts:
            self._hasher.update(part)
        self.written_bytes = self._hasher.size_bytes
        if self.written_bytes == self._entry.size_bytes:
            self._is_right = self._hasher.digest() == self._entry.digest
            if self._is_right:
                self._area.mark_verified(self._growing)
