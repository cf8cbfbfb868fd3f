"""Staging areas in a bucket: bytes pass a local file, leave as parts while more come, and are settled in rows.

    write -> tail (a file of the spool) -> full: a part of a multipart upload | settle: a row, or an object
    publish: the parts completed, or the tail as one object; and the marker

What comes in is hashed and spooled by worker threads (`writer`), so that it can be sent again after a failure and no
byte is read back from the bucket in normal flow. `settle` makes everything durable in one transaction and lets go of
the area, so that the next request may come to any replica; the tail's file is kept for the case that it comes here.
What is durable is the business of `s3.area`; this file knows what is not yet.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from storage.blobstore import BlockingWriter, StoredObject, check_staging_id
from storage.digest import CANONICAL, Digest, Hasher
from storage.errors import Damaged, StorageError, UploadUnknown
from storage.s3.area import Area
from storage.s3.bucket import Bucket
from storage.s3.keys import ObjectName, blob_key
from storage.s3.parts import PartSender
from storage.s3.settings import LEAST_PART_BYTES
from storage.s3.staging_state import Whole, text_of
from storage.s3.staging_tail import ROW_BYTES, Tail
from storage.s3.staging_together import hosted, together
from storage.s3.stagings import Stagings
from storage.spool import Spool, SpoolPart
from storage.transfer.payload import FileSpan, Stream

_LARGEST_PUT_BYTES: Final = 5 << 30
_COPY_BYTES: Final = 1 << 20
# A request that ends, however it does, settles what came and lets go.
_CLOSE_DEADLINE_S: Final = 5.0


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
            sender = PartSender(bucket, nursery, bucket.settings.parts_in_flight, area.new_id)
            staging = S3Staging(area, spool, sender)
            try:
                await staging.open()
                yield staging
            finally:
                try:
                    with trio.move_on_after(_CLOSE_DEADLINE_S, shield=True):
                        await staging.close()
                finally:
                    staging.stop()
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
        self._tail = Tail(area, spool)
        self._running: Hasher | None = None
        self._received: ObjectName | None = None  # and not published since: nobody else can have removed it
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
        await self._open_tail()
        if not self._tail.can_take(memoryview(chunk).nbytes):
            await self._sender.slot()
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
        return self._tail.is_full

    async def room(self) -> None:
        """For `writer`: send the tail, wait for a new one."""
        if self._tail.file is not None and self.is_full:
            await self._sender.slot()
            await self._send_tail()
        await self._open_tail()

    def append(self, parts: Sequence[bytes | bytearray | memoryview], hasher: Hasher) -> None:
        """For `write` and `writer`, in a thread."""
        self._check()
        if not self._area.is_held:
            raise ValueError(f"{self._area.what} was settled: ask for another writer")
        self._tail.append(parts)
        for part in parts:
            hasher.update(part)
            self._offset += memoryview(part).nbytes
        self._running = hasher

    def hasher(self) -> Hasher | None:
        """See `blobstore.Staging.hasher`."""
        if self._offset == 0:
            return Hasher.portable()
        kept = self._tail.kept_hasher
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

    async def _open_tail(self) -> None:
        """Have a file for the next bytes, with those that are no part yet."""
        await self._ensure_held()
        if self._tail.file is not None:
            return
        area, sender = self._area, self._sender
        if not sender.is_empty:
            start = area.state.tail_start + sender.size_bytes
            await sender.unless_failed(lambda: self._tail.open(start, start))
            return
        await area.complete()
        if area.state.whole is not None and area.state.whole.size_bytes > self._tail.part_bytes():
            await area.reopen()
        if area.state.upload_id is not None or sender.upload_id in area.ended_uploads:
            sender.aim(area.state.object_id, area.state.upload_id)
        await self._tail.open(area.state.tail_start, self._offset)

    async def _send_tail(self) -> None:
        """Give the tail's file away as the next part."""
        number = await self._area.number()
        if (file := self._tail.take_file()) is not None:
            self._sender.send_nowait(number, file)

    # --- settling -----------------------------------------------------------------------------------------------

    async def settle(self, hasher: Hasher | None) -> None:
        """See `blobstore.Staging.settle`."""
        if not self._is_dirty():
            await trio.lowlevel.checkpoint()
            self._check()
            return
        await self._ensure_held()
        if self._tail.file is not None and self._is_worth_a_part(self._tail.file):
            await self._send_tail()
        await self._merge_parts()
        await self._area.drop_segments()
        merged = self._area.state
        try:
            added = await self._tail.settle(self._offset)
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
        """Whether to send it now: not if it may be the whole blob, which then becomes one object; nor a little more."""
        before = max(self._area.state.size_bytes, self._area.state.tail_start + self._sender.size_bytes)
        is_much = self._offset - before > ROW_BYTES
        return self.is_full or (tail.size_bytes >= LEAST_PART_BYTES and is_much and before > 0)

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
        self._tail.drop()
        name = await self._announce(digest, size_bytes)
        await self._area.write_whole(name, Stream(size_bytes, chunks))
        self._offset, self._received = size_bytes, name

    async def _announce(self, digest: Digest, size_bytes: int) -> ObjectName:
        """Note that the bytes are about to be written as an object of this name."""
        name = self._area.new_name(digest, size_bytes)
        await self._area.record(replace(self._area.state, closing=True, published=name.key))
        return name

    async def rehash(self, hasher: Hasher) -> None:
        """See `blobstore.Staging.rehash`. Bytes in parts cannot be read: they are made an object first."""
        await self._ensure_held()

        async def take(chunk: bytes) -> None:
            hasher.update(chunk)
            await trio.lowlevel.checkpoint()

        await self._make_readable()
        whole = self._area.state.whole
        if whole is not None and whole.size_bytes == self._offset:
            await self._area.download(blob_key(whole.object_id), self._offset, take)
        elif self._offset:
            await self._open_tail()
            await self._tail.hash_into(hasher)

    async def _make_readable(self) -> None:
        """Complete the upload, if there is one: nobody can read its parts before."""
        while self._has_parts():
            await self._send_all()
            await self._area.record(replace(self._area.state, closing=True))
            await self._area.complete()

    def _has_parts(self) -> bool:
        return bool(self._area.state.parts) or not self._sender.is_empty

    async def _send_all(self) -> None:
        """Send everything that is left as the last part, and wait for all: then the upload can be closed."""
        if self._area.state.closing:
            return
        if self._offset > self._area.state.tail_start + self._sender.size_bytes:
            await self._open_tail()
            await self._send_tail()
        self._tail.drop()
        await self._merge_parts()

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
            await self._open_tail()
            if self._tail.file is not None:
                self._tail.file.cut(size_bytes - self._tail.start)
            self._area.state = self._area.state.cut(size_bytes)
        self._offset = size_bytes

    def _is_behind_parts(self, size_bytes: int) -> bool:
        state, whole = self._area.state, self._area.state.whole
        if state.closing or (whole is not None and whole.size_bytes > max(size_bytes, self._tail.part_bytes())):
            return False
        return size_bytes >= state.tail_start + self._sender.size_bytes

    async def _revert(self) -> None:
        """Forget what was sent since the last settling; what was settled is still where it was."""
        await self._sender.drop()
        self._tail.drop()
        self._offset = self._area.state.size_bytes

    async def _uncover(self, size_bytes: int) -> None:
        """Cut within bytes that are parts already: make them an object, and use its beginning."""
        await self._make_readable()
        self._tail.drop()
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
        self._received = None
        whole = self._area.state.whole
        if whole is not None and self._offset == whole.size_bytes < whole.object_bytes:
            await self._open_tail()  # the object has more than the upload: it takes another one
        if self._has_parts():
            name = await self._publish_parts(digest)
        elif whole is not None and self._offset == whole.size_bytes == whole.object_bytes:
            name = await self._publish_whole(digest, whole)
        else:
            name = await self._publish_tail(digest)
        self._tail.drop()
        return name.stored

    async def _publish_parts(self, digest: Digest) -> ObjectName:
        area = self._area
        while True:
            await self._send_all()
            name = area.name(digest, area.state.object_id or "", self._offset)
            if area.state.published != name.key or not area.state.closing:
                self._keep_hash(self._running)
                await area.record(replace(area.state, closing=True, published=name.key))
            await together(area.complete, partial(area.mark, name))
            if not self._has_parts():
                return name

    async def _publish_whole(self, digest: Digest, whole: Whole) -> ObjectName:
        area = self._area
        name = area.name(digest, whole.object_id, self._offset)
        if area.state.published != name.key:
            await area.record(replace(area.state, published=name.key, whole=replace(whole, is_published=True)))
        await area.mark(name)
        return name

    async def _publish_tail(self, digest: Digest) -> ObjectName:
        area = self._area
        await self._open_tail()
        self._keep_hash(self._running)
        name = await self._announce(digest, self._offset)
        file = self._tail.file
        payload = b"" if file is None or not self._offset else FileSpan(file.descriptor, 0, self._offset)
        await together(lambda: area.write_whole(name, payload), lambda: area.mark(name))
        return name

    async def adopt(self, descriptor: int, digest: Digest, size_bytes: int) -> StoredObject:
        """Publish an open file of somebody else through this area; see `blobstore.BlobStore.adopt`."""
        await self._ensure_held()
        if os.fstat(descriptor).st_size != size_bytes:
            raise Damaged(f"blob {digest}: {os.fstat(descriptor).st_size} bytes are in the file, not {size_bytes}")
        if size_bytes > _LARGEST_PUT_BYTES:
            await self._write_file(descriptor, size_bytes)
            return await self.publish(digest)
        name, payload = await self._announce(digest, size_bytes), FileSpan(descriptor, 0, size_bytes)
        await together(
            lambda: self._area.write_whole(name, payload if size_bytes else b""), lambda: self._area.mark(name)
        )
        self._offset = size_bytes
        return name.stored

    async def _write_file(self, descriptor: int, size_bytes: int) -> None:
        """Write it as if a client had sent it: parts want files of the spool, which can be sent again."""
        hasher = Hasher.portable()
        while self._offset < size_bytes:
            chunk = await self._spool.run(os.pread, descriptor, _COPY_BYTES, self._offset)
            if not chunk:
                raise Damaged(f"a local file ends after {self._offset} of {size_bytes} bytes")
            await self.write(chunk, hasher)

    async def published(self) -> StoredObject | None:
        """See `blobstore.Staging.published`."""
        await trio.lowlevel.checkpoint()
        if self._is_dropped:
            return None
        return await self._area.published() if self._received is None else self._received.stored

    # --- the end ------------------------------------------------------------------------------------------------

    async def discard(self) -> None:
        """See `blobstore.Staging.discard`."""
        if self._is_dropped:
            await trio.lowlevel.checkpoint()
            return
        await self._ensure_held()
        upload = (self._sender.object_id, self._sender.upload_id)
        await self._sender.drop()
        self._tail.drop()
        await self._area.free(upload)
        self._is_dropped = True
        self._spool.forget(self.staging_id)

    def stop(self) -> None:
        """Send nothing any more."""
        self._sender.stop()

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
        running = self._running if self._running is not None and self._running.size_bytes == self._offset else None
        size_bytes = self._offset - area.state.tail_start if is_settled else None
        self._tail.give_back(size_bytes=size_bytes, hasher=running or self._tail.kept_hasher)


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
