"""Moving an installation: all of it arrives, again and again, interrupted or not; nothing is overwritten unasked."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from storage import (
    Conflict,
    Database,
    Digest,
    FilesystemStore,
    Installation,
    MemoryStore,
    Move,
    Pool,
    PostgresDatabase,
    SqliteDatabase,
    Unavailable,
)
from storage.metadata import accounts, blobs, garbage, leases, storages
from storage.metadata.moving import copied_tables
from tests.storage.failing import FailingDatabase, FailingStore, Faults, cancelled_at
from tests.storage.metadata import samples
from tests.storage.pair import LAYERS, Pair, is_closed, is_whole, rows_of
from tests.storage.place import areas_of, objects_of
from tests.storage.scene import Scene

BYTES = sum(map(len, LAYERS))


async def test_all_rows_arrive_with_their_ids(pair: Pair) -> None:
    """Every copied table has the same rows; storages go by name."""
    assert await is_closed(pair)
    totals = await pair.move()

    assert await is_whole(pair)
    assert totals.rows > 20
    assert await pair.target.database.survey(storages.names) == {1: "another", 2: "main"}


async def test_all_bytes_arrive(pair: Pair) -> None:
    """Each blob can be pulled as before, by each of its digests, and pushed to as if it had always been there."""
    totals = await pair.move()
    moved = await pair.arrived()

    assert (totals.copied_blobs, totals.copied_bytes, totals.lost_blobs) == (5, BYTES, 0)
    assert [await moved.pull(Digest.of(layer)) for layer in LAYERS[:3]] == LAYERS[:3]
    assert await moved.pull(Digest.of(LAYERS[4], "sha512")) == LAYERS[4]
    assert await moved.push(LAYERS[0], "app") == Digest.of(LAYERS[0])
    assert len(await objects_of(pair.store)) == 5
    assert await areas_of(pair.store) == {}


async def test_progress_comes_to_the_size(pair: Pair) -> None:
    """Whoever watches is told of every byte, also of those that were there."""
    for _ in range(2):
        seen: list[int] = []
        move = Move(pair.source, pair.target, clock=pair.scene.clock)
        size = await move.size()
        await move.run(seen.append)

        assert size == (5, BYTES)
        assert sum(seen) == BYTES


async def test_a_second_run_brings_what_is_new_and_drops_what_is_gone(pair: Pair) -> None:
    """Blobs that are there are not copied again; those that the old one removed are freed by the new one's sweep."""
    await pair.move()
    late = await pair.scene.push(b"late", "app")
    await pair.scene.put_manifest([late], "app", tag="1.0")
    await pair.scene.unlink(Digest.of(LAYERS[4], "sha512"))
    for _ in range(3):
        pair.scene.clock.advance(pair.scene.grace_s + 1)
        await pair.scene.sweep().run()

    totals = await pair.move()
    moved = await pair.arrived()
    freed = await pair.target.database.survey(garbage.removals_due, after=(0, ""), limit=10)

    assert (totals.copied_blobs, totals.lost_blobs) == (1, 0)
    assert await moved.pull(late) == b"late"
    assert await is_whole(pair)
    assert len(freed) >= 1
    assert not {removal.key for removal in freed} & {
        blob.stored.key for blob in await pair.target.database.survey(garbage.every_blob, after=0, limit=10)
    }


async def test_ids_of_what_is_gone_are_not_given_away_again(pair: Pair) -> None:
    """A token names its account by id, so whoever is made next must get a new one."""
    database = pair.source.database
    gone = await database.transaction(samples.account, "gone")
    await database.transaction(accounts.delete, gone.id)

    await pair.move()
    made = await pair.target.database.transaction(samples.account, "next")

    assert made.id > gone.id


