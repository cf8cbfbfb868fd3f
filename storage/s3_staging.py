"""Staging areas in a bucket: bytes pass a local file, leave as parts while more come, and are settled in rows.

    write -> tail (a file of the spool) -> full: a part of a multipart upload | settle: a row, or an object
    publish: the parts completed, or the tail as one object; and the marker

What comes in is hashed and spooled by worker threads (`writer`), so that it can be sent again after a failure and no
byte is read back from the bucket in normal flow. `settle` makes everything durable in one transaction and lets go of
the area, so that the next request may come to any replica; the tail's file is kept for the case that it comes here.
What is durable is the business of `s3_area`; this file knows what is not yet.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

import trio

from storage.blobstore import BlockingWriter, StoredObject, check_staging_id
from storage.digest import CANONICAL, Digest, Hasher
from storage.errors import Damaged, StorageError, UploadUnknown
from storage.s3_area import Area
from storage.s3_bucket import Bucket
from storage.s3_keys import ObjectName, blob_key, segment_key
from storage.s3_parts import PartSender, part_bytes
from storage.s3_settings import LEAST_PART_BYTES
from storage.s3_staging_state import Segment, Whole, text_of
from storage.s3_stagings import Stagings
from storage.s3_together import hosted, together
from storage.spool import Kept, Spool, SpoolPart
from storage.transfer.payload import FileSpan, Stream

# The first bytes of an upload up to here are settled in a row, which saves the request and its time; images have
# configurations and small layers of this size. More becomes an object at once: publishing it costs the marker only.
_FIRST_ROW_BYTES: Final = 256 * 1024
# Further bytes up to here: clients that send chunks of 1 MiB need no request per chunk.
_ROW_BYTES: Final = 1 << 20
# What may come after a part was found full: two buffers of the server, and the largest chunk of `write`.
_SLACK_BYTES: Final = 1 << 20
_LARGEST_CHUNK_BYTES: Final = 4 << 20
_LARGEST_PUT_BYTES: Final = 5 << 30
_HASH_TURN_BYTES: Final = 1 << 20
# A request that ends, however it does, settles what came and lets go.
_CLOSE_DEADLINE_S: Final = 10.0


@asynccontextmanager
async def hold(
    bucket: Bucket, stagings: Stagings, spool: Spool, staging_id: str, *, create: bool
) -> AsyncIterator["S3Staging"]:
    """Hold an area; see `blobstore.BlobStore.stage`. On leaving, what came is settled if the store answers in time."""
    held, state = await stagings.take(check_staging_id(staging_id), create=create)
    area = Area(bucket, stagings, held, state, saved=state)
    staging: S3Staging | None = None
    try:
        async with hosted() as nursery:
            nursery.start_soon(area.keep_held)
            staging = S3Staging(area, spool, PartSender(bucket, nursery, bucket.settings.parts_in_flight))
            try:
                await staging.open()
                yield staging
            finally:
                with trio.move_on_after(_CLOSE_DEADLINE_S, shield=True):
                    await staging.close()
    finally:
        if staging is not None:
            staging.give_back()


class S3Staging:
    """A held staging area; see `blobstore.Staging`."""

    def __init__(self, area: Area, spool: Spool, sender: PartSender) -> None:
        self._area = area
        self._spool = spool
        self._sender = sender
        self._offset = area.state.size_bytes
        self._tail: SpoolPart | None = None
        self._tail_start = 0
        self._running: Hasher | None = None
        self._kept: Kept | None = spool.take(area.hold.staging_id, area.hold.version - 1)
        self._is_dropped = self._is_closed = False
        sender.aim(area.state.object_id, area.state.upload_id)

    @property
    def staging_id(self) -> str:
        """The id that the caller made."""
        return self._area.hold.staging_id

    @property
    def offset(self) -> int:
        """Number of bytes held."""
        return self._offset

    async def open(self) -> None:
        """Find out how far a former holder came; before anything else."""
        try:
            await self._area.resolve()
        finally:
            self._offset = self._area.state.size_bytes

    # --- bytes --------------------------------------------------------------------------------------------------

    async def write(self, chunk: bytes | bytearray | memoryview, hasher: Hasher) -> None:
        """See `blobstore.Staging.write`."""
        tail = await self._open_tail()
        if tail.size_bytes + memoryview(chunk).nbytes > tail.capacity_bytes:
            await self._send_tail()
            await self._open_tail()
        await self._spool.run(self.append, (chunk,), hasher)

    async def writer(self, hasher: Hasher) -> BlockingWriter:
        """See `blobstore.Staging.writer`."""
        await self._open_tail()
        return _Writer(self, hasher)

    @property
    def is_full(self) -> bool:
        """For `writer`: whether the tail is large enough for a part."""
        tail = self._tail
        return tail is None or tail.size_bytes >= min(self._part_bytes(), tail.capacity_bytes - _SLACK_BYTES)

    async def room(self) -> None:
        """For `writer`: send the tail, wait for a new one."""
        if self._tail is not None and self.is_full:
            await self._send_tail()
        await self._open_tail()

    def append(self, parts: Sequence[bytes | bytearray | memoryview], hasher: Hasher) -> None:
        """For `write` and `writer`, in a thread."""
        self._check()
        if self._tail is None or not self._area.is_held:
            raise ValueError(f"{self._area.what} was settled or is full: ask for another writer, or for room")
        self._tail.write(parts)
        for part in parts:
            hasher.update(part)
        self._offset = self._tail_start + self._tail.size_bytes
        self._running = hasher

    def hasher(self) -> Hasher | None:
        """See `blobstore.Staging.hasher`."""
        if self._offset == 0:
            return Hasher.portable()
        kept = self._kept.hasher if self._kept is not None else None
        if kept is not None and kept.size_bytes == self._offset:
            return kept
        state = self._area.state.digest_state
        return None if state is None else Hasher.restored(state, self._offset)

    def _check(self) -> None:
        if self._is_dropped:
            raise UploadUnknown(f"{self._area.what} was discarded")
        if self._is_closed:
            raise ValueError(f"{self._area.what} is no longer held")
        self._area.check_held()

    async def _ensure_held(self) -> None:
        self._check()
        await self._area.ensure_held()

    def _part_bytes(self) -> int:
        return part_bytes(
            self._area.hold.next_number,
            least_bytes=self._area.bucket.settings.part_bytes,
            most_bytes=self._spool.budget_bytes // 2,
        )

    def _capacity(self) -> int:
        """So much that a tail which cannot take the next chunk is large enough for a part."""
        return max(self._part_bytes() + _SLACK_BYTES, LEAST_PART_BYTES + _LARGEST_CHUNK_BYTES)

    async def _open_tail(self) -> SpoolPart:
        """The file for the next bytes, with those that are no part yet."""
        await self._ensure_held()
        if self._tail is not None:
            return self._tail
        if self._sender.is_empty:
            await self._area.complete()
            whole = self._area.state.whole
            if whole is not None and whole.size_bytes > self._part_bytes():
                await self._area.reopen()
            if self._area.state.upload_id is not None or self._sender.upload_id in self._area.ended_uploads:
                self._sender.aim(self._area.state.object_id, self._area.state.upload_id)
            self._tail_start = self._area.state.tail_start
            tail = await self._load() if self._offset > self._tail_start else await self._spool.part(self._capacity())
        else:
            self._tail_start = self._area.state.tail_start + self._sender.size_bytes
            tail = await self._spool.part(self._capacity())
        self._tail = tail
        return tail

    async def _load(self) -> SpoolPart:
        """The bytes behind the parts in a file: the one that was kept, or read from where they were settled."""
        size_bytes = self._offset - self._tail_start
        if (kept := self._take_kept()) is not None:
            if kept.size_bytes == size_bytes:
                return kept
            kept.close()
        part = await self._spool.part(max(self._capacity(), size_bytes + _LARGEST_CHUNK_BYTES))
        try:
            await self._read_settled(part)
        except BaseException:
            part.close()
            raise
        return part

    def _take_kept(self) -> SpoolPart | None:
        kept, self._kept = self._kept, None
        return None if kept is None else kept.part

    async def _read_settled(self, part: SpoolPart) -> None:
        async def take(chunk: bytes) -> None:
            await self._spool.run(part.write, (chunk,))

        state = self._area.state
        if state.whole is not None:
            await self._area.download(blob_key(state.whole.object_id), state.whole.size_bytes, take)
        in_rows = any(segment.key is None for segment in state.segments)
        rows = await self._area.stagings.contents(self.staging_id) if in_rows else {}
        for segment in state.segments:
            if segment.key is not None:
                await self._area.download(segment.key, segment.size_bytes, take)
            elif len(rows.get(segment.start, b"")) == segment.size_bytes:
                await take(rows[segment.start])
            else:
                raise Damaged(f"{self._area.what} lacks bytes from {segment.start} on")

    async def _send_tail(self) -> None:
        """Give the tail's file away as the next part."""
        await self._sender.slot()
        number = await self._area.number()
        if self._tail is not None:
            self._sender.send_nowait(number, self._tail)
            self._tail = None

    def _drop_tail(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            tail.close()

    # --- settling -----------------------------------------------------------------------------------------------

    async def settle(self, hasher: Hasher | None) -> None:
        """See `blobstore.Staging.settle`."""
        if not self._is_dirty():
            await trio.lowlevel.checkpoint()
            self._check()
            return
        await self._ensure_held()
        if self._tail is not None and self._is_worth_a_part(self._tail):
            await self._send_tail()
        await self._merge_parts()
        merged = self._area.state
        try:
            added = await self._settle_tail()
            self._keep_hash(hasher)
            await self._area.save(add=added, let_go=True)
        except BaseException:  # nobody has the rows
            self._area.state = merged
            raise

    def _is_dirty(self) -> bool:
        area = self._area
        return self._offset != area.saved.size_bytes or replace(area.state, reserved=0) != replace(
            area.saved, reserved=0
        )

    def _is_worth_a_part(self, tail: SpoolPart) -> bool:
        """Whether to send it now: not if it may be the whole blob, which then becomes one object."""
        is_first = self._sender.is_empty and self._area.state.size_bytes == 0
        return self.is_full or (tail.size_bytes >= LEAST_PART_BYTES and not is_first)

    async def _merge_parts(self) -> None:
        """Wait for what is being sent; it is part of the state from then on."""
        parts = await self._sender.finish()
        object_id, upload_id = self._sender.object_id, self._sender.upload_id
        if parts and object_id is not None and upload_id is not None:
            self._area.state = self._area.state.with_parts(parts, object_id=object_id, upload_id=upload_id)
            self._sender.clear()

    def _keep_hash(self, hasher: Hasher | None) -> None:
        if hasher is not None and hasher.size_bytes == self._offset:
            self._running = hasher
            self._area.state = replace(self._area.state, hash_state=text_of(hasher.state))

    async def _settle_tail(self) -> dict[int, bytes]:
        """Put what is not durable yet into an object, or give it for rows."""
        area, tail = self._area, self._tail
        state = area.state
        new_bytes = self._offset - state.size_bytes
        if tail is None or not new_bytes:
            return {}
        own = blob_key(area.hold.token)
        is_used = own in {*area.used, *state.litter, *area.saved.litter}
        if state.size_bytes == 0 and new_bytes > _FIRST_ROW_BYTES and not is_used:
            area.used.add(own)
            await area.bucket.put(own, FileSpan(tail.descriptor, 0, new_bytes))
            area.state = replace(state, whole=Whole(area.hold.token, new_bytes, new_bytes), hash_state=None)
            return {}
        if new_bytes > _ROW_BYTES:
            await self._settle_object(tail, state.size_bytes)
            return {}
        segments, start = _merged(state.segments, state.size_bytes, self._offset)
        content = await self._spool.run(tail.read, start - self._tail_start, self._offset - self._tail_start)
        segment = Segment(start, self._offset - start)
        area.state = replace(state, segments=(*segments, segment), hash_state=None)
        return {start: content}

    async def _settle_object(self, tail: SpoolPart, start: int) -> None:
        area = self._area
        key = segment_key(self.staging_id, start)
        area.used.add(key)
        span = FileSpan(tail.descriptor, start - self._tail_start, self._offset - self._tail_start)
        await area.bucket.put(key, span)
        segment = Segment(start, self._offset - start, key)
        area.state = replace(area.state, segments=(*area.state.segments, segment), hash_state=None)

    # --- whole blobs --------------------------------------------------------------------------------------------

    def verifies(self, digest: Digest, size_bytes: int) -> bool:
        """See `blobstore.Staging.verifies`. A small one can be sent again from the spool, and costs no more there."""
        bucket = self._area.bucket
        return (
            digest.algorithm == CANONICAL
            and bucket.abilities.verifies_sha256
            and bucket.settings.part_bytes <= size_bytes <= _LARGEST_PUT_BYTES
            and self._offset == 0
            and self._area.state.published is None
        )

    async def receive(self, digest: Digest, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """See `blobstore.Staging.receive`: one PUT whose signature carries the digest; nothing is hashed here."""
        await self._ensure_held()
        if not self.verifies(digest, size_bytes):
            raise ValueError(f"{size_bytes} bytes of {digest} cannot be received here: write them")
        self._drop_tail()
        name = await self._announce(digest, size_bytes)
        await self._area.write_whole(name, Stream(size_bytes, chunks))
        self._offset = size_bytes

    async def _announce(self, digest: Digest, size_bytes: int) -> ObjectName:
        """Note that the bytes are about to be written as an object of this name."""
        area = self._area
        name = area.new_name(digest, size_bytes)
        before = area.state
        area.state = replace(before, closing=True, published=name.key)
        try:
            await area.save()
        except BaseException:
            area.state = before
            raise
        return name

    async def rehash(self, hasher: Hasher) -> None:
        """See `blobstore.Staging.rehash`. Bytes in parts cannot be read: they are made an object first."""
        await self._ensure_held()

        async def take(chunk: bytes) -> None:
            hasher.update(chunk)
            await trio.lowlevel.checkpoint()

        if self._has_parts():
            await self._freeze()
            await self._area.save()
            await self._area.complete()
        whole = self._area.state.whole
        if whole is not None and whole.size_bytes == self._offset:
            await self._area.download(blob_key(whole.object_id), self._offset, take)
        elif self._offset:
            await self._hash_tail(await self._open_tail(), hasher)

    async def _hash_tail(self, tail: SpoolPart, hasher: Hasher) -> None:
        if self._tail_start:
            raise Damaged(f"{self._area.what} has bytes that cannot be read")
        for start in range(0, tail.size_bytes, _HASH_TURN_BYTES):
            hasher.update(await self._spool.run(tail.read, start, min(start + _HASH_TURN_BYTES, tail.size_bytes)))

    def _has_parts(self) -> bool:
        return bool(self._area.state.parts) or not self._sender.is_empty

    async def _freeze(self) -> None:
        """Send everything that is left as the last part: from here on the upload can only be completed."""
        if self._area.state.closing:
            return
        if self._offset > self._area.state.tail_start + self._sender.size_bytes:
            tail = await self._open_tail()
            if tail.size_bytes:
                await self._send_tail()
        self._drop_tail()
        await self._merge_parts()
        self._area.state = replace(self._area.state, closing=True)

    async def truncate(self, size_bytes: int) -> None:
        """See `blobstore.Staging.truncate`; ValueError beyond the offset."""
        await self._ensure_held()
        if not 0 <= size_bytes <= self._offset:
            raise ValueError(f"cannot truncate {self._offset} bytes to {size_bytes}")
        if size_bytes == self._offset:
            return
        self._running = None
        if not self._is_behind_parts(size_bytes) and self._area.state.size_bytes >= size_bytes:
            await self._revert()
        if not self._is_behind_parts(size_bytes):
            await self._uncover(size_bytes)
        if size_bytes < self._offset:
            (await self._open_tail()).cut(size_bytes - self._tail_start)
            self._area.state = self._area.state.cut(size_bytes)
        self._offset = size_bytes

    def _is_behind_parts(self, size_bytes: int) -> bool:
        state, whole = self._area.state, self._area.state.whole
        if state.closing or (whole is not None and whole.size_bytes > max(size_bytes, self._part_bytes())):
            return False
        return size_bytes >= state.tail_start + self._sender.size_bytes

    async def _revert(self) -> None:
        """Forget what was sent since the last settling; what was settled is still where it was."""
        await self._sender.drop()
        self._drop_tail()
        self._offset = self._area.state.size_bytes

    async def _uncover(self, size_bytes: int) -> None:
        """Cut within bytes that are parts already: make them an object, and use its beginning."""
        if self._has_parts():
            await self._freeze()
            await self._area.save()
            await self._area.complete()
        self._drop_tail()
        whole = self._area.state.whole
        if whole is not None and size_bytes:
            self._area.state = replace(
                self._area.state, whole=replace(whole, size_bytes=size_bytes), segments=(), hash_state=None
            )
        else:
            self._area.state = self._area.state.without(
                replace(self._area.state, whole=None, segments=(), hash_state=None)
            )
        self._offset = size_bytes

    async def publish(self, digest: Digest) -> StoredObject:
        """See `blobstore.Staging.publish`."""
        if digest.algorithm != CANONICAL:
            raise ValueError(f"objects are named by sha256, not by {digest.algorithm}")
        await self._ensure_held()
        whole = self._area.state.whole
        if whole is not None and self._offset == whole.size_bytes < whole.object_bytes:
            await self._open_tail()  # the object has more than the upload: it takes another one
        if self._has_parts():
            name = await self._publish_parts(digest)
        elif whole is not None and self._offset == whole.size_bytes == whole.object_bytes:
            name = await self._publish_whole(digest, whole)
        else:
            name = await self._publish_tail(digest)
        self._drop_tail()
        return name.stored

    async def _publish_parts(self, digest: Digest) -> ObjectName:
        area = self._area
        await self._freeze()
        name = area.name(digest, area.state.object_id or "", self._offset)
        if area.state.published != name.key or not area.saved.closing:
            area.state = replace(area.state, published=name.key)
            self._keep_hash(self._running)
            await area.save()
        await together(area.complete, lambda: area.mark(name))
        return name

    async def _publish_whole(self, digest: Digest, whole: Whole) -> ObjectName:
        area = self._area
        name = area.name(digest, whole.object_id, self._offset)
        if area.state.published != name.key:
            area.state = replace(area.state, published=name.key, whole=replace(whole, is_published=True))
            await area.save()
        await area.mark(name)
        return name

    async def _publish_tail(self, digest: Digest) -> ObjectName:
        area = self._area
        tail = await self._open_tail()
        self._keep_hash(self._running)
        name = await self._announce(digest, self._offset)
        span = FileSpan(tail.descriptor, 0, self._offset)
        await together(lambda: area.write_whole(name, span if self._offset else b""), lambda: area.mark(name))
        return name

    async def published(self) -> StoredObject | None:
        """See `blobstore.Staging.published`."""
        await trio.lowlevel.checkpoint()
        return None if self._is_dropped else await self._area.published()

    # --- the end ------------------------------------------------------------------------------------------------

    async def discard(self) -> None:
        """See `blobstore.Staging.discard`."""
        if self._is_dropped:
            await trio.lowlevel.checkpoint()
            return
        await self._ensure_held()
        upload = (self._sender.object_id, self._sender.upload_id)
        await self._sender.drop()
        self._drop_tail()
        await self._area.free(upload)
        self._is_dropped = True
        self._spool.forget(self.staging_id)

    async def close(self) -> None:
        """Settle what came, if that is possible now, and let go."""
        area = self._area
        if self._is_dropped or area.is_lost or not area.is_held:
            return
        with suppress(StorageError):  # what is not settled is not acknowledged either: the client sends it again
            await self.settle(self._running)
        try:
            await area.let_go()
        except StorageError:  # then it lapses
            area.is_lost = True

    def give_back(self) -> None:
        """After `close`, when nothing runs any more: keep the tail for the next request, give back all else."""
        self._is_closed = True
        self._sender.close()
        area = self._area
        is_settled = not (self._is_dropped or area.is_lost or area.is_held or self._is_dirty())
        part = self._take_kept() if self._tail is None else self._tail
        self._tail = None
        if is_settled:
            if part is not None and part.size_bytes != self._offset - area.state.tail_start:
                part.close()
                part = None
            hasher = self._running if self._running is not None and self._running.size_bytes == self._offset else None
            self._spool.keep(self.staging_id, Kept(area.hold.version, part, hasher))
        elif part is not None:
            part.close()


class _Writer:
    """See `blobstore.BlockingWriter`."""

    def __init__(self, staging: S3Staging, hasher: Hasher) -> None:
        self._staging = staging
        self._hasher = hasher

    @property
    def is_full(self) -> bool:
        return self._staging.is_full

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        self._staging.append(parts, self._hasher)

    async def room(self) -> None:
        await self._staging.room()


def _merged(segments: tuple[Segment, ...], start: int, stop: int) -> tuple[tuple[Segment, ...], int]:
    """The segments to keep, and where a new row of the bytes from `start` to `stop` begins.

    It swallows rows before it that are no longer than it is. So an upload in chunks of one byte has some twenty rows,
    and each byte is written as often at most.
    """
    while segments:
        last = segments[-1]
        if last.key is not None or last.size_bytes > stop - start or stop - last.start > _ROW_BYTES:
            break
        segments, start = segments[:-1], last.start
    return segments, start
