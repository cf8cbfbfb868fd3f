"""One held staging area of a bucket, as far as it is durable: its row, its objects, its multipart upload.

Rules
- The row says what is to be done before it is done, so that whoever comes next can finish it (see `s3.staging_state`).
- A hold that ends, by `save(let_go=True)` or for want of renewal, is taken again before anything is changed; if the row
  was changed meanwhile, the area is lost to this holder.
- `state` is what this holder knows, `saved` what the row says.

Bytes that are not durable yet are the business of `s3.staging`.
"""

import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import trio

from storage.blobstore import Span, StoredObject
from storage.digest import Digest
from storage.errors import BlobUnknown, Busy, Damaged, StorageError, Unavailable, UploadUnknown
from storage.s3.bucket import Bucket
from storage.s3.keys import ObjectName, blob_key, marked, segment_of
from storage.s3.staging_state import Part, StagingState, Whole
from storage.s3.staging_strays import COPIED_PART_BYTES, adopt_strays, extract
from storage.s3.stagings import LIFETIME_S, NUMBERS, Hold, Stagings
from storage.transfer.payload import EMPTY, Payload

_RENEW_S: Final = LIFETIME_S / 3
MOST_SEGMENTS: Final = 50
"""How many segments that were sent as parts may still lie in the bucket."""
_ATTEMPTS: Final = 4  # how often a download is taken up again that breaks within its bytes

Take = Callable[[bytes], Awaitable[None]]
"""Takes the next bytes of a download."""


