"""Blobs kept compressed at rest: independent zstd frames with a table at the end, so that any span stays cheap.

The file is a valid `.zst` in the published "seekable format" of zstd, version 0.1.0 (contrib/seekable_format in its
sources), so any zstd tool unpacks it: frames of 256 KiB of content each (the last may be shorter), then one skippable
frame with the sizes of all of them. All numbers are little-endian and 32 bits wide:

    frame ... frame | 0x184D2A5E, length of what follows | (compressed size, content size) per frame
                    | number of frames, one byte of flags (0 here), 0x8F92EAB1

A frame is as large as a chunk (256 KiB): a reader never holds more than one, however slow its client is. Frames of
1 MiB would make files 0 to 2 % smaller and cost four times the memory per reader (docs/decisions/0003).

Works on descriptors and blocks, except where it says otherwise; knows nothing of keys, stores or directories.
"""

import os
import struct
import sys
from array import array
from collections.abc import Callable
from typing import Final

import zstandard

from storage.digest import Digest, Hasher
from storage.errors import Damaged, DigestMismatch

FRAME_BYTES: Final = 256 * 1024
# The most that zstd makes of a full frame (ZSTD_COMPRESSBOUND), and its checksum.
_MOST_STORED: Final = FRAME_BYTES + (FRAME_BYTES >> 8) + 64 + 4
# Below this a table and a second file cost more than they save.
LEAST_BYTES: Final = 64 * 1024
# Reading costs ten times the CPU afterwards (docs/decisions/0003), so a blob must shrink by a quarter.
LEAST_RATIO: Final = 1.3
# 512 KiB of a blob of any size: about 1.5 ms. Spread over it, as a tar may begin with text and go on with pictures.
_SAMPLES: Final = 8
_SAMPLE_BYTES: Final = 64 * 1024
# The level with the best ratio per CPU second on tars and JSON (docs/decisions/0003).
_LEVEL: Final = 1
# Content compressed in one turn of a thread: about 25 ms.
_TURN_BYTES: Final = 8 * 1024 * 1024

_SKIPPABLE_MAGIC: Final = 0x184D2A5E
_SEEKABLE_MAGIC: Final = 0x8F92EAB1
_HEADER: Final = struct.Struct("<II")
_FOOTER: Final = struct.Struct("<IBI")
_ENTRY_BYTES: Final = 8
# Frames whose table entries are read at once: 64 KiB, for 2 GiB of content.
_SLICE_FRAMES: Final = 8192

Pread = Callable[[int, int, int], bytes | None]
"""`os.pread` (descriptor, size, offset), or one that gives None instead of waiting for the disk."""


def compressible(descriptor: int, size_bytes: int) -> bool:
    """Whether the bytes are worth compressing, judged by samples from the whole length.

    What is compressed already (gzip and zstd layers, pictures, wheels) or random is not.
    """
    if size_bytes < LEAST_BYTES:
        return False
    step = max(size_bytes - _SAMPLE_BYTES, 0) / (_SAMPLES - 1)
    starts = sorted({round(step * index) for index in range(_SAMPLES)})
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    taken = kept = 0
    for start in starts:
        sample = os.pread(descriptor, _SAMPLE_BYTES, start)
        taken += len(sample)
        kept += len(compressor.compress(sample))
    return taken >= LEAST_RATIO * kept


class Writer:
    """Compresses one file into another, turn by turn. Holds one frame, and 8 bytes per frame for the table.

    `source` is read from 0 to `size_bytes`; `target` must be empty and is appended to. Neither is closed.
    """

    def __init__(self, *, source: int, size_bytes: int, target: int) -> None:
        self._source = source
        self._size_bytes = size_bytes
        self._target = target
        self._position = 0
        self._entries = array("I")
        self._hasher = Hasher()
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)

    @property
    def done(self) -> bool:
        """Whether all content is compressed; then call `finish`."""
        return self._position == self._size_bytes

    def turn(self) -> None:
        """Compress the next 8 MiB at most; raises `Damaged` when the source ends before its size."""
        end = min(self._position + _TURN_BYTES, self._size_bytes)
        while self._position < end:
            content = os.pread(self._source, min(FRAME_BYTES, end - self._position), self._position)
            if len(content) != min(FRAME_BYTES, end - self._position):
                raise Damaged(f"{self._size_bytes} bytes were to be compressed, but they end near {self._position}")
            self._hasher.update(content)
            frame = self._compressor.compress(content)
            _append(self._target, frame)
            self._entries.extend((len(frame), len(content)))
            self._position += len(content)

    def finish(self, digest: Digest) -> None:
        """Append the table; raises `DigestMismatch` if the content that was read is not `digest` (sha256)."""
        actual = self._hasher.digest()
        if actual != digest:
            raise DigestMismatch(claimed=str(digest), actual=str(actual))
        count = len(self._entries) // 2
        _append(self._target, _HEADER.pack(_SKIPPABLE_MAGIC, count * _ENTRY_BYTES + _FOOTER.size))
        _append(self._target, _swapped_if_needed(self._entries).tobytes())
        _append(self._target, _FOOTER.pack(count, 0, _SEEKABLE_MAGIC))


