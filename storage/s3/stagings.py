"""Holds on the staging areas of one bucket, kept in the database: one holder at a time, over all replicas.

A hold lasts `LIFETIME_S` by the database's clock and is renewed while it is used; one that was not renewed may be taken
by another, and then every call for it raises `Busy`. Knows what a state is called, not what it says.
"""

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from storage.blobstore import StoredObject
from storage.database import Database, Transaction
from storage.errors import Busy, UploadUnknown
from storage.metadata import clock as clocks
from storage.metadata import garbage, stagings, storages
from storage.metadata.stagings import StagingRow
from storage.s3.keys import blob_key
from storage.s3.staging_state import StagingState

LIFETIME_S: Final = 10
"""How long an area stays held whose holder died; clients retry for longer."""
NUMBERS: Final = 16
"""Numbers of parts that a hold has from the beginning, and gets each time: one transaction per 128 MiB at least."""
TOKEN_CHARACTERS: Final = 36
"""Length of the word that names a hold; ids of objects that the hold makes begin with it."""
_PAGE: Final = 500


@dataclass(slots=True)
class Hold:
    """One hold. `token` names it, and the object that it may write; `version` is that of the row it last saw.

    It may use the numbers `next_number` to `last_number` for parts; no other holder does, before or after.
    """

    staging_id: str
    token: str
    version: int
    next_number: int
    last_number: int


class Stagings:
    """The areas of the storage called `name`. `prepare` first; `clock` tells the time where the database does not."""

    def __init__(self, database: Database, name: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._name = name
        self._clock = clock
        self._storage_id = 0

    async def prepare(self) -> None:
        """Find the storage's row, or make it."""
        self._storage_id = await self._database.transaction(storages.ensure, self._name)

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    async def take(self, staging_id: str, *, create: bool) -> tuple[Hold, StagingState]:
        """Hold an area; with `create`, a new one if there is none. Raises `UploadUnknown` or `Busy`.

        A holder that let its hold lapse may have written the object of its token: it is among the litter then.
        """
        if not create and await self._database.read(stagings.find, self._storage_id, staging_id) is None:
            raise UploadUnknown(f"no staging area {staging_id}")
        token = str(uuid.uuid4())
        return await self._database.transaction(self._take, staging_id, token, create=create)

    def _take(self, tx: Transaction, staging_id: str, token: str, *, create: bool) -> tuple[Hold, StagingState]:
        now = clocks.now(tx, self._clock)
        row = stagings.find(tx, self._storage_id, staging_id)
        if row is None:
            if not create:
                raise UploadUnknown(f"no staging area {staging_id}")
            state = StagingState(reserved=NUMBERS)
            row = StagingRow(1, token, now + LIFETIME_S, state.dump(), now)
            stagings.insert(tx, self._storage_id, staging_id, row)
            return Hold(staging_id, token, row.version, 1, NUMBERS), state
        if row.is_held(now=now, lifetime_s=LIFETIME_S):
            raise Busy(f"staging area {staging_id} is held by somebody else")
        state = _after(row)
        stagings.take(
            tx,
            self._storage_id,
            staging_id,
            seen=row,
            holder=token,
            until=now + LIFETIME_S,
            state=state.dump(),
            now=now,
        )
        return Hold(staging_id, token, row.version + 1, state.reserved - NUMBERS + 1, state.reserved), state

    async def renew(self, hold: Hold) -> None:
        """Hold on for another lifetime; `Busy` if the hold was lost."""
        if not await self._database.transaction(self._renew, hold):
            raise _lost(hold)

    def _renew(self, tx: Transaction, hold: Hold) -> bool:
        now = clocks.now(tx, self._clock)
        return stagings.renew(tx, self._storage_id, hold.staging_id, holder=hold.token, until=now + LIFETIME_S, now=now)

    async def save(
        self, hold: Hold, state: StagingState, *, add: Mapping[int, bytes] | None = None, let_go: bool = False
    ) -> None:
        """Write the state with its pieces, in one transaction, and let go or hold on; `Busy` if the hold was lost.

        `add` has the bytes of the state's segments that are new and lie in rows, by their start.
        """
        version = await self._database.transaction(self._save, hold, state, add=add or {}, let_go=let_go)
        if version is None:
            raise _lost(hold)
        hold.version = version

    def _save(
        self, tx: Transaction, hold: Hold, state: StagingState, *, add: Mapping[int, bytes], let_go: bool
    ) -> int | None:
        now = clocks.now(tx, self._clock)
        kept: Collection[int] = [each.start for each in state.segments if each.key is None and each.start not in add]
        return stagings.save(
            tx,
            self._storage_id,
            hold.staging_id,
            holder=hold.token,
            state=state.dump(),
            until=None if let_go else now + LIFETIME_S,
            keep=kept,
            add=add,
            now=now,
        )

    async def release(self, hold: Hold) -> None:
        """Let go; the area stays as it was saved."""
        await self._database.transaction(stagings.release, self._storage_id, hold.staging_id, holder=hold.token)

    async def delete(self, hold: Hold) -> None:
        """Forget the area; `Busy` if the hold was lost."""
        if not await self._database.transaction(stagings.delete, self._storage_id, hold.staging_id, holder=hold.token):
            raise _lost(hold)

    async def contents(self, staging_id: str) -> Mapping[int, bytes]:
        """The bytes of all segments that lie in rows, by their start; up to a part's size together."""
        return await self._database.survey(stagings.contents, self._storage_id, staging_id)

    async def is_used(self, stored: StoredObject) -> bool:
        """Whether a blob row has this object, or its removal is on record."""
        return await self._database.read(garbage.is_key_used, self._storage_id, stored)

    async def holders(self) -> frozenset[str]:
        """The tokens of all holds, lapsed ones that nobody took over among them."""
        return frozenset(await self._database.survey(stagings.holders, self._storage_id))

    async def upload_ids(self) -> frozenset[str]:
        """The multipart uploads that some area knows of. Those that a hold has begun, it tells with its next save."""
        found: set[str] = set()
        after = ""
        while page := await self._database.survey(stagings.states, self._storage_id, after=after, limit=_PAGE):
            found.update(StagingState.load(text).upload_id or "" for _, text in page)
            after = page[-1][0]
        return frozenset(found)

    async def areas(self) -> AsyncGenerator[tuple[str, int], None]:
        """All areas as (id, last change in Unix seconds)."""
        after = ""
        while page := await self._database.survey(stagings.areas, self._storage_id, after=after, limit=_PAGE):
            for area in page:
                yield area
            after = page[-1][0]


def _after(row: StagingRow) -> StagingState:
    """The state for the next holder."""
    state = StagingState.load(row.state)
    state = replace(state, reserved=state.reserved + NUMBERS)
    return state if row.holder is None else replace(state, litter=(*state.litter, blob_key(row.holder)))


def _lost(hold: Hold) -> Busy:
    return Busy(f"staging area {hold.staging_id} is held by somebody else by now")