@dataclass(slots=True)
class Area:
    """See the module docstring. One holder, so one task at a time, beside `keep_held`."""

    bucket: Bucket
    stagings: Stagings
    hold: Hold
    state: StagingState
    saved: StagingState
    is_held: bool = True
    is_lost: bool = False
    used: set[str] = field(default_factory=set)
    """Names that this holder may have written and no state has."""
    _renewed_at: float = field(default_factory=trio.current_time)
    ended_uploads: set[str] = field(default_factory=set)
    """Those that this holder completed."""

    @property
    def what(self) -> str:
        """For messages."""
        return f"staging area {self.hold.staging_id}"

    # --- the hold -----------------------------------------------------------------------------------------------

    async def ensure_held(self) -> None:
        """Before anything is changed: `Busy` if the hold was lost, `UploadUnknown` if the area is gone."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check_held()
        if not self.is_held:
            await self._take_back()
        elif trio.current_time() - self._renewed_at > LIFETIME_S / 2:
            await self._renew()

    def check_held(self) -> None:
        """`Busy` if the hold is known to be lost."""
        if self.is_lost:
            raise Busy(f"{self.what} is held by somebody else by now")

    async def _take_back(self) -> None:
        hold, _ = await self.stagings.take(self.hold.staging_id, create=False)
        is_same = hold.version == self.hold.version + 1
        self.hold, self.is_held, self.is_lost = hold, is_same, not is_same
        self._renewed_at = trio.current_time()
        if not is_same:
            await self.stagings.release(hold)
            self.check_held()

    async def _renew(self) -> None:
        began = trio.current_time()
        try:
            await self.stagings.renew(self.hold)
        except Busy:
            self.is_lost = True
            raise
        self._renewed_at = began

    async def keep_held(self) -> None:
        """Renew the hold for as long as it is used; for the hold's own nursery, never ends by itself."""
        while True:
            await trio.sleep(_RENEW_S)
            if self.is_held and not self.is_lost:
                try:
                    await self._renew()
                except StorageError:  # lost: every call tells from now on; or the database is down: the next time
                    continue

    async def save(self, *, add: Mapping[int, bytes] | None = None, let_go: bool = False) -> None:
        """Write the state down, with the bytes of new segments in rows; `Busy` if the hold was lost."""
        state = self.state
        unused = self.used - state.own_objects - ({state.name.blob} if state.name is not None else set())
        state = replace(state, litter=tuple(sorted({*state.litter, *unused})))
        await self._save(state, add=add, let_go=let_go)
        self.state = self.saved = state
        self.used.clear()

    async def record(self, state: StagingState) -> None:
        """Write down what is about to be done, so that it may be done; if that fails, it may not."""
        before, self.state = self.state, state
        try:
            await self.save()
        except BaseException:
            self.state = before
            raise

    async def _save(self, state: StagingState, *, add: Mapping[int, bytes] | None = None, let_go: bool = False) -> None:
        reserved = self.hold.next_number - 1 if let_go else self.hold.last_number
        try:
            await self.stagings.save(self.hold, replace(state, reserved=reserved), add=add, let_go=let_go)
        except Busy:
            self.is_lost = True
            raise
        self.is_held = not let_go
        self._renewed_at = trio.current_time()

    async def let_go(self) -> None:
        """End the hold. What was saved stays; names used since are noted, so that they are freed with the area."""
        if self.is_held and not self.is_lost:
            unused = (self.state.own_objects | self.used) - self.saved.own_objects
            await self._save(replace(self.saved, litter=tuple(sorted({*self.saved.litter, *unused}))), let_go=True)

    async def number(self) -> int:
        """The number of a new part, which nobody has used and nobody else will."""
        if self.hold.next_number > self.hold.last_number:
            self.hold.last_number += NUMBERS
            try:
                await self._save(self.saved)
            except BaseException:
                self.hold.last_number -= NUMBERS
                raise
        self.hold.next_number += 1
        return self.hold.next_number - 1

    # --- the object ---------------------------------------------------------------------------------------------

    async def resolve(self) -> None:
        """Find out whether an object that a former holder was about to write whole is there."""
        state, name = self.state, self.state.name
        if not state.closing or state.parts or name is None:
            return
        try:
            is_there = (await self.bucket.head(name.blob)).size_bytes == name.size_bytes
        except BlobUnknown:
            is_there = False
        if is_there:
            self.adopt(name)
        else:
            self.give_up(name)

    def adopt(self, name: ObjectName) -> None:
        """The object has all bytes: nothing else is needed."""
        whole = Whole(name.object_id, name.size_bytes, name.size_bytes, is_published=True)
        self.state = self.state.without(
            replace(self.state, whole=whole, segments=(), closing=False, published=name.key)
        )

    def give_up(self, name: ObjectName) -> None:
        """The object was not written, as far as one can see: it goes with the area, should it appear."""
        litter = {*self.state.litter, name.blob, name.marker}
        hash_state = self.state.hash_state if self.state.size_bytes == name.size_bytes else None
        self.state = replace(
            self.state, closing=False, published=None, litter=tuple(sorted(litter)), hash_state=hash_state
        )

    def name(self, digest: Digest, object_id: str, size_bytes: int) -> ObjectName:
        """The name under which an object is published now; the same as before for the same object."""
        before = self.state.name
        if before is not None and (before.digest, before.object_id) == (digest, object_id):
            return before
        return ObjectName(digest, object_id, size_bytes, self.stagings.now())

    def new_name(self, digest: Digest, size_bytes: int) -> ObjectName:
        """A name for an object that is still to be written."""
        return ObjectName(digest, self.new_id(), size_bytes, self.stagings.now())

    def new_id(self) -> str:
        """The id of a new object. It tells who holds, so that the sweep spares an upload that no row knows yet."""
        return f"{self.hold.token}-{uuid.uuid4().hex[:12]}"

    async def write_whole(self, name: ObjectName, payload: Payload) -> None:
        """Write the bytes as one object whose name the row holds already (`closing`); the store checks the digest."""
        try:
            await self.bucket.put(name.blob, payload, sha256=name.digest.hex)
        except BaseException:
            self.give_up(name)
            raise
        self.adopt(name)

    async def complete(self) -> None:
        """Make the object of its parts, which the row holds already (`closing`); there is a `whole` then.

        Or parts again, of another upload, if there was junk among them: then it is to be closed once more.
        Raises `UploadUnknown` when the store has dropped the parts: they have to be sent again from the beginning.
        """
        state = self.state
        if not state.closing or state.object_id is None or state.upload_id is None:
            return
        try:
            await self._complete(state.object_id, state.upload_id)
        except UploadUnknown:
            if not await adopt_strays(self):
                raise
            await self.save()
            await self._complete(state.object_id, state.upload_id)
        self.ended_uploads.add(state.upload_id)
        if any(part.is_junk for part in self.state.parts):
            await self._without_junk(state.object_id)
            return
        size_bytes = state.tail_start
        is_published = state.name is not None and state.name.object_id == state.object_id
        whole = Whole(state.object_id, size_bytes, size_bytes, is_published)
        self.state = replace(state, object_id=None, upload_id=None, parts=(), whole=whole, closing=False)

    async def _complete(self, object_id: str, upload_id: str) -> None:
        parts = [(part.number, part.etag) for part in self.state.parts]
        await self.bucket.complete(blob_key(object_id), upload_id, parts)

    async def _without_junk(self, object_id: str) -> None:
        new_id, upload_id, parts = await extract(self, object_id, self.state.parts)
        litter = {*self.state.litter, blob_key(object_id)}
        published = self.state.published
        if (name := self.state.name) is not None and name.object_id == object_id:
            published = None
            litter.add(name.marker)
        self.state = replace(
            self.state,
            object_id=new_id,
            upload_id=upload_id,
            parts=parts,
            closing=False,
            published=published,
            litter=tuple(sorted(litter)),
        )

    async def mark(self, name: ObjectName) -> None:
        """Write the marker from which rows are rebuilt."""
        await self.bucket.put(name.marker, EMPTY)

    async def reopen(self) -> None:
        """Turn an object into parts of a new upload, copied by the store: only so can bytes be added behind it."""
        whole = self.state.whole
        if whole is None:
            return
        object_id = self.new_id()
        upload_id = await self.bucket.create(blob_key(object_id))
        pieces = -(-whole.size_bytes // COPIED_PART_BYTES)
        edges = [whole.size_bytes * each // pieces for each in range(pieces + 1)]
        parts = []
        for start, stop in pairwise(edges):
            number = await self.number()
            source = blob_key(whole.object_id)
            etag = await self.bucket.copy_part(
                blob_key(object_id), upload_id, number, source=source, span=Span(start, stop)
            )
            parts.append(Part(number, stop - start, etag))
        hash_state = self.state.hash_state
        self.state = self.state.with_parts(tuple(parts), object_id=object_id, upload_id=upload_id)
        self.state = replace(self.state, hash_state=hash_state)

    async def download(self, key: str, size_bytes: int, take: Take) -> None:
        """Read the first bytes of an object; taken up again where it breaks. `Damaged` if it has fewer."""
        done = 0
        for attempt in range(_ATTEMPTS):
            try:
                async with self.bucket.get(key, Span(done, size_bytes)) as download:
                    async for chunk in download.chunks():
                        await take(chunk)
                        done += len(chunk)
            except Unavailable:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            except BlobUnknown as error:
                raise UploadUnknown(f"bytes of {self.what} are gone from the bucket: begin again") from error
            if done < size_bytes:
                raise Damaged(f"{key} ends after {done} bytes, {size_bytes} were written")
            return

    async def drop_segments(self) -> None:
        """Remove segments that have become parts once there are many: else the row would grow with the upload.

        Only what the row itself calls litter: the state of this moment is not written down yet.
        """
        old = {key for key in self.saved.litter if segment_of(key) is not None} & set(self.state.litter)
        if len(old) >= MOST_SEGMENTS:
            await self.bucket.delete(*sorted(old))
            self.state = replace(self.state, litter=tuple(key for key in self.state.litter if key not in old))

    # --- the end ------------------------------------------------------------------------------------------------

    async def published(self) -> StoredObject | None:
        """The object that the row names, if it is there whole."""
        name = self.state.name
        if name is None:
            return None
        try:
            found = await self.bucket.head(name.blob)
        except BlobUnknown:
            return None
        return name.stored if found.size_bytes == name.size_bytes else None

    async def free(self, *uploads: tuple[str | None, str | None]) -> None:
        """Drop everything in the bucket that is not published, then the row. `uploads`: those that no row knows.

        For who has ended the session before: nobody can publish from the area by now, but another holder may have.
        """
        await self.ensure_held()
        names = {*self.saved.own_objects, *self.state.own_objects, *self.used}
        known = {*uploads, *((each.object_id, each.upload_id) for each in (self.saved, self.state))}
        begun = {(at, upload) for at, upload in known if at and upload and upload not in self.ended_uploads}
        if names or begun or self.state.closing:
            await self._renew()  # nobody else has held it since we read the state: what is ours, is ours alone
        for object_id, upload_id in begun:
            await self.bucket.abort(blob_key(object_id), upload_id)
        name = self.state.name
        if name is not None and self.state.closing and await self.published() is None:
            names |= {name.blob, name.marker}
        elif name is not None:
            names.discard(name.blob)
        names -= await self._in_use(names)
        if names:
            await self.bucket.delete(*sorted(names))
        await self.stagings.delete(self.hold)

    async def _in_use(self, names: Collection[str]) -> set[str]:
        """What of these a blob row has after all, because a publisher was slower than its hold, yet not too late.

        It stays so: nobody publishes from an area any more whose session has ended, and before that nobody frees it.
        """
        used: set[str] = set()
        for key in names:
            name = marked(key)
            if name is not None and await self.stagings.is_used(name.stored):
                used |= {name.blob, name.marker}
        return used
