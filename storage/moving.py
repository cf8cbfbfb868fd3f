"""Moving an installation: all blobs and rows of one database and its stores into another, which may be of other kinds.

The order is that of every commit: bytes first, each durable and on record as it comes, then all rows in one
transaction, so that the new installation is either whole or closed (`moving.require_whole`). Run again, it goes on
where it was interrupted, or brings what was pushed since; it never changes the old installation, which may serve
meanwhile.

Decides nothing about configuration or secret keys: both installations are given, open.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Final

import trio

from storage.database import Transaction
from storage.errors import Conflict, StorageError, Unavailable
from storage.metadata import moving, storages
from storage.moving_blobs import BlobMover, Installation, MoveTotals, drop_leftovers
from storage.moving_rows import Gone, Pipe

# Between the last look at the blobs and the snapshot of the rows somebody may push; each attempt brings only that.
_ATTEMPTS: Final = 10
# Pages on their way between the two databases: one being read, one being written.
_PAGES: Final = 1
# What the installation's secret key sealed: of no use under another one.
_SEALED: Final = frozenset({"signing_keys", "upstream_credentials"})


class Move:
    """One run. `keys`: whether what is sealed moves too, which is of use only if both have one secret key.

    Storages in `shared` have one place in both installations: their bytes stay, and from the end of the move on only
    the new one may write there. `replace` allows to overwrite an installation that has been used on its own. `reread`
    hashes every blob of the new installation again, in place of comparing sizes. `workers` blobs are copied at once.
    """

    def __init__(
        self,
        source: Installation,
        target: Installation,
        *,
        keys: bool = True,
        shared: Collection[str] = (),
        replace: bool = False,
        reread: bool = False,
        workers: int = 4,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._target = target
        self._tables = frozenset(moving.copied_tables() | {"blobs"}) - (frozenset() if keys else _SEALED)
        self._shared = frozenset(shared)
        self._replace = replace
        self._reread = reread
        self._workers = workers
        self._clock = clock
        self.totals = MoveTotals()

    async def size(self) -> tuple[int, int]:
        """How many blobs there are to look at, and their bytes: what `progress` will come to, more or less."""
        return await self._source.database.survey(moving.blob_total)

    async def run(self, progress: Callable[[int], None] = lambda _: None) -> MoveTotals:
        """Move everything. When it returns, the new installation is whole, but for what `totals.lost` names.

        `progress` is told of each few bytes of blobs that are dealt with.

        Raises `Conflict` if the new installation has been used on its own, or a storage is not configured in it;
        `Unavailable` and `StorageFull`, after which running it again goes on. Cancelled, it can be run again too.
        """
        await self._require_untouched()
        names, storage_ids = await self._match_storages()
        await self._target.database.transaction(self._begin)
        own = {name: store for name, store in self._target.stores.items() if name not in self._shared}
        await drop_leftovers(
            Installation(self._target.database, own),
            {names[old]: new for old, new in storage_ids.items()},
            now=int(self._clock()),
        )
        mover = BlobMover(
            self._source,
            self._target,
            storage_ids=storage_ids,
            names=names,
            shared=self._shared,
            totals=self.totals,
            reread=self._reread,
            workers=self._workers,
            progress=progress,
            clock=self._clock,
        )
        for _ in range(_ATTEMPTS):
            await mover.run()
            try:
                self.totals.rows = await self._move_rows(storage_ids, mover.lost)
            except moving.Behind:
                continue
            return self.totals
        raise Unavailable(
            "the old installation is pushed to faster than its blobs can be copied: stop it, and try again"
        )

    async def _require_untouched(self) -> None:
        if not self._replace and not await self._target.database.survey(moving.is_untouched):
            raise Conflict(
                "the new installation has been used on its own: moving there would overwrite that, see --replace"
            )

    def _begin(self, tx: Transaction) -> None:
        if not self._replace and not moving.is_untouched(tx):
            raise Conflict("somebody else has just used the new installation: stop its servers, and try again")
        moving.begin(tx)

    async def _match_storages(self) -> tuple[dict[int, str], dict[int, int]]:
        """Names of the old storages that are in use, by their id, and the new id of each."""
        known = await self._source.database.read(storages.names)
        used = await self._source.database.survey(moving.used_storages)
        for installation, which in ((self._source, "old"), (self._target, "new")):
            if missing := sorted(used - set(installation.stores)):
                raise Conflict(
                    f"the {which} installation has no storage {', '.join(missing)}: configure it under storage.storages"
                )
        names = {old: name for old, name in known.items() if name in used}

        def ensure(tx: Transaction) -> dict[int, int]:
            return {old: storages.ensure(tx, name) for old, name in names.items()}

        return names, await self._target.database.transaction(ensure)

    # --- rows -------------------------------------------------------------------------------------------------------

    async def _move_rows(self, storage_ids: Mapping[int, int], lost: Collection[int]) -> int:
        """Replace the rows by one snapshot of the old ones; gives how many. Raises `moving.Behind`."""
        while await self._target.database.transaction(moving.clear_some, self._tables):
            pass
        pipe: Pipe[moving.RowPage | dict[str, int]] = Pipe(_PAGES)
        moved = 0
        failure: Exception | None = None

        async def send() -> None:
            try:
                await self._source.database.survey(_send, pipe, self._tables)
            except StorageError as error:
                pipe.fail(error)  # it is raised where the rows are awaited
            finally:  # whoever waits for rows, in a thread that cannot be cancelled, must hear of the end
                pipe.fail(Unavailable("the rows of the old installation could not be read to their end"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            try:
                moved = await self._target.database.transaction(self._receive, pipe, storage_ids, lost)
            except (StorageError, moving.Behind) as error:
                failure = error  # outside of the nursery it is no group
            finally:
                pipe.leave()
        if failure is not None:
            raise failure
        return moved

    def _receive(
        self,
        tx: Transaction,
        pipe: "Pipe[moving.RowPage | dict[str, int]]",
        storage_ids: Mapping[int, int],
        lost: Collection[int],
    ) -> int:
        reception = moving.Reception(
            tx, tables=self._tables, storage_ids=storage_ids, lost=lost, now=int(self._clock())
        )
        highest: dict[str, int] = {}
        for item in pipe:
            if isinstance(item, dict):
                highest = item
            else:
                reception.add(item)
        found = reception.finish(highest)
        moving.mark(tx, found)
        return sum(each.count for each in found.values())


def _send(tx: Transaction, pipe: "Pipe[moving.RowPage | dict[str, int]]", tables: Collection[str]) -> None:
    """In a thread: everything of one snapshot."""
    with suppress(Gone):
        pipe.put(moving.sequences(tx))
        pages: Iterator[moving.RowPage] = moving.pages(tx, tables)
        for page in pages:
            trio.from_thread.check_cancelled()
            pipe.put(page)
        pipe.complete()