class Pushed(FailingDatabase):
    """The old database, to which somebody pushes just before its rows are read, so many times."""

    def __init__(self, inner: Database, push: Callable[[int], Awaitable[object]], *, times: int) -> None:
        super().__init__(inner, Faults())
        self._push = push
        self._times = times
        self.done = 0

    async def survey(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Passed on."""
        if work.__name__ == "_send" and self.done < self._times:
            self.done += 1
            await self._push(self.done)
        return await super().survey(work, *args, **kwargs)


async def test_what_is_pushed_between_bytes_and_rows_comes_too(pair: Pair) -> None:
    """No row comes without its bytes: they are looked at once more."""

    async def push(number: int) -> None:
        await pair.scene.put_manifest([await pair.scene.push(b"late %d" % number, "app")], "app", tag="late")

    old = Pushed(pair.scene.database, push, times=3)
    pair.source = Installation(old, pair.source.stores)

    totals = await pair.move()

    assert (old.done, totals.copied_blobs, totals.kept_blobs) == (3, 8, 0)
    assert await (await pair.arrived()).pull(Digest.of(b"late 3")) == b"late 3"


async def test_why_rows_cannot_be_read_is_told(pair: Pair) -> None:
    """With the words of the database, so that the operator knows what to mend."""

    async def fail(number: int) -> None:
        raise Unavailable(f"disk {number} is on fire")

    pair.source = Installation(Pushed(pair.scene.database, fail, times=1), pair.source.stores)

    with pytest.raises(Unavailable, match="disk 1 is on fire"):
        await pair.move()


async def test_a_failure_within_the_rows_is_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not covered by a word of ours on how the reading ended."""

    def pages(*_: object) -> object:
        raise Unavailable("page 7 is unreadable")

    monkeypatch.setattr("storage.metadata.moving.pages", pages)

    with pytest.raises(Unavailable, match="page 7 is unreadable"):
        await pair.move()


async def test_a_push_at_every_attempt_is_given_up(pair: Pair) -> None:
    """It ends, says what to do, and leaves the new installation closed."""

    async def push(number: int) -> None:
        await pair.scene.push(b"late %d" % number, "app")

    pair.source = Installation(Pushed(pair.scene.database, push, times=100), pair.source.stores)

    with pytest.raises(Unavailable, match="stop it, and try again"):
        await pair.move()

    assert await pair.target.database.survey(rows_of, "accounts") == []


async def test_lost_bytes_are_told_and_healed_by_a_push(pair: Pair) -> None:
    """Everything else arrives; the row comes as damaged, and the blob is told with its images."""
    await pair.lose(LAYERS[2])

    totals = await pair.move()
    moved = await pair.arrived()
    row = await pair.target.database.survey(blobs.find, moved.repository.storage_id, Digest.of(LAYERS[2]))
    await moved.push(LAYERS[2], "app")

    (lost,) = totals.lost
    assert (totals.copied_blobs, totals.lost_blobs) == (4, 1)
    assert (lost.digest, lost.storage) == (Digest.of(LAYERS[2]), "main")
    assert lost.images == ("common/hosted/app", "common/hosted/web")
    assert row is not None
    assert row.damaged_at is not None
    assert await moved.pull(Digest.of(LAYERS[2]), "web") == LAYERS[2]


async def test_lost_bytes_that_are_pushed_again_to_the_old_one_come_with_the_next_run(pair: Pair) -> None:
    """What was left out once is tried again, and the mark goes."""
    await pair.lose(LAYERS[2])
    await pair.move()
    await pair.scene.push(LAYERS[2], "app")

    totals = await pair.move()

    assert (totals.copied_blobs, totals.kept_blobs, totals.lost) == (1, 4, [])
    assert await (await pair.arrived()).pull(Digest.of(LAYERS[2])) == LAYERS[2]


async def test_copies_that_the_new_store_lost_are_made_again(pair: Pair) -> None:
    """What is on record there is looked at by its size, not believed."""
    await pair.move()
    (key,) = [stored.key for stored in (await objects_of(pair.store)).values() if stored.size_bytes == len(LAYERS[1])]
    await pair.store.remove(key)

    totals = await pair.move()

    assert (totals.copied_blobs, totals.kept_blobs) == (1, 4)
    assert await (await pair.arrived()).pull(Digest.of(LAYERS[1])) == LAYERS[1]


async def test_reread_finds_bytes_that_changed(
    directory_scene: Scene, target_database: Database, tmp_path: Path
) -> None:
    """Only then are the copies hashed again; what is wrong is copied anew."""
    store = FilesystemStore(tmp_path / "new", pool=Pool("disk", 2))
    await store.prepare()
    pair = Pair(directory_scene, target_database, store)
    await pair.furnish()
    await pair.move()
    (path,) = [path for path in (tmp_path / "new").rglob("*") if path.is_file() and path.read_bytes() == LAYERS[1]]
    path.chmod(0o600)
    path.write_bytes(LAYERS[1][:-1] + b"X")

    trusting, careful = await pair.move(), await pair.move(reread=True)

    assert (trusting.copied_blobs, careful.copied_blobs) == (0, 1)
    assert await (await pair.arrived()).pull(Digest.of(LAYERS[1])) == LAYERS[1]


async def test_bytes_stay_where_both_have_the_same_place(pair: Pair) -> None:
    """Only rows are made, with the keys that they have; what the old one stored anew or lost meanwhile is noticed."""
    same = Installation(pair.target.database, {"main": pair.scene.store})
    record = await pair.scene.begin()
    async with pair.scene.content.resume(record) as upload:
        await upload.append(b"an upload of the old installation")
    before = await objects_of(pair.scene.store)
    first = await Move(pair.source, same, shared=["main"], clock=pair.scene.clock).run()
    untouched = await objects_of(pair.scene.store) == before and record.id in await areas_of(pair.scene.store)
    await pair.lose(LAYERS[1])
    await pair.scene.push(LAYERS[1], "app")
    await pair.lose(LAYERS[2])
    second = await Move(pair.source, same, shared=["main"], reread=True, clock=pair.scene.clock).run()

    assert untouched
    assert (first.copied_blobs, first.kept_blobs, first.lost_blobs) == (0, 5, 0)
    assert (second.copied_blobs, second.kept_blobs, second.lost_blobs) == (0, 4, 1)
    old, new = [
        {blob.stored.digest: blob.stored.key for blob in await database.survey(garbage.every_blob, after=0, limit=9)}
        for database in (pair.source.database, pair.target.database)
    ]
    assert old == new
    given_up = await pair.target.database.survey(garbage.removals_due, after=(0, ""), limit=9)
    assert not {removal.key for removal in given_up} & set(old.values())


async def test_nobody_uses_half_an_installation(pair: Pair) -> None:
    """A server does not start on what an interrupted move has left; after the next run it does."""
    unreachable = Installation(pair.target.database, {"main": FailingStore(pair.store, faults := Faults())})
    faults.arm_at("after publish", Unavailable("the wire broke"))
    with pytest.raises(Unavailable):
        await Move(pair.source, unreachable, clock=pair.scene.clock).run()

    with pytest.raises(Conflict, match="run `sluice migrate --to` again"):
        await pair.arrived()
    await pair.move()

    assert await (await pair.arrived()).pull(Digest.of(LAYERS[0])) == LAYERS[0]


async def test_an_installation_that_was_used_is_not_overwritten(pair: Pair) -> None:
    """Not one that was never moved to, nor one that has been written to since; unless it is asked for."""
    await pair.target.database.transaction(samples.account, "somebody")
    with pytest.raises(Conflict, match="used on its own"):
        await pair.move()
    await pair.move(replace=True)
    await (await pair.arrived()).push(b"pushed to the new one", "app")

    with pytest.raises(Conflict, match="used on its own"):
        await pair.move()
    await pair.move(replace=True)

    assert await is_whole(pair)


async def test_leases_and_open_uploads_stay_where_they_are(pair: Pair) -> None:
    """Both belong to one installation's processes."""
    await pair.scene.begin()
    await pair.source.database.transaction(leases.take, "garbage", holder="a", now=0, lifetime_s=10)

    await pair.move()

    assert await pair.target.database.survey(rows_of, "uploads") == []
    assert await pair.target.database.survey(leases.last_run_at, "garbage") is None
    assert len(await pair.source.database.survey(rows_of, "uploads")) == 1


async def test_what_another_secret_key_sealed_stays_where_it_is(pair: Pair) -> None:
    """Nobody could open it; all else is there, and a later move with the same key brings it."""
    move = Move(pair.source, pair.target, keys=False, clock=pair.scene.clock)
    await move.run()
    without = await pair.target.database.survey(rows_of, "upstream_credentials")
    addresses = await pair.target.database.survey(rows_of, "repository_addresses")
    await pair.move()

    assert (without, len(addresses)) == ([], 1)
    assert await pair.target.database.survey(rows_of, "upstream_credentials") == [(1, 0, b"sealed")]


async def test_a_storage_that_one_of_the_two_lacks_is_named(pair: Pair) -> None:
    """Before anything moves; one that nothing uses any more is not asked for."""
    await pair.source.database.transaction(storages.ensure, "unused")
    for source, target, which in (({}, pair.target.stores, "old"), (pair.source.stores, {}, "new")):
        move = Move(Installation(pair.source.database, source), Installation(pair.target.database, target))
        with pytest.raises(Conflict, match=f"the {which} installation has no storage main"):
            await move.run()

    assert (await pair.move()).copied_blobs == 5


async def test_wherever_it_fails_the_next_run_completes_it(pair: Pair) -> None:
    """Each call to the new database and store fails in turn: nothing is half there, and nothing is left over."""
    database, store, faults = pair.target.database, pair.store, Faults()
    pair.target = Installation(FailingDatabase(database, faults), {"main": FailingStore(store, faults)})
    points = 0
    while True:
        faults.arm(points, Unavailable("the wire broke"))
        try:
            await pair.move()
        except Unavailable:
            points += 1
            assert await is_whole(pair) or await is_closed(pair)
        else:
            if faults.failed_at is None:
                break
            points += 1  # it was in freeing what is freed later
        faults.disarm()
        if points > 200:
            pytest.fail("it never completes")
    assert points > 5
    faults.disarm()
    await pair.move()

    assert await is_whole(pair)
    on_record = {blob.stored.key for blob in await database.survey(garbage.every_blob, after=0, limit=10)}
    given_up = {removal.key for removal in await database.survey(garbage.removals_due, after=(0, ""), limit=1000)}
    assert on_record <= set(await objects_of(store)) <= on_record | given_up
    assert await areas_of(store) == {}


@pytest.mark.slow
async def test_wherever_it_is_cancelled_the_next_run_completes_it(pair: Pair) -> None:
    """Whatever step is the last one: no thread is left waiting, and the rows are all there or none is."""
    steps = 0
    while await cancelled_at(steps, pair.move):
        assert await is_whole(pair) or await is_closed(pair)
        steps += 1

    assert steps > 5
    assert await is_whole(pair)


@pytest.mark.slow
@pytest.mark.postgres
async def test_there_and_back_between_sqlite_and_postgresql(
    pair: Pair, postgres_url: str, tmp_path: Path, migrated_file: Path
) -> None:
    """Each way every row is the same, and ids go on where they ended."""
    store, third = MemoryStore(clock=pair.scene.clock), MemoryStore(clock=pair.scene.clock)
    gone = await pair.source.database.transaction(samples.account, "gone")
    await pair.source.database.transaction(accounts.delete, gone.id)
    async with (
        PostgresDatabase(postgres_url) as server,
        SqliteDatabase(Path(shutil.copy(migrated_file, tmp_path / "back.db"))) as back,
    ):
        for source, target in (
            (pair.source, Installation(server, {"main": store})),
            (Installation(server, {"main": store}), Installation(back, {"main": third})),
        ):
            for _ in range(2):
                await Move(source, target, clock=pair.scene.clock).run()
            for table in sorted({*copied_tables(), "blobs"}):
                assert await target.database.survey(rows_of, table) == await source.database.survey(rows_of, table)
        assert (await server.transaction(samples.account, "next")).id == gone.id + 1
        assert (await back.transaction(samples.account, "next")).id == gone.id + 1
