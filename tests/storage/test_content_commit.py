"""The commit: whatever fails at whatever point, nothing acknowledged is lost and the same commit can be repeated."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from storage import (
    Content,
    Digest,
    StorageError,
    StorageFull,
    Transaction,
    Unavailable,
    UploadRecord,
    UploadUnknown,
)
from storage.metadata import garbage
from storage.metadata import tables as t
from storage.metadata.garbage import FIRST_REMOVAL
from tests.storage.failing import (
    FailingDatabase,
    FailingStore,
    Faults,
    InterruptedDatabase,
    cancelled_at,
    commit,
    publish_only,
)
from tests.storage.place import areas_of, objects_of
from tests.storage.scene import EXPIRY_S, Scene

Prepare = Callable[[Scene, bytes], Awaitable[None]]


async def nothing(scene: Scene, data: bytes) -> None:
    """The blob is new."""


async def stored(scene: Scene, data: bytes) -> None:
    """Another image has the blob."""
    await scene.push(data, "second")


async def condemned(scene: Scene, data: bytes) -> None:
    """Nothing links the blob any more, and the sweep has put its tombstone on it."""
    await scene.push(data, "second")
    await scene.unlink(Digest.of(data), "second")
    scene.clock.advance(scene.grace_s)
    await scene.sweep().run()


async def damaged(scene: Scene, data: bytes) -> None:
    """The blob's stored bytes were found to be wrong."""
    await scene.push(data, "second")
    found = await scene.find(Digest.of(data), "second")
    await scene.database.transaction(garbage.mark_damaged, found.record, now=scene.clock.now)


async def interrupted(scene: Scene, data: bytes) -> None:
    """An earlier push of the blob died between publish and its row."""
    await publish_only(scene, data)


CASES: dict[str, Prepare] = {each.__name__: each for each in (nothing, stored, condemned, damaged, interrupted)}


@pytest.fixture(params=CASES)
def prepare(request: pytest.FixtureRequest) -> Prepare:
    """What is there before the push."""
    return CASES[request.param]


async def commit_until_done(worker: Content, scene: Scene, record: UploadRecord, data: bytes) -> None:
    """What a client does after a failure: asks for its session, closes it again, or finds its blob there."""
    try:
        found = await worker.session(record.id, repository_id=record.repository_id, image=record.image, account_id=1)
    except UploadUnknown:
        await scene.find(Digest.of(data))  # it was committed, only the answer was lost
    else:
        await commit(worker, scene, found, data)


async def assert_nothing_is_left_over(scene: Scene) -> None:
    """Once all grace is over, the store holds one object per blob row, no staging area, and no removal waits."""
    for _ in range(3):
        scene.clock.advance(max(scene.grace_s, EXPIRY_S))
        assert (await scene.sweep().run()).trouble == []
    rows = await scene.database.survey(garbage.every_blob, after=0, limit=100)
    assert set(await objects_of(scene.store)) == {row.stored.key for row in rows}
    assert await areas_of(scene.store) == {}
    assert await scene.database.survey(garbage.removals_due, after=FIRST_REMOVAL, limit=100) == []


async def failing_worker(scene: Scene, faults: Faults) -> Content:
    """A worker whose database and store share one set of points."""
    return await scene.worker(database=FailingDatabase(scene.database, faults), store=FailingStore(scene.store, faults))


@pytest.mark.slow
async def test_failure_at_every_point(scene: Scene, prepare: Prepare) -> None:
    """Fail the commit at each of its points in turn: repeating it ends well, and no byte is left behind."""
    faults = Faults()
    worker = await failing_worker(scene, faults)
    passed: set[str] = set()
    for number in range(100):
        data = b"blob %d" % number
        await prepare(scene, data)
        record = await scene.begin()
        faults.arm(number, StorageFull("as planned") if number % 2 else Unavailable("as planned"))
        with suppress(Unavailable, StorageFull):
            await commit(worker, scene, record, data)
        failed = faults.failed_at
        faults.disarm()
        if failed is None:
            break
        passed.add(failed)
        await commit_until_done(await scene.worker(), scene, record, data)
        assert await scene.pull(Digest.of(data)) == data
        await scene.put_manifest([Digest.of(data)])
    assert {"before transaction", "after transaction", "before discard"} <= passed
    assert "after publish" in passed
    await assert_nothing_is_left_over(scene)
    for number in range(len(passed)):
        assert await scene.pull(Digest.of(b"blob %d" % number)) == b"blob %d" % number