class Frames:
    """Reads one file that `Writer` made, for chunks in ascending order from `start` on.

    Checks the whole table when it is built (which blocks); memory stays at one slice of it, whatever the blob's size.
    The descriptor is not closed. `what` names the object in messages.
    """

    def __init__(self, descriptor: int, what: str, *, start: int = 0) -> None:
        self._descriptor = descriptor
        self._what = what
        self._count, self._table_at = _read_footer(descriptor, what)
        self._slice = array("I")
        self._slice_number = -1
        self._index = start // FRAME_BYTES
        self._frame_at = 0
        self.size_bytes = self._check_table()

    def chunk(self, position: int, stop: int, pread: Pread) -> bytes | None:
        """Bytes from `position` to the end of its frame or to `stop`, whichever comes first; at least one.

        `position` is the `start` given, or where the last chunk ended. None, and nothing moved, if `pread` gave None.
        Decompressing costs about 0.2 ms, so a loop may do it itself. Raises `Damaged` when the frame is not what the
        table says.
        """
        if not self._load_slice(self._index // _SLICE_FRAMES, pread):
            return None
        place = 2 * (self._index % _SLICE_FRAMES)
        stored_bytes, content_bytes = self._slice[place], self._slice[place + 1]
        frame = pread(self._descriptor, stored_bytes, self._frame_at)
        if frame is None:
            return None
        content = self._decompress(frame, stored_bytes=stored_bytes, content_bytes=content_bytes)
        content_at = self._index * FRAME_BYTES
        self._index += 1
        self._frame_at += stored_bytes
        return content[position - content_at : stop - content_at]

    def _decompress(self, frame: bytes, *, stored_bytes: int, content_bytes: int) -> bytes:
        if len(frame) != stored_bytes:
            raise Damaged(f"{self._what}: the file ends within frame {self._index}")
        try:
            # Before decompressing, because zstd allocates what the frame claims.
            if zstandard.frame_content_size(frame) != content_bytes:
                raise Damaged(f"{self._what}: frame {self._index} has another size than the table says")
            return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise Damaged(f"{self._what}: frame {self._index} cannot be decompressed") from error

    def _load_slice(self, number: int, pread: Pread) -> bool:
        if number == self._slice_number:
            return True
        first = number * _SLICE_FRAMES
        size_bytes = min(_SLICE_FRAMES, self._count - first) * _ENTRY_BYTES
        text = pread(self._descriptor, size_bytes, self._table_at + first * _ENTRY_BYTES)
        if text is None:
            return False
        if len(text) != size_bytes:
            raise Damaged(f"{self._what}: the table ends early")
        self._slice, self._slice_number = _swapped_if_needed(array("I", text)), number
        return True

    def _check_table(self) -> int:
        """Check every entry, add up where the first frame lies, and give the content's size."""
        total_bytes = 0
        for number in range(-(-self._count // _SLICE_FRAMES)):
            self._load_slice(number, os.pread)
            stored, content = self._slice[0::2], self._slice[1::2]
            first = number * _SLICE_FRAMES
            full = len(content) - (first + len(content) == self._count)  # the last frame of all may be shorter
            if content[:full].count(FRAME_BYTES) != full or not 1 <= content[-1] <= FRAME_BYTES:
                raise Damaged(f"{self._what}: a frame of impossible size")
            if min(stored) < 1 or max(stored) > _MOST_STORED:
                raise Damaged(f"{self._what}: a frame of impossible size")
            total_bytes += sum(stored)
            self._frame_at += sum(stored[: max(self._index - first, 0)])
        if total_bytes != self._table_at - _HEADER.size:
            raise Damaged(f"{self._what}: the table does not add up to the file's size")
        return (self._count - 1) * FRAME_BYTES + self._slice[-1]


def read_size(descriptor: int, what: str) -> int:
    """The content's size in bytes, from the table; raises `Damaged` for an invalid one."""
    return Frames(descriptor, what).size_bytes


def _read_footer(descriptor: int, what: str) -> tuple[int, int]:
    """Number of frames and the offset of their table."""
    file_bytes = os.fstat(descriptor).st_size
    least_bytes = _HEADER.size + _ENTRY_BYTES + _FOOTER.size
    if file_bytes < least_bytes:
        raise Damaged(f"{what}: too short for a table")
    count, flags, magic = _FOOTER.unpack(_exactly(descriptor, _FOOTER.size, file_bytes - _FOOTER.size, what))
    table_bytes = count * _ENTRY_BYTES + _FOOTER.size
    header_at = file_bytes - table_bytes - _HEADER.size
    if magic != _SEEKABLE_MAGIC or flags != 0 or count == 0 or header_at < 0:
        raise Damaged(f"{what}: no valid table at the end")
    if _HEADER.unpack(_exactly(descriptor, _HEADER.size, header_at, what)) != (_SKIPPABLE_MAGIC, table_bytes):
        raise Damaged(f"{what}: no valid table at the end")
    return count, header_at + _HEADER.size


def _exactly(descriptor: int, size_bytes: int, offset: int, what: str) -> bytes:
    text = os.pread(descriptor, size_bytes, offset)
    if len(text) != size_bytes:
        raise Damaged(f"{what}: the file became shorter")
    return text


def _append(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _swapped_if_needed(entries: "array[int]") -> "array[int]":
    """The entries in the file's byte order, or back; nothing to do on most machines."""
    if sys.byteorder == "little":
        return entries
    swapped = array("I", entries)
    swapped.byteswap()
    return swapped
