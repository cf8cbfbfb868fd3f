"""One blob on its way in from an upstream: the area that its intake fills, and what is done once it is right.

Rules
- A blob is fetched for one repository: others that want the same digest fetch it themselves, or share it by their
  rights (`Content.share`). Who claims a digest gets nothing by that.
- On one machine the lock of the growing file says who fetches. Over machines that share a database a lease does, held
  by the machine and renewed; who waits for another's looks for the published blob, and goes on without the lease when
  its holder shows no sign of life, or after `PATIENCE_S`.
- Whoever is about to fetch looks first whether the blob was published meanwhile, and is there: a row whose object was
  lost is no reason not to fetch it, but is healed by that.
- A verified file is published as it is (`Content.adopt`) for all images that asked, then it goes. Until that works it
  stays, and whoever wants the blob next reads it and publishes it.

States of the growing file are the intake's business (`storage.intake`); this one only says what a whole one becomes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from storage.arrivals_files import ArrivalsDirectory, condemn, give_up
from storage.blocking import Pool
from storage.content import Content, FoundBlob
from storage.database import Database, Transaction
from storage.digest import CANONICAL, Digest, Hasher
from storage.durable import failures_of
from storage.errors import StorageError, Unavailable
from storage.file_hashing import hash_turn
from storage.hotset_files import Entry, GrowingFile
from storage.intake import Intakes
from storage.leasing import Lease
from storage.metadata import sharing
from storage.records import BlobRecord, RepositoryRecord

PATIENCE_S: Final = 600.0
"""How long another machine may take for a blob before it is fetched here too."""
_LOOK_S: Final = 0.1
"""Between two looks at what another machine does; grows to `_LONGEST_LOOK_S`."""
_LONGEST_LOOK_S: Final = 1.0
_FILLER_LOOK_S: Final = 0.02
"""Between two looks whether the process of this machine that filled the file has published it."""
_PAUSES_S: Final = (0.5, 2.0, 8.0)
"""Before publishing is tried again."""
_TOUCH_S: Final = 10.0
"""Between two signs of life; followers wait for more than four of them (`storage.intake`)."""
_DROP_DEADLINE_S: Final = 5.0


@dataclass(slots=True)
class Counts:
    """Since the start. `waited`: fetches that waited for another machine's; `spared`: not begun, as it was here."""

    published: int = 0
    published_bytes: int = 0
    unpublished: int = 0
    waited: int = 0
    spared: int = 0