@pytest.mark.slow
async def test_cancellation_at_every_checkpoint(scene: Scene, prepare: Prepare) -> None:
    """Cancel the commit at each of its checkpoints in turn: the same holds."""
    worker = await scene.worker()
    for steps in range(200):
        data = b"blob %d" % steps
        await prepare(scene, data)
        record = await scene.begin()
        if not await cancelled_at(steps, partial(commit, worker, scene, record, data)):
            break
        await commit_until_done(worker if steps % 2 else await scene.worker(), scene, record, data)
        assert await scene.pull(Digest.of(data)) == data
        await scene.put_manifest([Digest.of(data)])
    assert steps >= 4
    await assert_nothing_is_left_over(scene)


@pytest.mark.slow
async def test_cancelled_push_at_every_checkpoint(scene: Scene) -> None:
    """Cancel a whole request, from holding the session to letting go, at each checkpoint: the next one goes on."""
    data = b"0123456789"
    for steps in range(200):
        record = await scene.begin()

        async def push(record: UploadRecord = record) -> None:
            async with scene.content.resume(record) as upload:
                await upload.append(data[upload.offset :])
                await scene.content.save(upload)

        cancelled = await cancelled_at(steps, push)
        await push()
        async with scene.content.resume(record) as upload:
            assert upload.offset == len(data)
            await scene.content.commit(upload, Digest.of(data), repository=scene.repository)
        if not cancelled:
            break
    assert steps >= 4
    assert await scene.pull(Digest.of(data)) == data
    assert await areas_of(scene.store) == {}


@pytest.mark.slow
async def test_cancelled_session_of_one_request_at_every_checkpoint(scene: Scene) -> None:
    """Cancel a session that nobody can come back to at each checkpoint once it is held: none of its bytes stay."""
    data = b"in one go"
    held = False
    for steps in range(200):
        record = await scene.begin()

        async def push(record: UploadRecord = record) -> None:
            nonlocal held
            async with scene.content.resume(record, keep=False) as upload:
                held = True
                await upload.append(data)
                await scene.content.commit(upload, Digest.of(data), repository=scene.repository)

        cancelled = await cancelled_at(steps, push)
        assert not held or record.id not in await areas_of(scene.store)
        if not cancelled:
            break
    assert steps >= 4
    assert await scene.pull(Digest.of(data)) == data
    await assert_nothing_is_left_over(scene)


# --- pushes side by side --------------------------------------------------------------------------------------------


async def test_concurrent_uploads_of_one_digest(scene: Scene) -> None:
    """Many simultaneous pushes of the same bytes, over two workers, all end well, and one copy stays (row UP-25)."""
    data = bytes(range(256)) * 64
    workers = [scene.content, await scene.worker()]
    ready = 0
    everybody = trio.Event()

    async def push(image: str, worker: Content) -> None:
        nonlocal ready
        record = await scene.begin(image, content=worker)
        async with worker.resume(record) as upload:
            await upload.append(data)
            ready += 1
            if ready == 5:
                everybody.set()
            await everybody.wait()
            await worker.commit(upload, Digest.of(data), repository=scene.repository)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(push, f"image-{number % 4}", workers[number % 2])
    for number in range(4):
        assert await scene.pull(Digest.of(data), f"image-{number}") == data
    await scene.sweep().run()
    assert len(await objects_of(scene.store)) == 1
    await assert_nothing_is_left_over(scene)


@pytest.mark.parametrize(("image", "publishes"), [("app", False), ("second", True)])
async def test_push_of_what_others_have_takes_the_same_steps(scene: Scene, image: str, publishes: bool) -> None:  # noqa: FBT001
    """Only an image that has the blob already spares the work: how long a push takes tells nothing of other images."""
    data = b"somebody else's secret"
    await scene.push(data)
    faults = Faults()
    await scene.push(data, image, content=await scene.worker(store=FailingStore(scene.store, faults)))
    assert ("after publish" in faults.passed) == publishes
    assert await scene.pull(Digest.of(data), image) == data
    await assert_only_linked(scene, data)


