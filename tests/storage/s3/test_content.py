"""Content over a bucket: what a whole push, a second copy, a wrong digest and a sweep leave there."""

import hashlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from storage import Content, Database, Digest, DigestMismatch, Unavailable, UploadUnknown, hash_state
from storage.s3.keys import ObjectName
from storage.s3.store import S3Store
from tests.servers.bucket_server import S3Server
from tests.storage.failing import FailingDatabase
from tests.storage.s3.buckets import settings_for
from tests.storage.s3.mortal import LAPSE_S, PART_BYTES, Life, Workers, until_death, workers_in
from tests.storage.s3.test_staging import DATA, MIB, bucket_of, chunks_of, digest_of
from tests.storage.scene import EXPIRY_S, Scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture
async def workers(radosgw: S3Server, shared: str, database: Database, tmp_path: Path) -> AsyncIterator[Workers]:
    """An installation over the bucket, below a prefix of its own."""
    async with workers_in(radosgw, settings_for(radosgw, shared), database, tmp_path) as made:
        yield made


@pytest.fixture
async def scene(workers: Workers) -> Scene:
    """The installation as its rows tell of it."""
    return await workers.scene()


async def only(scene: Scene, digest: Digest, image: str = "app") -> dict[str, int]:
    """What lies in the bucket if there is that blob alone."""
    stored = (await scene.find(digest, image)).record.stored
    name = ObjectName.parse(stored.key)
    return {name.blob: name.size_bytes, name.marker: 0}


@pytest.mark.parametrize("size_bytes", [0, 100, 2 * MIB, 12 * MIB])
async def test_second_copy_is_dropped(workers: Workers, scene: Scene, size_bytes: int) -> None:
    """Whoever pushes what is there already leaves one object, one marker, and links of both images."""
    data = DATA[:size_bytes]
    for image in ("app", "other"):
        record = await scene.begin(image)
        async with scene.content.resume(record) as upload:
            for start in range(0, size_bytes, MIB):
                await upload.append(data[start : start + MIB])
            await scene.content.commit(upload, digest_of(data), repository=scene.repository)
        assert await scene.pull(digest_of(data), image) == data
    assert workers.place.keys() == await only(scene, digest_of(data))
    assert await workers.rows() == []


async def test_many_push_one_blob(workers: Workers, scene: Scene) -> None:
    """Twenty pushes of one blob at once, over two replicas, leave one object."""
    other = await scene.worker(store=await workers.store())
    data = DATA[: 300 * 1024]

    async with trio.open_nursery() as nursery:
        for number in range(20):
            content = other if number % 2 else scene.content
            nursery.start_soon(partial(scene.push, data, f"app{number}", content=content))
    for number in range(20):
        assert await scene.pull(digest_of(data), f"app{number}") == data
    expected = await only(scene, digest_of(data), "app0")
    await scene.sweep().run()  # superfluous copies that a push could not drop itself
    assert workers.place.keys() == expected


@pytest.mark.parametrize("size_bytes", [100, 2 * MIB, 12 * MIB])
async def test_wrong_digest_ends_the_session(workers: Workers, scene: Scene, size_bytes: int) -> None:
    """Bytes of another digest are nobody's: the session is over, and the bucket is as before."""
    record = await scene.begin()
    async with scene.content.resume(record) as upload:
        for start in range(0, size_bytes, MIB):
            await upload.append(DATA[start : start + MIB])
        await scene.content.save(upload)
    async with scene.content.resume(record) as upload:
        with pytest.raises(DigestMismatch):
            await scene.content.commit(upload, digest_of(b"other"), repository=scene.repository)
    assert (workers.place.keys(), workers.place.uploads(), await workers.rows()) == ({}, [], [])


async def test_received_blob_of_a_wrong_digest(workers: Workers, scene: Scene) -> None:
    """The same where the store compares."""
    record = await scene.begin()
    async with scene.content.resume(record) as upload:
        with pytest.raises(DigestMismatch):
            await scene.content.receive(upload, digest_of(b"other"), len(DATA), chunks_of(DATA))
    with pytest.raises(UploadUnknown):
        await scene.content.session(
            record.id, repository_id=record.repository_id, image=record.image, account_id=record.account_id
        )
    assert (workers.place.keys(), await workers.rows()) == ({}, [])


async def receive(scene: Scene, worker: Content, data: bytes) -> None:
    """A push in one request."""
    record = await scene.begin(content=worker)
    async with worker.resume(record, keep=False) as upload:
        await worker.receive(upload, digest_of(data), len(data), chunks_of(data))
        await worker.commit(upload, digest_of(data), repository=scene.repository)


