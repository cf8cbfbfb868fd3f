"""Seekable zstd: any span of any content, tables that lie, and that other tools can unpack it."""

import hashlib
import io
import itertools
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.digest import Digest
from storage.errors import Damaged, DigestMismatch
from storage.seekable import FRAME_BYTES, LEAST_BYTES, Frames, Writer, compressible, read_size

WORDS = b"layer manifest index config blob digest descriptor referrer subject mount session "


def text(size_bytes: int, *, seed: int = 0) -> bytes:
    """Bytes that compress well and repeat nowhere in step with frames."""
    words = random.Random(seed).choices(WORDS.split(), k=size_bytes // 4 + 1)
    return b" ".join(words)[:size_bytes]


@contextmanager
def file_with(content: bytes) -> Iterator[int]:
    """The descriptor of a file in memory."""
    descriptor = os.memfd_create("seekable")
    try:
        os.pwrite(descriptor, content, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def compress(content: bytes) -> bytes:
    """The file that `Writer` makes."""
    with file_with(content) as source, file_with(b"") as target:
        writer = Writer(source=source, size_bytes=len(content), target=target)
        while not writer.done:
            writer.turn()
        writer.finish(Digest.of(content))
        return os.pread(target, os.fstat(target).st_size, 0)


def span_of(stored: bytes, start: int, stop: int) -> bytes:
    """The span, read chunk by chunk."""
    with file_with(stored) as descriptor:
        frames = Frames(descriptor, "object", start=start)
        content = b""
        while start + len(content) < stop:
            chunk = frames.chunk(start + len(content), stop, os.pread)
            assert chunk is not None
            assert 1 <= len(chunk) <= FRAME_BYTES
            content += chunk
        return content


CONTENT = text(3 * FRAME_BYTES + 12345)
STORED = compress(CONTENT)
TABLE_BYTES = 8 + 4 * 8 + 9
EDGES = sorted({0, 1, len(CONTENT) - 1, len(CONTENT)} | {n * FRAME_BYTES + d for n in (1, 2, 3) for d in (-1, 0, 1)})


@given(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT))).map(sorted))
def test_any_span_is_that_of_the_bytes(span: list[int]) -> None:
    """A span of the compressed file is the same span of the plain bytes."""
    start, stop = span
    assert span_of(STORED, start, stop) == CONTENT[start:stop]


@pytest.mark.parametrize(("start", "stop"), list(itertools.combinations(EDGES, 2)))
def test_spans_at_the_edges_of_frames(start: int, stop: int) -> None:
    """Nothing is lost or doubled where frames meet."""
    assert span_of(STORED, start, stop) == CONTENT[start:stop]


@pytest.mark.parametrize("size_bytes", [1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES])
def test_sizes(size_bytes: int) -> None:
    """A full last frame, a last frame of one byte and a single frame are all fine."""
    content = text(size_bytes, seed=size_bytes)
    stored = compress(content)
    assert span_of(stored, 0, size_bytes) == content
    with file_with(stored) as descriptor:
        assert read_size(descriptor, "object") == size_bytes


@pytest.mark.slow
def test_more_frames_than_one_slice_of_the_table() -> None:
    """Blobs beyond 2 GiB need more than one slice of the table; the span is found in any of them."""
    frame = zstandard.ZstdCompressor().compress(bytes(FRAME_BYTES))
    last = zstandard.ZstdCompressor().compress(b"the end")
    count = 8192 + 3
    entries = struct.pack("<II", len(frame), FRAME_BYTES) * count + struct.pack("<II", len(last), 7)
    header = struct.pack("<II", 0x184D2A5E, len(entries) + 9)
    stored = frame * count + last + header + entries + struct.pack("<IBI", count + 1, 0, 0x8F92EAB1)
    size_bytes = count * FRAME_BYTES + 7
    assert span_of(stored, size_bytes - 9, size_bytes) == b"\0\0the end"
    middle = 8192 * FRAME_BYTES
    assert span_of(stored, middle - 2, middle + 2) == bytes(4)
    assert span_of(stored, 5, 6) == b"\0"
    with file_with(stored) as descriptor:
        frames = Frames(descriptor, "object")
        assert frames.chunk(0, 10, lambda *_: None) is None
        with pytest.raises(Damaged, match="table ends early"):
            frames.chunk(0, 10, lambda *_: b"")
        assert frames.chunk(0, 10, os.pread) == bytes(10)


def test_only_the_needed_frames_are_read() -> None:
    """A span within one frame reads that frame and the table, nothing else."""
    asked = []

    def pread(descriptor: int, size_bytes: int, offset: int) -> bytes:
        asked.append(offset)
        return os.pread(descriptor, size_bytes, offset)

    with file_with(STORED) as descriptor:
        frames = Frames(descriptor, "object", start=2 * FRAME_BYTES + 10)
        assert frames.chunk(2 * FRAME_BYTES + 10, 2 * FRAME_BYTES + 20, pread) == CONTENT[2 * FRAME_BYTES + 10 :][:10]
    assert len(asked) == 1


