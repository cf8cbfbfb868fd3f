"""The parts of one upload on their way into the bucket: sent from the spool beside what goes on filling the next ones.

A part that fails keeps its file, so that it can be sent again; nothing is read back. Which numbers may be used, and
what becomes of the parts, is the caller's business. Knows no rows.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from storage.errors import StorageError, Unavailable
from storage.s3.bucket import Bucket
from storage.s3.keys import blob_key
from storage.s3.staging_state import Part
from storage.spool import SpoolPart
from storage.transfer.payload import FileSpan

# A blob of 5 TiB (the largest object of S3) has to fit into its 10,000 numbers, and most blobs into small parts: so
# many parts have the size of the setting, the next ones 4 times, 16 times, 128 times as much: 5.8 TiB with 8 MiB.
_GROWTH: Final = ((1000, 1), (2000, 4), (4000, 16))
_LAST_GROWTH: Final = 128


def part_bytes(number: int, *, least_bytes: int, most_bytes: int) -> int:
    """How large the part of this number should be, between the setting and what the spool can take."""
    factor = next((factor for last, factor in _GROWTH if number <= last), _LAST_GROWTH)
    return max(least_bytes, min(factor * least_bytes, most_bytes))


@dataclass(eq=False, slots=True)
class _Sending:
    number: int
    file: SpoolPart
    size_bytes: int
    etag: str | None = None
    error: StorageError | None = None
    scope: trio.CancelScope | None = None
    """While it is being sent."""


@dataclass(slots=True)
class PartSender:
    """Sends parts of one multipart upload, at most `in_flight` at once. `nursery` is the hold's own.

    `object_id` and `upload_id` name the upload; it is begun when the first part is sent if there is none, to an object
    with an id from `new_id`.
    """

    bucket: Bucket
    nursery: trio.Nursery
    in_flight: int
    new_id: Callable[[], str]
    object_id: str | None = None
    upload_id: str | None = None
    _sendings: list[_Sending] = field(default_factory=list)
    _lock: trio.Lock = field(default_factory=trio.Lock)
    _changed: trio.Event = field(default_factory=trio.Event)
    _waiting: trio.CancelScope | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts that were given and not taken out again."""
        return sum(sending.size_bytes for sending in self._sendings)

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self._sendings

    def aim(self, object_id: str | None, upload_id: str | None) -> None:
        """Parts that come now belong to that upload; None: to a new one."""
        self.object_id, self.upload_id = object_id, upload_id

    def send_nowait(self, number: int, file: SpoolPart) -> None:
        """Send the file as the next part; takes the file over and closes it when it was sent."""
        sending = _Sending(number, file, file.size_bytes)
        self._sendings.append(sending)
        self._start(sending)

    def _start(self, sending: _Sending) -> None:
        # A request that is cancelled still settles what came: its parts are stopped by `stop`, not with it.
        sending.error, sending.scope = None, trio.CancelScope(shield=True)
        self.nursery.start_soon(self._send, sending, sending.scope)

    async def _send(self, sending: _Sending, scope: trio.CancelScope) -> None:
        try:
            with scope:
                object_id, upload_id = await self._begun()
                span = FileSpan(sending.file.descriptor, 0, sending.size_bytes)
                sending.etag = await self.bucket.put_part(blob_key(object_id), upload_id, sending.number, span)
                sending.file.close(was_sent=True)
        except StorageError as error:
            sending.error = error
            if self._waiting is not None:
                self._waiting.cancel()
        finally:
            if sending.etag is None and sending.error is None:
                sending.error = Unavailable(f"part {sending.number} was stopped on its way")
            sending.scope = None
            self._changed.set()
            self._changed = trio.Event()

    async def _begun(self) -> tuple[str, str]:
        async with self._lock:  # the parts of a new upload wait for its one id
            if self.object_id is None or self.upload_id is None:
                object_id = self.new_id()
                self.upload_id = await self.bucket.create(blob_key(object_id))
                self.object_id = object_id
            return self.object_id, self.upload_id

    def _running(self) -> int:
        return sum(sending.scope is not None for sending in self._sendings)

    def _failed(self) -> list[_Sending]:
        return [sending for sending in self._sendings if sending.error is not None and sending.scope is None]

    def _check(self) -> None:
        for sending in self._failed():
            if sending.error is not None:
                raise sending.error

    async def slot(self) -> None:
        """Wait until another part may be sent; raises what the sending of an earlier one met."""
        await trio.lowlevel.checkpoint()
        self._check()
        while self._running() >= self.in_flight:
            await self._changed.wait()
            self._check()

    async def unless_failed(self, call: Callable[[], Awaitable[None]]) -> None:
        """Do what may have to wait until parts were sent, such as for room in the spool; for one task at a time.

        Raises what the sending of a part meets meanwhile: it keeps its room, and others may wait for that, too.
        """
        self._check()
        with trio.CancelScope() as scope:
            self._waiting = scope
            try:
                await call()
            finally:
                self._waiting = None
        if scope.cancelled_caught:
            self._check()

    async def finish(self) -> tuple[Part, ...]:
        """Wait for all parts, those that failed being sent once more, and give them in order.

        Raises what they met; then nothing is lost, and calling it again may help. Cancellation stops the waiting only.
        """
        await trio.lowlevel.checkpoint()
        tried: set[int] = set()
        while True:
            for sending in self._failed():
                if sending.number in tried:
                    self._check()
                tried.add(sending.number)
                self._start(sending)
            if not self._running():
                break
            await self._changed.wait()
        return tuple(Part(each.number, each.size_bytes, each.etag or "") for each in self._sendings)

    def clear(self) -> None:
        """Forget the parts that `finish` gave."""
        self._sendings.clear()

    def stop(self) -> None:
        """Stop sending; the nursery ends only after that."""
        for sending in self._sendings:
            if sending.scope is not None:
                sending.scope.cancel()

    async def drop(self) -> None:
        """Stop sending and forget all parts. Waits until no file is used any more."""
        self.stop()
        while self._running():
            await self._changed.wait()
        self.close()

    def close(self) -> None:
        """Close the files of what was not sent; only when nothing is being sent any more."""
        for sending in self._sendings:
            sending.file.close()
        self._sendings.clear()
