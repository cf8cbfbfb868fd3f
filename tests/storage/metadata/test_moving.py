"""Rows for another installation: every table is decided, pages hold everything, sums tell any difference."""

from typing import Any

import pytest
import sqlalchemy as sa

from storage import Conflict, Database, Digest, StoredObject, Transaction
from storage.metadata import blobs as blob_rows
from storage.metadata import moving, storages
from storage.metadata.moving import FATES, Fate, Reception, RowPage, Tally
from storage.metadata.tables import accounts, blobs, credentials, metadata
from tests.storage.metadata import samples

DIGEST = "sha256:" + "0" * 64


def test_every_table_is_decided() -> None:
    """Whoever adds a table says here whether a move takes its rows along."""
    assert set(metadata.tables) - set(FATES) == set()


def test_whatever_a_moved_row_refers_to_moves_too() -> None:
    """A row that is copied needs rows that are there."""
    for table in metadata.sorted_tables:
        if FATES[table.name] is not Fate.LEFT:
            referred = {key.column.table.name for key in table.foreign_keys}
            assert {name for name in referred if FATES[name] is Fate.LEFT} == set(), table.name


def blob(number: int, **given: Any) -> dict[str, Any]:
    """A row of a blob."""
    return {
        "id": number,
        "storage_id": 1,
        "digest": f"sha256:{number:064x}",
        "key": f"key-{number}",
        "encoding": "identity",
        "size_bytes": number,
        "stored_bytes": number,
        "created_at": 5,
        "condemned_at": None,
        "damaged_at": None,
        "verified_at": None,
        **given,
    }


def many(tx: Transaction) -> None:
    """More rows than a page has: of accounts, of blobs, and of secrets that have a parent."""
    storages.ensure(tx, "main")
    for number in range(501):
        samples.account(tx, f"user-{number}")
    tx.execute(sa.insert(blobs), [blob(number) for number in range(1, 1202)])
    row = {"account_id": 1, "kind": "refresh", "label": "", "created_at": 1}
    for number in range(1, 4):
        parent = number - 1 or None
        tx.execute(sa.insert(credentials).values(secret_hash=str(number), parent_id=parent, **row))


def everything(tx: Transaction, table: sa.Table) -> list[tuple[Any, ...]]:
    """All rows of the table by their ids."""
    return [tuple(row) for row in tx.execute(sa.select(table).order_by(table.c.id))]


async def test_pages_hold_every_row_once_in_order(database: Database) -> None:
    """Bounded pages, and a table after those that it refers to."""
    await database.transaction(many)
    found = await database.survey(lambda tx: list(moving.pages(tx, {"accounts", "blobs", "credentials"})))

    assert max(len(page.rows) for page in found) == 500
    for table in (accounts, blobs, credentials):
        rows = [row for page in found if page.table == table.name for row in page.rows]
        assert rows == await database.survey(everything, table)
    order = list(dict.fromkeys(page.table for page in found))
    assert order.index("accounts") < order.index("credentials")


def test_a_sum_tells_every_difference_but_order() -> None:
    """Another value, another type, one row more or less; in any order of pages."""
    one, two = (1, "a", None), (2, b"a", True)
    whole = Tally().plus([one, two])

    assert whole == Tally().plus([two]).plus([one])
    others: list[list[tuple[Any, ...]]] = [
        [one],
        [one, two, two],
        [(1, "a", 0), two],
        [(1, b"a", None), two],
        [(1, "b", None), two],
    ]
    assert all(Tally().plus(other) != whole for other in others)


def receive(tx: Transaction, *found: RowPage, lost: tuple[int, ...] = ()) -> dict[str, Tally]:
    """Take these pages in, in place of what was there."""
    while moving.clear_some(tx, {"accounts"}):
        pass
    reception = Reception(tx, tables={"blobs", "accounts"}, storage_ids={1: 7}, lost=lost, now=99)
    for page in found:
        reception.add(page)
    return reception.finish({"accounts": 1000, "blobs": 1000})


def page_of(*rows: dict[str, Any]) -> RowPage:
    """A page of blobs."""
    return RowPage("blobs", [tuple(row[column.name] for column in blobs.c) for row in rows])


def state(tx: Transaction) -> list[tuple[Any, ...]]:
    """What is known of the blobs here."""
    columns = (blobs.c.id, blobs.c.storage_id, blobs.c.digest, blobs.c.key, blobs.c.damaged_at)
    return [tuple(row) for row in tx.execute(sa.select(*columns).order_by(blobs.c.id))]


def furnish(tx: Transaction) -> None:
    """A storage with the number 7 and two blobs whose numbers are each other's in the old installation."""
    tx.execute(sa.insert(metadata.tables["storages"]).values(id=7, name="main"))
    tx.execute(
        sa.insert(blobs),
        [
            blob(1, storage_id=7, digest=f"sha256:{2:064x}", key="new-2"),
            blob(2, storage_id=7, digest=f"sha256:{1:064x}", key="new-1"),
            blob(3, storage_id=7, digest=f"sha256:{9:064x}", key="new-9"),
        ],
    )