def test_reading_without_waiting() -> None:
    """Where the bytes are not at hand, None is given and nothing has moved, so that a thread can go on."""
    with file_with(STORED) as descriptor:
        frames = Frames(descriptor, "object")
        assert frames.chunk(0, 10, lambda *_: None) is None
        assert frames.chunk(0, 10, os.pread) == CONTENT[:10]


def test_file_cut_after_its_table_was_read() -> None:
    """A frame of which fewer bytes come than asked is damage."""

    def less(descriptor: int, size_bytes: int, offset: int) -> bytes:
        return os.pread(descriptor, size_bytes - 1, offset)

    with file_with(STORED) as descriptor:
        frames = Frames(descriptor, "object")
        with pytest.raises(Damaged, match="within frame 0"):
            frames.chunk(0, 10, less)


def test_file_cut_while_its_table_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that becomes shorter between asking for its size and reading its end is damage."""
    with file_with(STORED) as descriptor:
        monkeypatch.setattr(os, "pread", lambda *_: b"")
        with pytest.raises(Damaged, match="became shorter"):
            Frames(descriptor, "object")


def test_byte_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of the other byte order the table is turned around on the way out and on the way in."""
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    turned = compress(CONTENT)
    first = len(STORED) - TABLE_BYTES + 8
    assert struct.unpack("<II", turned[first : first + 8]) == struct.unpack(">II", STORED[first : first + 8])
    assert span_of(turned, 0, len(CONTENT)) == CONTENT


# --- other tools ----------------------------------------------------------------------------------------------------


def test_library_unpacks_it() -> None:
    """Any zstd decoder that reads across frames gives the content, and skips the table."""
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(STORED), read_across_frames=True)
    assert reader.read() == CONTENT


def test_zstd_tool_unpacks_it() -> None:
    """The operator's `zstd -d` gives the content."""
    tool = shutil.which("zstd")
    if tool is None:
        pytest.skip("zstd is not installed (Debian package zstd)")
    done = subprocess.run([tool, "-d", "-c"], input=STORED, capture_output=True, check=True, timeout=20)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(CONTENT).digest()


def test_table_is_the_published_format() -> None:
    """The last frame is skippable, lists all frames with their sizes, and ends in the seekable magic."""
    table = STORED[-TABLE_BYTES:]
    assert struct.unpack("<II", table[:8]) == (0x184D2A5E, TABLE_BYTES - 8)
    assert struct.unpack("<IBI", table[-9:]) == (4, 0, 0x8F92EAB1)
    entries = list(struct.iter_unpack("<II", table[8:-9]))
    assert [content_bytes for _, content_bytes in entries] == [FRAME_BYTES] * 3 + [12345]
    assert sum(stored_bytes for stored_bytes, _ in entries) == len(STORED) - TABLE_BYTES


# --- writing --------------------------------------------------------------------------------------------------------


def test_turns_are_bounded() -> None:
    """A turn compresses 8 MiB at most, so that a thread is given back in between."""
    size_bytes = (8 << 20) + 1
    with file_with(bytes(size_bytes)) as source, file_with(b"") as target:
        writer = Writer(source=source, size_bytes=size_bytes, target=target)
        writer.turn()
        assert not writer.done
        writer.turn()
        assert writer.done


def test_wrong_digest_is_noticed() -> None:
    """Bytes that are not what the caller says are not finished."""
    with file_with(CONTENT) as source, file_with(b"") as target:
        writer = Writer(source=source, size_bytes=len(CONTENT), target=target)
        writer.turn()
        with pytest.raises(DigestMismatch):
            writer.finish(Digest.of(b"something else"))


def test_source_that_ends_early() -> None:
    """A source with fewer bytes than it should have is damaged."""
    with file_with(CONTENT) as source, file_with(b"") as target:
        writer = Writer(source=source, size_bytes=len(CONTENT) + 1, target=target)
        with pytest.raises(Damaged, match="end near"):
            writer.turn()


# --- what is worth it -----------------------------------------------------------------------------------------------