async def test_superfluous_copy_is_freed(scene: Scene) -> None:
    """Of two copies that were published at once the second is put among the removals by the commit that notices."""
    data = b"twice"
    faults = Faults()
    slow = await scene.worker(store=FailingStore(scene.store, faults))
    record = await scene.begin("second")
    async with slow.resume(record) as upload:
        await upload.append(data)
        published = await upload.staging.publish(Digest.of(data))
        await scene.push(data)
        await slow.commit(upload, Digest.of(data), repository=scene.repository)
    removals = await scene.database.survey(garbage.removals_due, after=FIRST_REMOVAL, limit=10)
    assert [removal.key for removal in removals] == [published.key]
    report = await scene.sweep().run()
    assert report.trouble == []
    assert len(await objects_of(scene.store)) == 1
    assert await scene.pull(Digest.of(data)) == await scene.pull(Digest.of(data), "second") == data


@pytest.mark.parametrize("loss", ["absent", "short", "unreadable"])
async def test_push_heals_a_copy_that_nobody_noticed_was_lost(
    directory_scene: Scene, tmp_path: Path, loss: str
) -> None:
    """A push is not acknowledged for a stored copy that is not there: its own bytes take the place."""
    scene, data = directory_scene, b"thought to be there"
    worker = scene.content
    await scene.push(data)
    path = tmp_path / "blobs" / (await scene.find(Digest.of(data))).record.stored.key
    if loss == "absent":
        path.unlink()
    elif loss == "short":
        path.chmod(0o600)
        os.truncate(path, 3)
    else:
        faults = Faults()
        worker = await scene.worker(store=FailingStore(scene.store, faults))
        faults.arm_at("before stat", Unavailable("a bad sector"))
    await scene.push(data, content=worker)
    assert await scene.pull(Digest.of(data)) == data
    assert (await scene.find(Digest.of(data))).record.stored.key not in str(path)
    await assert_only_linked(scene, data)


async def interrupted_worker(scene: Scene, action: Callable[[], Awaitable[object]]) -> Content:
    """A worker whose first transaction, after it was prepared, is preceded by something else."""
    return await scene.worker(database=InterruptedDatabase(scene.database, action, before=1))


async def sweep_it_all(scene: Scene) -> None:
    """Let a blob that nothing links go, rows and bytes."""
    for _ in range(2):
        scene.clock.advance(scene.grace_s)
        await scene.sweep().run()


async def test_blob_goes_while_it_is_relied_on(scene: Scene) -> None:
    """A commit that saw a good copy, which the sweep then removed, publishes its own."""
    data = b"relied on"
    await scene.push(data, "second")
    await scene.unlink(Digest.of(data), "second")
    worker = await interrupted_worker(scene, lambda: sweep_it_all(scene))
    record = await scene.begin()
    async with worker.resume(record) as upload:
        await upload.append(data)
        await worker.commit(upload, Digest.of(data), repository=scene.repository)
    assert await scene.pull(Digest.of(data)) == data
    await assert_only_linked(scene, data)


async def test_blob_is_found_damaged_while_it_is_relied_on(scene: Scene) -> None:
    """A commit that saw a good copy, which fsck then found damaged, heals it with its own."""
    data = b"relied on"
    await scene.push(data, "second")
    worker = await interrupted_worker(scene, lambda: mark(scene, data))
    record = await scene.begin()
    async with worker.resume(record) as upload:
        await upload.append(data)
        await worker.commit(upload, Digest.of(data), repository=scene.repository)
    assert await scene.pull(Digest.of(data)) == await scene.pull(Digest.of(data), "second") == data
    await assert_only_linked(scene, data)


async def mark(scene: Scene, data: bytes) -> None:
    """What fsck does with a damaged blob."""
    found = await scene.find(Digest.of(data), "second")
    assert await scene.database.transaction(garbage.mark_damaged, found.record, now=scene.clock.now)


async def assert_only_linked(scene: Scene, data: bytes) -> None:
    """The store holds exactly the object that serves the blob."""
    await scene.sweep().run()
    assert list(await objects_of(scene.store)) == [(await scene.find(Digest.of(data))).record.stored.key]