class Arrival:
    """See `intake_area.Area` and the module docstring. Lives as long as its intake, or one of its readers."""

    wants_all: Final = True

    def __init__(
        self,
        directory: ArrivalsDirectory,
        entry: Entry,
        repository: RepositoryRecord,
        *,
        content: Content,
        database: Database,
        intakes: Intakes,
        pool: Pool,
        lease: Lease | None,
        counts: Counts,
    ) -> None:
        self.entry = entry
        self.pool: Final = pool
        self.image_names: set[str] = set()
        """Images that asked for it."""
        self.is_settled = False
        """Whether everybody who asked before has a link; who asks now has to see to it."""
        self.failure: StorageError | None = None
        """Why it could not be published, the last time it was tried."""
        self._directory = directory
        self._repository = repository
        self._content = content
        self._database = database
        self._intakes = intakes
        self._lease = lease
        self._counts = counts
        self._linked: set[str] = set()

    def is_for(self, repository_id: int) -> bool:
        """Whether it arrives for that repository."""
        return self._repository.id == repository_id

    # --- before the first byte --------------------------------------------------------------------------------------

    async def claim(self, entry: Entry) -> GrowingFile | None:
        """See `intake_area.Area.claim`. An intake begins with this: what an earlier one has linked may be gone."""
        self.is_settled, self.failure = False, None
        self._linked.clear()
        return await self.pool.run(self._directory.claim, entry.name)

    @asynccontextmanager
    async def hold(self, growing: GrowingFile) -> AsyncIterator[bool]:
        """See `intake_area.Area.hold`: the lease, if machines share the database."""
        attending = trio.CancelScope()
        try:
            is_needed = await self._wait_for_turn(growing)
            if not is_needed:
                self._counts.spared += 1
                await self.give_up(growing)
            else:
                self._intakes.run_beside(partial(_attend, attending, growing, self._lease))
            yield is_needed
        finally:
            attending.cancel()
            if self._lease is not None:
                with trio.move_on_after(_DROP_DEADLINE_S, shield=True), suppress(StorageError):
                    await self._lease.drop()

    async def _wait_for_turn(self, growing: GrowingFile) -> bool:
        """Take the lease, or wait until its holder has published the blob; whether it is to be fetched here."""
        deadline, pause_s = trio.current_time() + PATIENCE_S, _LOOK_S
        has_waited = False
        while not await self._is_published():
            if self._lease is None or trio.current_time() > deadline:
                return True
            if await self._database.read(self._lease.is_free) and await self._database.transaction(self._lease.take):
                return not await self._is_published()  # who held it before us let go after it had published
            self._counts.waited += not has_waited
            has_waited = True
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_LOOK_S)
            with suppress(OSError):
                growing.touch()  # who follows the file sees that somebody is at it
        return False

    async def _is_published(self) -> bool:
        """Whether this repository has the blob by now, and its bytes are where the row says."""
        return await self._is_good(await self._database.read(sharing.held, self.entry.digest, self._repository))

    async def _is_good(self, found: BlobRecord | None) -> bool:
        """Whether it is there, and what was asked for: a manifest may name any size."""
        if found is None or found.stored.size_bytes != self.entry.size_bytes:
            return False
        return await self._content.is_whole(found)

    # --- while it grows ---------------------------------------------------------------------------------------------

    def append(self, growing: GrowingFile, parts: list[bytes], position: int) -> None:
        """See `intake_area.Area.append`."""
        self._directory.append(growing, parts, position)

    def mark_verified(self, growing: GrowingFile) -> None:
        """See `intake_area.Area.mark_verified`."""
        self._directory.mark_verified(growing)

    async def condemn(self, growing: GrowingFile) -> None:
        """See `intake_area.Area.condemn`."""
        await self.pool.run(condemn, growing)

    async def give_up(self, growing: GrowingFile) -> None:
        """See `intake_area.Area.give_up`."""
        await self.pool.run(give_up, growing)

    async def forget(self, key: str) -> None:  # noqa: ARG002  # the protocol's shape
        """See `intake_area.Area.forget`: what is published is not this area's any more."""
        await trio.lowlevel.checkpoint()

    # --- once it is right -------------------------------------------------------------------------------------------

    async def keep(self, growing: GrowingFile) -> bool:
        """See `intake_area.Area.keep`: publish it, and link it for who asked for it in this process."""
        while not growing.is_ours and growing.is_named() and not growing.try_lock():  # noqa: ASYNC110 - another process
            await trio.sleep(_FILLER_LOOK_S)
        if growing.is_ours and growing.is_named():
            return await self._publish(growing)
        return await self.link_rest()

    async def _publish(self, growing: GrowingFile) -> bool:
        for pause_s in (*_PAUSES_S, None):
            try:
                await self._adopt(growing)
            except StorageError as error:
                self.failure = error
                if not error.retryable:
                    break
                if pause_s is None or not growing.is_named():
                    self._counts.unpublished += 1
                    return False
                await trio.sleep(pause_s)
            else:
                await self.give_up(growing)
                return True
        self._counts.unpublished += 1
        await self.give_up(growing)  # no use in trying again: its repository is gone, say
        return False

    async def _adopt(self, growing: GrowingFile) -> None:
        digest, size_bytes = self.entry.digest, self.entry.size_bytes
        canonical = await self._canonical(growing)
        while names := self.image_names - self._linked:
            await self._content.adopt(
                growing.path,
                canonical,
                size_bytes,
                repository=self._repository,
                image_names=names,
                also=None if digest == canonical else digest,
            )
            self._linked |= names
        self.is_settled, self.failure = True, None
        self._counts.published += 1
        self._counts.published_bytes += size_bytes

    async def _canonical(self, growing: GrowingFile) -> Digest:
        """The blob's sha256; of one that was asked for by sha512 it is found by reading once more."""
        if self.entry.digest.algorithm == CANONICAL:
            return self.entry.digest
        hasher = Hasher()
        while hasher.size_bytes < self.entry.size_bytes:
            await self.pool.run(self._hash_turn, growing, hasher)
        return hasher.digest()

    def _hash_turn(self, growing: GrowingFile, hasher: Hasher) -> None:
        with failures_of("growing file"):
            if not hash_turn(growing.descriptor, hasher, self.entry.size_bytes):
                raise Unavailable("a growing file became shorter")

    async def link_rest(self) -> bool:
        """Link it for those who asked and have no link yet, if this repository has it by now; False if it has not."""
        while names := self.image_names - self._linked:
            for name in sorted(names):
                if await self.find(name) is None:
                    return False
                self._linked.add(name)
        self.is_settled = True
        return True

    async def find(self, image: str) -> FoundBlob | None:
        """The published blob, linked into the image, if this repository has it by now."""
        found = await self._content.share(
            self.entry.digest, repository=self._repository, image=image, may_read=_of_no_other
        )
        return found if found is not None and await self._is_good(found.record) else None


async def _attend(scope: trio.CancelScope, growing: GrowingFile, lease: Lease | None) -> None:
    """Give a sign of life to other processes and machines until cancelled, however long the source says nothing.

    In a task of the intakes, as the intake itself has no nursery.
    """
    with scope:
        async with trio.open_nursery() as nursery:
            if lease is not None:
                nursery.start_soon(lease.keep)
            while True:
                with suppress(OSError):
                    growing.touch()
                await trio.sleep(_TOUCH_S)


def _of_no_other(_tx: Transaction, _repository: RepositoryRecord) -> bool:
    """An arrival speaks for its own repository only."""
    return False