def _noise(size_bytes: int) -> bytes:
    return random.Random(7).randbytes(size_bytes)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (text(1 << 20), True),
        (text(LEAST_BYTES), True),
        (text(LEAST_BYTES - 1), False),
        (b"", False),
        (_noise(1 << 20), False),
        (zstandard.ZstdCompressor().compress(text(8 << 20)), False),
        (text(64 << 10) + _noise(4 << 20), False),
        (_noise(64 << 10) + text(4 << 20), True),
    ],
    ids=["text", "least", "short", "empty", "noise", "zstd", "text-first", "noise-first"],
)
def test_sampling(content: bytes, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """Content is judged by its whole length; what is small or compressed already is left alone."""
    with file_with(content) as descriptor:
        assert compressible(descriptor, len(content)) is expected


# --- damage ---------------------------------------------------------------------------------------------------------


def _with_footer(*, count: int = 4, flags: int = 0, magic: int = 0x8F92EAB1) -> bytes:
    return STORED[:-9] + struct.pack("<IBI", count, flags, magic)


def _with_entry(index: int, *, stored: int | None = None, content: int | None = None) -> bytes:
    at = len(STORED) - 9 - (4 - index) * 8
    old = struct.unpack("<II", STORED[at : at + 8])
    new = (old[0] if stored is None else stored, old[1] if content is None else content)
    return STORED[:at] + struct.pack("<II", *new) + STORED[at + 8 :]


LYING_TABLES = {
    "empty": b"",
    "zeros": b"\0" * 9,
    "more zeros": b"\0" * 25,
    "end cut": STORED[:-1],
    "end grown": STORED + b"\0",
    "start cut": STORED[1:],
    "start grown": b"\0" + STORED,
    "first kilobyte": STORED[:1000],
    "no table": STORED[:-TABLE_BYTES],
    "plain": CONTENT,
    "no frames": _with_footer(count=0),
    "one frame less": _with_footer(count=3),
    "one frame more": _with_footer(count=5),
    "too many frames": _with_footer(count=0xFFFFFFFF),
    "flags": _with_footer(flags=0x80),
    "magic": _with_footer(magic=0x8F92EAB0),
    "frame of nothing": _with_entry(0, stored=0),
    "smaller frame": _with_entry(0, stored=1),
    "larger frame": _with_entry(0, stored=FRAME_BYTES),
    "impossible frame": _with_entry(0, stored=0xFFFFFFFF),
    "no content": _with_entry(0, content=0),
    "less content": _with_entry(0, content=FRAME_BYTES - 1),
    "more content": _with_entry(0, content=FRAME_BYTES + 1),
    "no last content": _with_entry(3, content=0),
    "much last content": _with_entry(3, content=FRAME_BYTES + 1),
    "most last content": _with_entry(3, content=0xFFFFFFFF),
}


@pytest.mark.parametrize("first_bytes", [0, 2 * FRAME_BYTES - 1])
def test_frame_of_impossible_size_in_a_table_that_adds_up(first_bytes: int) -> None:
    """A frame of nothing, or one that no content can make, is refused before memory is taken for it."""
    frames = bytes(2 * FRAME_BYTES)
    entries = struct.pack("<IIII", first_bytes, FRAME_BYTES, len(frames) - first_bytes, 1)
    stored = frames + struct.pack("<II", 0x184D2A5E, 16 + 9) + entries + struct.pack("<IBI", 2, 0, 0x8F92EAB1)
    with file_with(stored) as descriptor, pytest.raises(Damaged, match="impossible size"):
        Frames(descriptor, "object")


@pytest.mark.parametrize("stored", LYING_TABLES.values(), ids=LYING_TABLES)
def test_table_that_lies(stored: bytes) -> None:
    """A table that is missing, cut, too large or does not add up is damage, seen before anything is read."""
    with file_with(stored) as descriptor, pytest.raises(Damaged, match="object"):
        Frames(descriptor, "object")


@pytest.mark.parametrize(
    "stored",
    [
        _with_entry(3, content=12344),
        _with_entry(3, content=12346),
        STORED[:100] + bytes([STORED[100] ^ 1]) + STORED[101:],
        b"\0\0\0\0" + STORED[4:],
    ],
    ids=["shorter", "longer", "flipped", "no-frame"],
)
def test_frame_that_is_not_what_the_table_says(stored: bytes) -> None:
    """A frame of another size, with a flipped bit or without its magic is damage when it is read."""
    with pytest.raises(Damaged):
        span_of(stored, 0, len(CONTENT))


def test_frame_that_claims_to_be_huge() -> None:
    """A frame that claims gigabytes is refused before any memory is taken for it."""
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 28))
    entries = struct.pack("<II", len(bomb), 5)
    stored = bomb + struct.pack("<II", 0x184D2A5E, 8 + 9) + entries + struct.pack("<IBI", 1, 0, 0x8F92EAB1)
    with pytest.raises(Damaged, match="another size"):
        span_of(stored, 0, 5)


@settings(max_examples=200)
@given(st.integers(0, len(STORED) - 1), st.integers(1, 255))
@example(len(STORED) - 1, 1)
def test_no_flipped_byte_gives_wrong_content(position: int, change: int) -> None:
    """Whatever single byte changes, the right content is given or damage is raised."""
    stored = bytearray(STORED)
    stored[position] ^= change
    try:
        content = span_of(bytes(stored), 0, len(CONTENT))
    except Damaged:
        return
    assert content == CONTENT
