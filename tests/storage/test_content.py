"""Upload sessions over requests, workers and restarts; the digests that close them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa
import trio

from storage import (
    BlobUnknown,
    Busy,
    Content,
    Digest,
    DigestMismatch,
    FilesystemStore,
    Pool,
    StorageFull,
    TooManyUploads,
    Unavailable,
    UploadRecord,
    UploadUnknown,
)
from storage.metadata import tables as t
from tests.storage.directory import small_disk
from tests.storage.failing import FailingDatabase, FailingStore, Faults
from tests.storage.place import areas_of, objects_of
from tests.storage.scene import Scene

DATA = b"some bytes that make a blob"
DIGEST = Digest.of(DATA)


async def append(content: Content, record: UploadRecord, *chunks: bytes) -> None:
    """One PATCH: append and save."""
    async with content.resume(record) as upload:
        for chunk in chunks:
            await upload.append(chunk)
        await content.save(upload)


async def broken_request(content: Content, record: UploadRecord, *, before: Callable[[], object] = bool) -> None:
    """A PATCH whose client leaves after five bytes."""
    async with content.resume(record) as upload:
        await upload.append(DATA[:5])
        before()
        raise trio.BrokenResourceError("the client left")


async def session(scene: Scene, record: UploadRecord, *, content: Content | None = None) -> UploadRecord:
    """The session as the next request finds it."""
    return await (content or scene.content).session(
        record.id, repository_id=record.repository_id, image=record.image, account_id=record.account_id
    )


async def commit(scene: Scene, record: UploadRecord, digest: Digest, *, content: Content | None = None) -> None:
    """A closing PUT without a body."""
    content = content or scene.content
    async with content.resume(record) as upload:
        await content.commit(upload, digest, repository=scene.repository)


# --- sessions -------------------------------------------------------------------------------------------------------


async def test_push_and_pull(scene: Scene) -> None:
    """What was pushed is read back, byte for byte, at once, and its session has ended (rows UP-30, UP-19)."""
    record = await scene.begin()
    await append(scene.content, record, DATA[:5], DATA[5:])
    await commit(scene, await session(scene, record), DIGEST)
    assert await scene.pull(DIGEST) == DATA
    assert await areas_of(scene.store) == {}
    with pytest.raises(UploadUnknown):
        await session(scene, record)


async def test_empty_blob(scene: Scene) -> None:
    """A blob of no bytes is a blob (row UP-29)."""
    assert await scene.pull(await scene.push(b"")) == b""


async def test_new_session_stores_nothing(scene: Scene) -> None:
    """A session that never got a byte has no staging area, and says so."""
    record = await scene.begin()
    assert (await session(scene, record)) == record
    assert await areas_of(scene.store) == {}


@pytest.mark.parametrize("stranger", [{"repository_id": 99}, {"image": "other"}, {"account_id": 99}])
async def test_session_of_somebody_else(memory_scene: Scene, stranger: dict[str, int | str]) -> None:
    """To another repository, image or account the session does not exist."""
    record = replace(await memory_scene.begin(), **stranger)  # type: ignore[arg-type]
    with pytest.raises(UploadUnknown):
        await session(memory_scene, record)


async def test_session_survives_restart(scene: Scene) -> None:
    """A worker that knows only the database and the store continues and closes the session (row UP-28)."""
    record = await scene.begin()
    await append(scene.content, record, DATA[:5])
    other = await scene.worker()
    found = await session(scene, record, content=other)
    assert (found.offset_bytes, found.digest_so_far) == (5, Digest.of(DATA[:5]))
    await append(other, found, DATA[5:])
    await commit(scene, await session(scene, record), DIGEST)
    assert await scene.pull(DIGEST) == DATA


async def test_workers_take_turns(scene: Scene) -> None:
    """Each worker sees what the others appended: a digest kept from an earlier turn is not used for longer bytes."""
    workers = [scene.content, await scene.worker(), await scene.worker()]
    record = await scene.begin()
    for number in range(len(DATA)):
        worker = workers[number % 3]
        await append(worker, await session(scene, record, content=worker), DATA[number : number + 1])
    await commit(scene, await session(scene, record), DIGEST, content=workers[1])
    assert await scene.pull(DIGEST) == DATA


async def test_closing_elsewhere_reads_nothing_again(scene: Scene) -> None:
    """The digest in the row spares another worker the second read; after another boot it reads the bytes."""
    for boot, readings in ((None, 0), ("another boot of the machine", 1)):
        faults = Faults()
        other = await scene.worker(store=FailingStore(scene.store, faults))
        record = await scene.begin()
        await append(scene.content, record, DATA)
        if boot:
            await scene.database.transaction(
                lambda tx: tx.execute(sa.update(t.uploads).values(boot="another")).rowcount
            )
        await commit(scene, await session(scene, record), DIGEST, content=other)
        assert faults.passed.count("before rehash") == readings


async def test_bytes_that_a_crash_lost(directory_scene: Scene) -> None:
    """Bytes that a power failure took from staging are not believed in: the session goes on from what is there."""
    scene = directory_scene
    record = await scene.begin()
    await append(scene.content, record, DATA)
    async with scene.store.stage(record.id, create=False) as staging:
        await staging.truncate(5)
    other = await scene.worker()
    async with other.resume(await session(scene, record)) as upload:
        assert upload.offset == 5
        await upload.append(DATA[5:])
        await other.commit(upload, DIGEST, repository=scene.repository)
    assert await scene.pull(DIGEST) == DATA


async def test_bytes_of_an_unfinished_request(scene: Scene) -> None:
    """What arrived before a request broke is kept, and the next one continues there (row UP-18)."""
    record = await scene.begin()
    with pytest.raises(trio.BrokenResourceError):
        await broken_request(scene.content, record)
    found = await session(scene, record)
    assert found.offset_bytes == 5
    async with scene.content.resume(found) as upload:
        assert upload.offset == 5


async def test_cancelled_request_is_written_down(scene: Scene) -> None:
    """A request that is cancelled still writes down how far it came."""
    record = await scene.begin()
    with trio.CancelScope() as scope:
        async with scene.content.resume(record) as upload:
            await upload.append(DATA[:5])
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert (await session(scene, record)).offset_bytes == 5


async def test_trouble_while_leaving_hides_nothing(memory_scene: Scene) -> None:
    """When a broken request cannot be written down, its own error is told, and its bytes are still there."""
    scene, faults = memory_scene, Faults()
    worker = await scene.worker(database=FailingDatabase(scene.database, faults))
    record = await scene.begin()
    with pytest.raises(trio.BrokenResourceError):
        await broken_request(worker, record, before=lambda: faults.arm(0, Unavailable("gone")))
    assert faults.failed_at == "before transaction"
    async with scene.content.resume(await session(scene, record)) as upload:
        await upload.append(DATA[5:])
        await scene.content.commit(upload, DIGEST, repository=scene.repository)
    assert await scene.pull(DIGEST) == DATA


async def test_one_request_at_a_time(scene: Scene) -> None:
    """While one request holds the session, another one is turned away, on this worker and on others (row UP-26)."""
    record = await scene.begin()
    other = await scene.worker()
    async with scene.content.resume(record) as upload:
        await upload.append(DATA)
        for worker in (scene.content, other):
            with pytest.raises(Busy):
                async with worker.resume(record):
                    pass
    await commit(scene, await session(scene, record), DIGEST, content=other)


async def test_session_that_ended_meanwhile(scene: Scene) -> None:
    """A request that looked before another one finished is told that there is no session."""
    record = await scene.begin()
    await append(scene.content, record, DATA)
    await commit(scene, await session(scene, record), DIGEST)
    with pytest.raises(UploadUnknown):
        async with scene.content.resume(record):
            pass
    assert await scene.pull(DIGEST) == DATA


async def test_lost_staging_is_unknown(scene: Scene) -> None:
    """A session whose bytes were lost is unknown, so that its client begins anew (row UP-28)."""
    record = await scene.begin()
    await append(scene.content, record, DATA)
    async with scene.store.stage(record.id, create=False) as staging:
        await staging.discard()
    with pytest.raises(UploadUnknown):
        async with scene.content.resume(await session(scene, record)):
            pass


async def test_cancel_frees_everything(scene: Scene) -> None:
    """A cancelled session leaves no row and no bytes; cancelling what is done already does no harm (row UP-20)."""
    record = await scene.begin()
    await append(scene.content, record, DATA)
    async with scene.content.resume(await session(scene, record)) as upload:
        await scene.content.cancel(upload)
        await scene.content.cancel(upload)
    assert await areas_of(scene.store) == {}
    with pytest.raises(UploadUnknown):
        await session(scene, record)


async def test_cancel_after_commit_takes_nothing_back(scene: Scene) -> None:
    """Cancelling a session that was finished leaves its blob alone."""
    record = await scene.begin()
    async with scene.content.resume(record) as upload:
        await upload.append(DATA)
        await scene.content.commit(upload, DIGEST, repository=scene.repository)
        await scene.content.cancel(upload)
    await scene.sweep().run()
    assert await scene.pull(DIGEST) == DATA


async def test_session_whose_owner_is_deleted(scene: Scene) -> None:
    """A request whose session has ended under it is not told that its bytes were taken."""
    record = await scene.begin()
    async with scene.content.resume(record) as upload:
        await upload.append(DATA)
        await scene.database.transaction(lambda tx: tx.execute(t.accounts.delete()).rowcount)
        with pytest.raises(UploadUnknown):
            await scene.content.save(upload)


async def test_account_has_a_limit_of_sessions(memory_scene: Scene) -> None:
    """Beyond the limit no session is opened, finishing one makes room, and other accounts are not concerned."""
    records = [await memory_scene.begin() for _ in range(20)]
    with pytest.raises(TooManyUploads, match="20"):
        await memory_scene.begin()
    async with memory_scene.content.resume(records[0]) as upload:
        await memory_scene.content.cancel(upload)
    await memory_scene.begin()


async def test_full_disk_keeps_the_prefix(memory_scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> None:
    """When the store is full in the middle, what was taken stays, and the session goes on when there is room."""
    scene = memory_scene
    with small_disk(tmp_path_factory.mktemp("small") / "disk", size_bytes=1 << 20) as path:
        store = FilesystemStore(path, pool=Pool("disk", 2))
        await store.prepare()
        content = await scene.worker(store=store)
        data = bytes(range(256)) * 2048  # half of it
        ballast = path / "ballast"
        ballast.write_bytes(bytes(600 << 10))
        record = await scene.begin()
        with pytest.raises(StorageFull):
            await append(content, record, *(data[start : start + (1 << 16)] for start in range(0, len(data), 1 << 16)))
        kept = (await session(scene, record)).offset_bytes
        assert 0 < kept < len(data)
        ballast.unlink()
        async with content.resume(await session(scene, record)) as upload:
            assert upload.offset == kept
            await upload.append(data[kept:])
            await content.commit(upload, Digest.of(data), repository=scene.repository)
        assert [stored.size_bytes for stored in (await objects_of(store)).values()] == [len(data)]


# --- digests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_wrong_digest_ends_the_session(scene: Scene, algorithm: str) -> None:
    """Bytes that are not what was claimed are not stored, and the session has ended (row UP-16)."""
    record = await scene.begin()
    await append(scene.content, record, DATA)
    with pytest.raises(DigestMismatch):
        await commit(scene, await session(scene, record), Digest.of(b"others", algorithm))
    assert await objects_of(scene.store) == {}
    assert await areas_of(scene.store) == {}
    with pytest.raises(UploadUnknown):
        await session(scene, record)


async def test_known_digest_still_needs_the_bytes(scene: Scene) -> None:
    """Who claims the digest of a blob that is there, without its bytes, gets nothing (row ACC-08)."""
    await scene.push(DATA)
    with pytest.raises(DigestMismatch):
        await scene.push(b"", digest=DIGEST, repository=scene.other)
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST, repository=scene.other)


async def test_sha512_without_hint(scene: Scene) -> None:
    """A push may close with a sha512 that nobody announced, and is readable under it (row UP-21)."""
    digest = await scene.push(DATA, digest=Digest.of(DATA, "sha512"))
    assert await scene.pull(digest) == DATA
    with pytest.raises(BlobUnknown):  # it was not pushed under this one
        await scene.find(DIGEST)


async def test_two_algorithms_one_object(scene: Scene) -> None:
    """The same bytes under two digests are stored once and linked apart (row UP-23)."""
    other = Digest.of(DATA, "sha512")
    await scene.push(DATA)
    await scene.push(DATA, "second", digest=other)
    await scene.push(DATA, "second", digest=other)
    await scene.sweep().run()
    assert len(await objects_of(scene.store)) == 1
    assert await scene.pull(DIGEST) == await scene.pull(other, "second") == DATA
    for digest, image in ((DIGEST, "second"), (other, "app")):
        with pytest.raises(BlobUnknown):
            await scene.find(digest, image)