async def test_blobs_take_the_old_ids_and_keep_the_new_keys(database: Database) -> None:
    """Even where both ids are taken by each other; a blob that the old one does not have is freed."""
    await database.transaction(furnish)

    await database.transaction(receive, page_of(blob(1), blob(2)))

    assert await database.survey(state) == [
        (1, 7, f"sha256:{1:064x}", "new-1", None),
        (2, 7, f"sha256:{2:064x}", "new-2", None),
    ]
    keys = sa.select(metadata.tables["removals"].c.key)
    assert await database.survey(lambda tx: tx.execute(keys).scalars().all()) == ["new-9"]


async def test_a_blob_that_is_not_here_is_asked_for_or_marked(database: Database) -> None:
    """Without bytes a row may come only as damaged, and nothing is stored otherwise."""
    await database.transaction(furnish)
    before = await database.survey(state)

    with pytest.raises(moving.Behind):
        await database.transaction(receive, page_of(blob(1), blob(4)))
    unchanged = await database.survey(state)
    await database.transaction(receive, page_of(blob(1), blob(4)), lost=(4,))

    assert unchanged == before
    assert await database.survey(state) == [
        (1, 7, f"sha256:{1:064x}", "new-1", None),
        (4, 7, f"sha256:{4:064x}", "key-4", 99),
    ]


async def test_ids_go_on_where_the_old_ones_ended(database: Database) -> None:
    """Also in tables that had no row; what is higher already stays."""
    await database.transaction(furnish)
    await database.transaction(receive)
    made = await database.transaction(samples.account, "next")
    sequences = await database.survey(moving.sequences)
    await database.transaction(receive)

    assert made.id == 1001
    assert (sequences["accounts"], sequences["blobs"], sequences["images"]) == (1001, 1000, 0)
    assert (await database.survey(moving.sequences))["accounts"] == 1001


async def test_rows_that_do_not_come_back_as_written_are_refused(database: Database) -> None:
    """The last look before the commit: whatever changes a value on its way is found, such as a column's type."""
    await database.transaction(furnish)
    before = await database.survey(state)

    with pytest.raises(Conflict, match="rows of blobs are not there as they were written"):
        await database.transaction(receive, page_of(blob(1, created_at=5.0)))

    assert await database.survey(state) == before


async def test_only_a_move_leaves_an_installation_untouched(database: Database) -> None:
    """Empty counts as untouched, blobs that were copied ahead do not matter, anything else does."""
    await database.transaction(furnish)
    empty = await database.survey(moving.is_untouched)
    await database.transaction(samples.account, "somebody")
    used = await database.survey(moving.is_untouched)

    def move(tx: Transaction) -> None:
        moving.mark(tx, receive(tx))

    await database.transaction(move)
    moved = await database.survey(moving.is_untouched)
    await database.transaction(samples.account, "another")

    assert (empty, used, moved, await database.survey(moving.is_untouched)) == (True, False, True, False)


async def test_an_installation_that_is_being_moved_to_is_closed(database: Database) -> None:
    """Whoever would use it is told what to do; a move may go on there, whatever rows are left of the one before."""
    await database.transaction(samples.account, "of an earlier move")
    await database.transaction(moving.begin)

    with pytest.raises(Conflict, match="run `sluice migrate --to` again"):
        await database.read(moving.require_whole)
    assert await database.survey(moving.is_untouched)

    def end(tx: Transaction) -> None:
        moving.mark(tx, receive(tx))

    await database.transaction(end)
    await database.read(moving.require_whole)


async def test_rows_are_cleared_a_few_at_a_time(database: Database) -> None:
    """What refers to others first, and nothing that stays; so no transaction grows with the installation."""
    await database.transaction(many)
    await database.transaction(insert_accounts, 10_100)
    left = []
    while await database.transaction(moving.clear_some, {"accounts", "credentials"}):
        left.append([await database.survey(count, table) for table in (credentials, accounts, blobs)])

    assert left == [[0, 10_601, 1201], [0, 5_601, 1201], [0, 601, 1201], [0, 0, 1201]]


def insert_accounts(tx: Transaction, number: int) -> None:
    """So many at once."""
    row = {"kind": "user", "is_admin": False, "is_auditor": False, "is_enabled": True, "epoch": 1}
    times = {"created_at": 1, "updated_at": 1}
    tx.execute(sa.insert(accounts), [{"name": f"one-of-many-{each}", **row, **times} for each in range(number)])


def count(tx: Transaction, table: sa.Table) -> int:
    """How many rows a table has."""
    return int(tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


async def test_a_blob_takes_its_old_id_where_that_is_free(database: Database) -> None:
    """Then its page finds it in its place; where it is taken, the page sorts that out."""
    await database.transaction(furnish)
    await database.transaction(moving.take_id, 3, 30)
    await database.transaction(moving.take_id, 30, 1)

    assert [row[0] for row in await database.survey(state)] == [1, 2, 30]


async def test_new_blobs_step_over_ids_that_were_taken(database: Database) -> None:
    """Blobs are copied side by side, so one may take the id that the database would give next."""

    def push(tx: Transaction, storage_id: int, number: int) -> int:
        digest = Digest.of(bytes([number]))
        stored = StoredObject(f"key-{number}", digest, 1, 1, "identity", 0)
        given = blob_rows.settle(tx, storage_id, digest, stored, broken=None, now=1)
        assert given is not None
        return given

    storage_id = await database.transaction(storages.ensure, "main")
    first = await database.transaction(push, storage_id, 1)
    await database.transaction(moving.take_id, first, first + 1)

    assert await database.transaction(push, storage_id, 2) > first + 1
