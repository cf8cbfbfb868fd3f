"""The last bytes of an upload to a bucket: those that are no part yet, in a file of the spool.

    from the row or the kept file (`load`) -> more bytes (`append`) -> the next part (`take_file`) | settled (`settle`)

What is settled of them stays in the file as well, so that a part or the whole blob can be made of it without reading
anything back. Knows of parts only how large they should be.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from storage.digest import Hasher
from storage.errors import Damaged
from storage.s3.area import Area
from storage.s3.keys import blob_key, segment_key
from storage.s3.parts import part_bytes
from storage.s3.settings import LEAST_PART_BYTES
from storage.s3.staging_state import Segment, StagingState, Whole
from storage.spool import Kept, Spool, SpoolPart
from storage.transfer.payload import FileSpan

ROW_BYTES: Final = 1 << 20
"""Further bytes up to here are settled in a row: clients that send chunks of 1 MiB need no request per chunk."""
# The first bytes of an upload up to here are settled in a row, which saves the request and its time; images have
# configurations and small layers of this size. More becomes an object at once: publishing it costs the marker only.
_FIRST_ROW_BYTES: Final = 256 * 1024
# What may come after a tail was found full: two buffers of the server.
_SLACK_BYTES: Final = 1 << 20
_LARGEST_CHUNK_BYTES: Final = 4 << 20
_HASH_TURN_BYTES: Final = 1 << 20


class Tail:
    """See the module docstring. `start` is the offset of its first byte, `file` None when there is none."""

    def __init__(self, area: Area, spool: Spool) -> None:
        self._area = area
        self._spool = spool
        self._kept = spool.take(area.hold.staging_id, area.hold.version - 1)
        self.file: SpoolPart | None = None
        self.start = 0

    @property
    def kept_hasher(self) -> Hasher | None:
        """The hasher that the last request left on this process."""
        return None if self._kept is None else self._kept.hasher

    def part_bytes(self) -> int:
        """How large the next part should be."""
        return part_bytes(
            self._area.hold.next_number,
            least_bytes=self._area.bucket.settings.part_bytes,
            most_bytes=self._spool.budget_bytes // 2,
        )

    def _capacity(self) -> int:
        """So much that a tail which cannot take the next chunk is large enough for a part."""
        return max(self.part_bytes() + _SLACK_BYTES, LEAST_PART_BYTES + _LARGEST_CHUNK_BYTES)

    @property
    def is_full(self) -> bool:
        """Whether it should become a part before more comes."""
        file = self.file
        return file is None or file.size_bytes >= min(self.part_bytes(), file.capacity_bytes - _SLACK_BYTES)

    def can_take(self, size_bytes: int) -> bool:
        """Whether there is room for so many bytes."""
        return self.file is not None and self.file.size_bytes + size_bytes <= self.file.capacity_bytes

    # --- the file -----------------------------------------------------------------------------------------------

    async def open(self, start: int, stop: int) -> None:
        """Have a file with the settled bytes from `start` to `stop`: the one that was kept, or read from their places.

        Waits for room in the spool.
        """
        self.start = start
        kept = self._take_kept()
        if kept is not None and stop > start and kept.size_bytes == stop - start:
            self.file = kept
            return
        if kept is not None:
            kept.close()
        wanted = max(self._capacity(), stop - start + _LARGEST_CHUNK_BYTES)
        file = await self._spool.part(max(self._capacity(), min(wanted, self._spool.budget_bytes)))
        try:
            if stop > start:
                await self._read_settled(file, stop - start)
        except BaseException:
            file.close()
            raise
        self.file = file

    def _take_kept(self) -> SpoolPart | None:
        kept, self._kept = self._kept, None
        return None if kept is None else kept.part

    async def _read_settled(self, file: SpoolPart, size_bytes: int) -> None:
        async def take(chunk: bytes) -> None:
            await self._spool.run(file.write, (chunk,))

        state = self._area.state
        if state.whole is not None:
            await self._area.download(blob_key(state.whole.object_id), state.whole.size_bytes, take)
        in_rows = any(segment.key is None for segment in state.segments)
        rows = await self._area.stagings.contents(self._area.hold.staging_id) if in_rows else {}
        for segment in state.segments:
            if segment.key is not None:
                await self._area.download(segment.key, segment.size_bytes, take)
            elif len(rows.get(segment.start, b"")) == segment.size_bytes:
                await take(rows[segment.start])
            else:
                raise Damaged(f"{self._area.what} lacks bytes from {segment.start} on")
        if file.size_bytes != size_bytes:
            raise Damaged(f"{self._area.what} has {file.size_bytes} bytes behind {self.start}, not {size_bytes}")

    def append(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Take more bytes, in a thread; ValueError if there is no file, or no room in it."""
        if self.file is None:
            raise ValueError(f"{self._area.what} was settled or is full: ask for another writer, or for room")
        self.file.write(parts)

    async def hash_into(self, hasher: Hasher) -> None:
        """Feed all bytes of the file to the hasher."""
        file = self.file
        for start in range(0, file.size_bytes if file is not None else 0, _HASH_TURN_BYTES):
            if file is not None:
                stop = min(start + _HASH_TURN_BYTES, file.size_bytes)
                hasher.update(await self._spool.run(file.read, start, stop))

    def take_file(self) -> SpoolPart | None:
        """Give the file away."""
        file, self.file = self.file, None
        return file

    def drop(self) -> None:
        """Close the file."""
        if (file := self.take_file()) is not None:
            file.close()

    def give_back(self, *, size_bytes: int | None, hasher: Hasher | None) -> None:
        """At the end of the hold: keep what the next request can use, `size_bytes` being settled. None: nothing is."""
        file = self.take_file() or self._take_kept()
        if file is not None and (size_bytes is None or not size_bytes or file.size_bytes != size_bytes):
            file.close()
            file = None
        if size_bytes is not None:
            self._spool.keep(self._area.hold.staging_id, Kept(self._area.hold.version, file, hasher))

    # --- settling -----------------------------------------------------------------------------------------------

    async def settle(self, offset: int) -> dict[int, bytes]:
        """Put what is not durable yet, up to `offset`, into an object, or give it for rows, by start.

        The area's state tells of it then. It is the caller who saves it, or takes it back.
        """
        state, file = self._area.state, self.file
        new_bytes = offset - state.size_bytes
        if file is None or not new_bytes:
            return {}
        if state.size_bytes == 0 and new_bytes > _FIRST_ROW_BYTES and self._may_use_token():
            await self._settle_whole(file, new_bytes)
            return {}
        if new_bytes > ROW_BYTES:
            await self._settle_object(file, offset)
            return {}
        return await self._settle_rows(file, offset)

    def _may_use_token(self) -> bool:
        area = self._area
        return blob_key(area.hold.token) not in {*area.used, *area.state.litter, *area.saved.litter}

    async def _settle_whole(self, file: SpoolPart, size_bytes: int) -> None:
        """It may be the whole blob: then nothing is left to be written."""
        area = self._area
        key = blob_key(area.hold.token)
        area.used.add(key)
        await area.bucket.put(key, FileSpan(file.descriptor, 0, size_bytes))
        area.state = replace(area.state, whole=Whole(area.hold.token, size_bytes, size_bytes), hash_state=None)

    async def _settle_object(self, file: SpoolPart, offset: int) -> None:
        area = self._area
        start = area.state.size_bytes
        key = segment_key(area.hold.staging_id, start)
        area.used.add(key)
        await area.bucket.put(key, FileSpan(file.descriptor, start - self.start, offset - self.start))
        segment = Segment(start, offset - start, key)
        area.state = replace(area.state, segments=(*area.state.segments, segment), hash_state=None)

    async def _settle_rows(self, file: SpoolPart, offset: int) -> dict[int, bytes]:
        area, added = self._area, {}
        state = area.state
        if (first := _first_row(state)) is not None:
            added[0] = await self._spool.run(file.read, 0, first.size_bytes)
            state = state.without(replace(state, whole=None, segments=(first, *state.segments)))
        segments, start = merged(state.segments, state.size_bytes, offset)
        added[start] = await self._spool.run(file.read, start - self.start, offset - self.start)
        area.state = replace(state, segments=(*segments, Segment(start, offset - start)), hash_state=None)
        return added


def _first_row(state: StagingState) -> Segment | None:
    """What takes the place of a small object that turned out not to be the whole blob: all is in one place then."""
    whole = state.whole
    if whole is None or whole.is_published or whole.size_bytes > ROW_BYTES:
        return None
    return Segment(0, whole.size_bytes)


def merged(segments: tuple[Segment, ...], start: int, stop: int) -> tuple[tuple[Segment, ...], int]:
    """The segments to keep, and where a new row of the bytes from `start` to `stop` begins.

    It swallows rows before it that are no longer than it is. So an upload in chunks of one byte has some twenty rows,
    and each byte is written as often at most.
    """
    while segments:
        last = segments[-1]
        if last.key is not None or last.size_bytes > stop - start or stop - last.start > ROW_BYTES:
            break
        segments, start = segments[:-1], last.start
    return segments, start