@pytest.mark.parametrize("end", [None, Unavailable("nobody answered")], ids=["dies", "fails"])
async def test_received_blob_interrupted_at_every_step(workers: Workers, scene: Scene, end: Unavailable | None) -> None:
    """A push of known digest that ends at any step is stored, or can be repeated, and leaves nothing else."""
    data = DATA[: PART_BYTES + 5]
    last, is_done = 0, False
    while not is_done:
        life = Life(last, error=end)
        worker = await scene.worker(store=await workers.store(life))
        vars(worker)["_database"] = FailingDatabase(scene.database, life)

        await until_death(partial(receive, scene, worker, data))
        scene.clock.advance(LAPSE_S)
        is_done, last = not life.was_reached, last + 1
    assert await scene.pull(digest_of(data)) == data
    expected = await only(scene, digest_of(data))
    for _ in range(2):
        scene.clock.advance(EXPIRY_S + 1)
        assert (await scene.sweep().run()).trouble == []
    assert workers.place.keys() == expected
    assert await workers.rows() == []


async def test_save_that_fails(workers: Workers, scene: Scene) -> None:
    """What could not be laid down is not acknowledged; the session goes on from what was."""
    store = scene.store
    assert isinstance(store, S3Store)
    record = await scene.begin()
    async with scene.content.resume(record) as upload:
        await upload.append(DATA[:MIB])
        await scene.content.save(upload)

    async def fail() -> None:
        bucket_of(store).before["put"] = fail
        raise Unavailable("the bucket is down")

    bucket_of(store).before["put"] = fail
    async with scene.content.resume(record) as upload:
        for start in range(MIB, 4 * MIB, MIB):
            await upload.append(DATA[start : start + MIB])
        with pytest.raises(Unavailable):
            await scene.content.save(upload)
    bucket_of(store).before.clear()
    elsewhere = await scene.worker(store=await workers.store())
    async with elsewhere.resume(record) as upload:
        assert upload.offset == MIB
        await elsewhere.commit(upload, digest_of(DATA[:MIB]), repository=scene.repository)
    assert await scene.pull(digest_of(DATA[:MIB])) == DATA[:MIB]


async def test_sha512_reads_the_bytes_back(workers: Workers, scene: Scene) -> None:
    """A digest that did not run along is compared with the bytes in the bucket, whatever they were settled as."""
    data = DATA[: 11 * MIB]
    record = await scene.begin()
    async with scene.content.resume(record) as upload:
        for start in range(0, len(data), MIB):
            await upload.append(data[start : start + MIB])
        await scene.content.save(upload)
    elsewhere = await scene.worker(store=await workers.store())
    async with elsewhere.resume(record) as upload:
        claimed = Digest("sha512", hashlib.sha512(data).hexdigest())
        await elsewhere.commit(upload, claimed, repository=scene.repository)
    assert await scene.pull(claimed) == data
    assert workers.place.keys() == await only(scene, claimed)


async def test_machine_without_moving_hashes(workers: Workers, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no state of a hash can be had, this process goes on with its hasher; another one reads the bytes back."""
    monkeypatch.setattr(hash_state, "NAMES", ())
    hash_state._calls.cache_clear()
    try:
        elsewhere = await scene.worker(store=await workers.store())
        record = await scene.begin()
        at = 0
        for content, size_bytes in ((scene.content, 7 * MIB), (scene.content, MIB), (elsewhere, 4 * MIB)):
            async with content.resume(record) as upload:
                assert (upload.hasher is None) == (content is elsewhere)
                for start in range(at, at + size_bytes, MIB):
                    await upload.append(DATA[start : start + MIB])
                await content.save(upload)
            at += size_bytes
        async with scene.content.resume(record) as upload:
            await scene.content.commit(upload, digest_of(DATA[:at]), repository=scene.repository)
        assert await scene.pull(digest_of(DATA[:at])) == DATA[:at]
    finally:
        hash_state._calls.cache_clear()


async def test_abandoned_session_is_swept(workers: Workers, scene: Scene) -> None:
    """Sessions that nobody comes back to are freed, whatever they had become: rows, objects, parts, a publication."""
    for number, size_bytes in enumerate((100, MIB, 3 * MIB, 12 * MIB)):
        record = await scene.begin()
        async with scene.content.resume(record) as upload:
            for start in range(0, size_bytes, MIB):
                await upload.append(DATA[start : start + min(MIB, size_bytes)])
            await scene.content.save(upload)
            if number % 2:
                await upload.staging.publish(digest_of(DATA[:size_bytes]))
    assert workers.place.keys()
    for _ in range(2):
        scene.clock.advance(EXPIRY_S + 1)
        assert (await scene.sweep().run()).trouble == []
    assert (workers.place.keys(), workers.place.uploads(), await workers.rows()) == ({}, [], [])
