"""What happens when stored bytes are not what their row says, found while they are read and not by an operator.

Whoever finds it looks a second time before anything is changed: one wrong bit on the way here must not cost a good
object. What is wrong twice is marked, so that nobody reads it and the next push of the digest heals the row, and put
aside in the store's quarantine. In this order: a crash between the two leaves a marked row whose bytes lie where they
did, which `sluice fsck` puts aside. `judge` is what everybody looks at stored bytes with, an operator's tools too.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from storage.blobstore import BlobStore, Span, StoredObject
from storage.content import Content
from storage.database import Database, Transaction
from storage.digest import Hasher
from storage.errors import BlobUnknown, Damaged
from storage.metadata import blobs, garbage
from storage.records import BlobRecord

MOST_PER_HOUR: Final = 10
"""Objects that one process puts aside; a guess. Disks that decay have fewer, and readers are protected in any case."""
_HOUR_S: Final = 3600.0

Pace = Callable[[int], Awaitable[None]]
"""Awaited after so many bytes were read."""


@dataclass(frozen=True, slots=True)
class FoundDamage:
    """One object that was found damaged and put aside. `images` (≤ 10) suffer until the digest is pushed again."""

    storage: str
    stored: StoredObject
    detail: str
    images: tuple[str, ...]


async def judge(store: BlobStore, stored: StoredObject, *, pace: Pace | None = None) -> str | None:
    """What is wrong with an object's bytes; None if nothing is. Reads all of them, from exactly this store.

    Raises `BlobUnknown` and `Unavailable`: those say nothing about the bytes.
    """
    hasher = Hasher()
    try:
        async with store.open(stored, Span(0, stored.size_bytes)) as reader:
            async for chunk in reader.chunks():
                hasher.update(chunk)  # at most 256 KiB: 0.15 ms, less than a hop to a thread and back
                if pace is not None:
                    await pace(len(chunk))
    except Damaged as error:
        return str(error)
    actual = hasher.digest()
    return None if actual == stored.digest else f"its bytes have digest {actual}"


async def set_aside(database: Database, content: Content, blob: BlobRecord, *, now: int) -> bool:
    """Mark the row and put the object aside; False if the row was healed, removed or marked meanwhile."""
    if not await database.transaction(_mark, blob, now=now):
        return False
    with suppress(BlobUnknown):
        await content.store(blob.storage_id).quarantine(blob.stored.key)
    return True


def _mark(tx: Transaction, blob: BlobRecord, *, now: int) -> bool:
    current = blobs.find(tx, blob.storage_id, blob.stored.digest)
    if current is None or current.id != blob.id or current.damaged_at is not None:
        return False
    return garbage.mark_damaged(tx, blob, now=now)


class DamageReports:
    """For one storage: what its hot set calls on wrong bytes. Safe to be called for the same object many times."""

    def __init__(
        self,
        database: Database,
        content: Content,
        *,
        storage: str,
        origin: BlobStore,
        tell: Callable[[FoundDamage], None] | None = None,
        tell_too_many: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`origin` is where the bytes really lie, without any copy in front; `tell` is told what was put aside.

        `tell_too_many` is called when `MOST_PER_HOUR` is reached: from then on reports change nothing for a while.
        """
        self._database = database
        self._content = content
        self._storage = storage
        self._origin = origin
        self._tell = tell
        self._tell_too_many = tell_too_many
        self._clock = clock
        self._put_aside_at: deque[float] = deque(maxlen=MOST_PER_HOUR)
        self._is_full = False
        self._looking: set[str] = set()  # keys; each may come to be put aside
        self.doubted = 0
        """Reports that turned out to be wrong: something between the store and here had changed the bytes."""
        self.confirmed = 0
        self.withheld = 0
        """Reports that were not looked at, as there had been too many."""

    async def __call__(self, stored: StoredObject) -> bool:
        """Look again, and put aside what is damaged; whether it was. Does nothing while the same object is looked at.

        Raises `Unavailable`: nothing was changed then, or the mark only, and whoever reads the blob next reports it.
        """
        storage_id = self._content.storage_id(self._storage)
        blob = await self._database.read(blobs.find, storage_id, stored.digest)
        if blob is None or blob.stored.key != stored.key or blob.damaged_at is not None:
            return False
        if stored.key in self._looking:
            return False
        if not self._may_put_aside():
            self.withheld += 1
            return False
        self._looking.add(stored.key)
        try:
            return await self._look(blob)
        finally:
            self._looking.remove(stored.key)

    async def _look(self, blob: BlobRecord) -> bool:
        stored = blob.stored
        try:
            detail = await judge(self._origin, stored)
        except BlobUnknown:  # being removed, or lost: fsck can tell
            return False
        if detail is None:
            self.doubted += 1
            return False
        images = await self._database.survey(garbage.images_of, blob.id)
        if not await set_aside(self._database, self._content, blob, now=int(self._clock())):
            return False
        self.confirmed += 1
        self._put_aside_at.append(self._clock())
        if self._tell is not None:
            self._tell(FoundDamage(self._storage, stored, detail, tuple(images)))
        return True

    def _may_put_aside(self) -> bool:
        now, was_full = self._clock(), self._is_full
        lately = sum(0 <= now - at < _HOUR_S for at in self._put_aside_at)
        self._is_full = lately == MOST_PER_HOUR
        if self._is_full and not was_full and self._tell_too_many is not None:
            self._tell_too_many()
        return lately + len(self._looking) < MOST_PER_HOUR