async def test_copy_that_was_given_up_never_comes_back(scene: Scene) -> None:
    """An object that is on the list of removals is not used, even by the session that published it: it starts anew."""
    data = b"waited too long"
    record = await publish_only(scene, data)
    (stored,) = [each for each in (await objects_of(scene.store)).values() if each.digest == Digest.of(data)]
    assert await scene.database.transaction(garbage.remove_orphan, record.storage_id, stored, now=scene.clock.now)
    with pytest.raises(UploadUnknown, match="upload again"):
        await commit(scene.content, scene, record, data)
    with pytest.raises(UploadUnknown):
        await commit(scene.content, scene, record, data)
    await scene.push(data)
    await scene.sweep().run()
    assert await scene.pull(Digest.of(data)) == data
    await assert_nothing_is_left_over(scene)


async def test_copy_that_was_given_up_but_is_not_needed(scene: Scene) -> None:
    """If another push stored the blob meanwhile, such a session ends well."""
    data = b"not needed"
    record = await publish_only(scene, data)
    (stored,) = [each for each in (await objects_of(scene.store)).values() if each.digest == Digest.of(data)]
    await scene.database.transaction(garbage.remove_orphan, record.storage_id, stored, now=scene.clock.now)
    await scene.push(data, "second")
    await commit(scene.content, scene, record, data)
    await scene.sweep().run()
    assert await scene.pull(Digest.of(data)) == await scene.pull(Digest.of(data), "second") == data


async def test_interrupted_commit_then_another_digest(scene: Scene) -> None:
    """When a session was published as one blob and is then closed as a longer one, the first object is freed."""
    record = await publish_only(scene, b"short")
    async with scene.content.resume(record) as upload:
        await upload.append(b" and long")
        await scene.content.commit(upload, Digest.of(b"short and long"), repository=scene.repository)
    assert await scene.pull(Digest.of(b"short and long")) == b"short and long"
    await scene.sweep().run()
    digests = {each.digest for each in (await objects_of(scene.store)).values()}
    assert Digest.of(b"short") not in digests


@pytest.mark.parametrize("end", ["cancel", "mismatch"])
async def test_interrupted_commit_then_the_end(scene: Scene, end: str) -> None:
    """When a session that was published without a row is cancelled, or closed with a wrong digest, nothing is left."""
    record = await publish_only(scene, b"orphan")
    async with scene.content.resume(record) as upload:
        if end == "cancel":
            await scene.content.cancel(upload)
        else:
            with pytest.raises(StorageError):
                await scene.content.commit(upload, Digest.of(b"wrong"), repository=scene.repository)
    await scene.sweep().run()
    assert Digest.of(b"orphan") not in {each.digest for each in (await objects_of(scene.store)).values()}


@pytest.mark.parametrize("owner", ["accounts", "repositories"])
async def test_owner_is_deleted_while_the_upload_is_finished(scene: Scene, owner: str) -> None:
    """When its account or repository is deleted, a session ends: nothing is stored for it, and nothing is left."""
    data = b"of nobody"

    async def delete() -> None:
        await scene.database.transaction(lambda tx: tx.exec_driver_sql(f"DELETE FROM {owner}").rowcount)  # noqa: S608

    record = await scene.begin()
    worker = await interrupted_worker(scene, delete)
    with pytest.raises(UploadUnknown):
        await commit(worker, scene, record, data)
    assert await scene.database.survey(garbage.every_blob, after=0, limit=9) == []
    await assert_nothing_is_left_over(scene)


class VanishingDatabase(FailingDatabase):
    """A database in which each blob is good whenever somebody looks, and damaged whenever it is relied on."""

    async def transaction(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do it between two changes that nobody sees."""

        def vanish(tx: Transaction) -> Any:
            tx.execute(t.blobs.update().values(damaged_at=1))
            result = work(tx, *args, **kwargs)
            tx.execute(t.blobs.update().values(damaged_at=None))
            return result

        return await super().transaction(vanish)


async def test_settle_gives_up_at_last(scene: Scene) -> None:
    """A blob that goes again each time it is relied on is trouble that says so, not an endless loop."""
    data = b"again and again"
    await scene.push(data)
    worker = await scene.worker(database=VanishingDatabase(scene.database, Faults()))
    record = await scene.begin()
    with pytest.raises(Unavailable, match="over and over"):
        await commit(worker, scene, record, data)
    await commit(scene.content, scene, record, data)
    assert await scene.pull(Digest.of(data)) == data
