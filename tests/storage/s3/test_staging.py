"""What staging areas in a bucket do beyond the contract: move, outlive trouble, lose to a successor."""

import itertools
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from storage import Busy, Database, Digest, Hasher, Staging, Transaction, Unavailable, UploadUnknown
from storage.blobstore import BlobStore
from storage.s3.keys import ObjectName
from storage.s3.store import S3Store
from tests.servers.bucket_server import S3Server
from tests.storage.failing import cancelled_at
from tests.storage.place import content_of, hand_over, objects_of
from tests.storage.s3.buckets import settings_for
from tests.storage.s3.mortal import LAPSE_S, PART_BYTES, Life, MortalBucket, Workers, workers_in
from tests.storage.scene import Clock

pytestmark = pytest.mark.slow

KIB = 1 << 10
MIB = 1 << 20
DATA = random.Random(4).randbytes(23 * MIB + 4321)


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture
async def workers(radosgw: S3Server, shared: str, database: Database, tmp_path: Path) -> AsyncIterator[Workers]:
    """An installation over the bucket, below a prefix of its own."""
    async with workers_in(radosgw, settings_for(radosgw, shared), database, tmp_path) as made:
        yield made


def bucket_of(store: S3Store) -> MortalBucket:
    """The bucket as this store reaches it."""
    bucket = vars(store)["_bucket"]
    assert isinstance(bucket, MortalBucket)
    return bucket


def calls(life: Life) -> list[str]:
    """Which calls of the bucket this life has seen answered."""
    names = {"put", "put_part", "copy_part", "create", "complete", "abort", "delete"}
    return [name for point in life.passed if (name := point.removeprefix("after ")) in names]


async def write(staging: Staging, data: bytes, hasher: Hasher) -> None:
    """Hand the bytes over as the server does: in threads, with a gate."""
    writer = await staging.writer(hasher)
    assert writer is not None
    for start in range(0, len(data), 512 * KIB):
        if writer.is_full:
            await writer.room()
        await hand_over(writer, data[start : start + 512 * KIB])


async def patch(store: BlobStore, data: bytes, *, create: bool = False) -> None:
    """A request that brings the next bytes of the area `session`, and settles them."""
    async with store.stage("session", create=create) as staging:
        hasher = staging.hasher()
        assert hasher is not None
        await write(staging, data, hasher)
        await staging.settle(hasher)


async def publish(store: BlobStore, data: bytes) -> str:
    """The closing request; gives the object's key, after a look at its bytes."""
    async with store.stage("session", create=False) as staging:
        assert staging.offset == len(data)
        hasher = staging.hasher()
        assert hasher is not None
        digest = hasher.digest()
        stored = await staging.publish(digest)
        await staging.discard()
    assert digest == digest_of(data)
    assert await content_of(store, stored) == data
    return stored.key


def digest_of(data: bytes) -> Digest:
    """The digest of any number of bytes."""
    hasher = Hasher()
    hasher.update(data)
    return hasher.digest()


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    """The bytes as a request's body gives them."""
    for start in range(0, len(data), 256 * KIB):
        await trio.lowlevel.checkpoint()
        yield data[start : start + 256 * KIB]


# --- moving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk_bytes", "total_bytes", "most_requests"),
    [(1, 40, 2), (KIB, 100 * KIB, 2), (300 * KIB, 9 * MIB, 9), (MIB, 23 * MIB, 12), (PART_BYTES, 23 * MIB, 16)],
)
async def test_session_moves_at_each_request(
    workers: Workers, chunk_bytes: int, total_bytes: int, most_requests: int
) -> None:
    """Requests of one session go to two replicas in turn; the blob is right, and small chunks cost no requests."""
    lives = Life(), Life()
    stores = [await workers.store(life) for life in lives]
    data = DATA[:total_bytes]
    turns = itertools.cycle(stores)
    for start in range(0, total_bytes, chunk_bytes):
        await patch(next(turns), data[start : start + chunk_bytes], create=start == 0)
    key = await publish(next(turns), data)
    assert sum(len(calls(life)) for life in lives) <= most_requests
    name = ObjectName.parse(key)
    assert workers.place.keys() == {name.blob: total_bytes, name.marker: 0}
    assert workers.place.uploads() == []


async def test_chunks_of_any_size(workers: Workers) -> None:
    """Chunks of 1 byte to 20 MiB in one session, each on another replica than the last."""
    stores = itertools.cycle([await workers.store(), await workers.store()])
    at = 0
    for size_bytes in (1, KIB, 300 * KIB, 1, PART_BYTES, KIB, 10 * MIB, 1, 5 * MIB + 7, MIB + 1):
        await patch(next(stores), DATA[at : at + size_bytes], create=at == 0)
        at += size_bytes
    await publish(next(stores), DATA[:at])


async def test_requests_of_a_stream(workers: Workers) -> None:
    """A blob that comes in one request costs its parts, and three requests more."""
    life = Life()
    store = await workers.store(life)
    data = DATA[: 4 * PART_BYTES + KIB]
    await patch(store, data, create=True)
    await publish(store, data)
    assert sorted(calls(life)) == ["complete", "create", "put", *["put_part"] * 5]


async def test_requests_on_one_replica(workers: Workers) -> None:
    """What a request leaves in the spool serves the next one: nothing is read back from the bucket."""
    life = Life()
    store = await workers.store(life)
    for start in range(0, 23 * MIB, 300 * KIB):
        await patch(store, DATA[start : min(start + 300 * KIB, 23 * MIB)], create=start == 0)
    await publish(store, DATA[: 23 * MIB])
    assert "before get" not in life.passed[: life.passed.index("before complete")]
    assert len(calls(life)) <= 10


async def test_row_does_not_grow_with_the_upload(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that have become parts are removed now and then, so neither row nor prefix holds more and more."""
    monkeypatch.setattr("storage.s3.area.MOST_SEGMENTS", 3)
    store = await workers.store()
    chunk_bytes = 3 * MIB // 2
    for start in range(0, 22 * MIB, chunk_bytes):
        await patch(store, DATA[start : start + chunk_bytes], create=start == 0)
        segments = [key for key in dict(workers.place.keys()) if key.startswith("staging/")]
        assert len(segments) <= 3 + 2 * (PART_BYTES // chunk_bytes)
    await publish(await workers.store(), DATA[: start + chunk_bytes])


async def test_small_blob_costs_two_requests(workers: Workers) -> None:
    """A blob that fits into a row is one object and one marker, written side by side at the end."""
    life = Life()
    store = await workers.store(life)
    await patch(store, DATA[: 10 * KIB], create=True)
    assert calls(life) == []
    await publish(store, DATA[: 10 * KIB])
    assert calls(life) == ["put", "put"]


# --- holders ----------------------------------------------------------------------------------------------------------


async def test_hold_that_lapsed_is_taken_over(workers: Workers) -> None:
    """A holder that was cut off loses: whatever it does then is refused, and its successor's bytes are untouched."""
    later = Clock()
    later.now = workers.clock.now + LAPSE_S
    first, second = await workers.store(), await workers.store(clock=later)
    await patch(first, DATA[:PART_BYTES], create=True)
    async with first.stage("session", create=False) as lost:
        hasher = lost.hasher()
        assert hasher is not None
        await write(lost, b"x" * (6 * MIB), hasher)
        async with second.stage("session", create=False) as staging:
            assert staging.offset == PART_BYTES
            with pytest.raises(Busy):
                await lost.settle(hasher)
            for call in (
                partial(lost.publish, hasher.digest()),
                partial(lost.write, b"x", hasher),
                partial(lost.truncate, 1),
                partial(lost.settle, hasher),
                lost.discard,
            ):
                with pytest.raises(Busy):
                    await call()
            own = staging.hasher()
            assert own is not None
            await write(staging, DATA[PART_BYTES : 12 * MIB], own)
            await staging.settle(own)
    assert isinstance(second, S3Store)
    await publish(second, DATA[: 12 * MIB])


async def test_late_part_of_a_lost_holder(workers: Workers) -> None:
    """A part that a lost holder was still sending lands beside its successor's and does not become the blob's."""
    later = Clock()
    later.now = workers.clock.now + LAPSE_S
    first, second = await workers.store(), await workers.store(clock=later)
    await patch(first, DATA[: 6 * MIB], create=True)
    await patch(first, DATA[6 * MIB : 12 * MIB])
    async with first.stage("session", create=False) as lost:
        hasher = lost.hasher()
        assert hasher is not None
        await write(lost, b"x" * (11 * MIB), hasher)
        await patch(second, DATA[12 * MIB : 18 * MIB])
    assert await publish(second, DATA[: 18 * MIB])


async def test_held_area_stays_held(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that takes longer than a hold lasts renews it, so nobody else gets in."""
    monkeypatch.setattr("storage.s3.area._RENEW_S", 0.01)
    store, other = await workers.store(), await workers.store()
    async with store.stage("session", create=True) as staging:
        await staging.write(b"one", Hasher())
        for _ in range(3):
            workers.clock.advance(LAPSE_S - 2)
            with trio.fail_after(10):
                while await held_until(workers) <= workers.clock.now + LAPSE_S - 2:  # noqa: ASYNC110 - a thread or a server tells, no event
                    await trio.sleep(0.005)
            with pytest.raises(Busy):
                async with other.stage("session", create=False):
                    pass


async def held_until(workers: Workers) -> int:
    """Until when the one area is held."""

    def look(tx: Transaction) -> int:
        return int(tx.exec_driver_sql("SELECT held_until FROM stagings").scalar_one())

    return await workers.place.database.survey(look)


async def test_settled_area_is_free_at_once(workers: Workers) -> None:
    """Who has settled lets others in, and is refused when it comes back after somebody else has changed the area."""
    first, second = await workers.store(), await workers.store()
    async with first.stage("session", create=True) as staging:
        hasher = Hasher.portable()
        await staging.write(b"one", hasher)
        await staging.settle(hasher)
        await staging.write(b"two", hasher)  # nobody came meanwhile
        await staging.settle(hasher)
        await patch(second, b"three")
        with pytest.raises(Busy):
            await staging.write(b"four", hasher)
    await publish(second, b"onetwothree")


# --- trouble ----------------------------------------------------------------------------------------------------------


async def test_bucket_fails_for_a_while(workers: Workers) -> None:
    """While parts cannot be sent writing goes on as far as there is room; settling fails, and later succeeds."""
    store = await workers.store()
    bucket = bucket_of(store)

    async def fail() -> None:
        bucket.before["put_part"] = fail
        raise Unavailable("the bucket is down")

    bucket.before["put_part"] = fail
    async with store.stage("session", create=True) as staging:
        hasher = Hasher.portable()
        await write(staging, DATA[: PART_BYTES + MIB], hasher)
        with pytest.raises(Unavailable):
            await staging.settle(hasher)
        with pytest.raises(Unavailable):
            await write(staging, DATA[PART_BYTES + MIB : 20 * MIB], hasher)
        del bucket.before["put_part"]
        reached = staging.offset
        await staging.settle(hasher)
    assert reached > PART_BYTES
    await patch(store, DATA[reached:])
    await publish(store, DATA)


async def test_part_is_sent_again(workers: Workers) -> None:
    """A part that failed once is sent again from the spool, and the client hears nothing of it."""
    store = await workers.store()

    async def fail() -> None:
        raise Unavailable("try again")

    bucket_of(store).before["put_part"] = fail
    await patch(store, DATA[: PART_BYTES + MIB], create=True)
    await publish(store, DATA[: PART_BYTES + MIB])


async def test_what_was_settled_survives_a_failing_end(workers: Workers) -> None:
    """A request that can neither settle nor go on leaves the area as it was settled before, and free."""
    store = await workers.store()
    await patch(store, DATA[: 6 * MIB], create=True)

    async def fail() -> None:
        bucket_of(store).before["put_part"] = fail
        raise Unavailable("the bucket is down")

    bucket_of(store).before["put_part"] = fail
    async with store.stage("session", create=False) as staging:
        hasher = staging.hasher()
        assert hasher is not None
        await write(staging, b"x" * (6 * MIB), hasher)
    bucket_of(store).before.clear()
    await patch(store, DATA[6 * MIB : 15 * MIB])
    await publish(store, DATA[: 15 * MIB])


async def test_upload_that_the_store_dropped(workers: Workers) -> None:
    """Parts that a lifecycle rule took away end the session: the client begins again, and nothing is published."""
    store = await workers.store()
    await patch(store, DATA[: 12 * MIB], create=True)
    for key, upload_id in workers.place.uploads():
        assert await bucket_of(store).abort(key, upload_id)
    async with store.stage("session", create=False) as staging:
        with pytest.raises(UploadUnknown):
            await staging.publish(digest_of(DATA[: 12 * MIB]))
        assert await staging.published() is None
        await staging.discard()
    assert workers.place.keys() == {}


@pytest.mark.parametrize("size_bytes", [10 * KIB, 300 * KIB, 6 * MIB])
async def test_cancelled_anywhere(workers: Workers, size_bytes: int) -> None:
    """A request that is cancelled at any of its checkpoints leaves an area that goes on, with what it says it holds."""
    store = await workers.store()
    data = DATA[:size_bytes]
    steps, was_cancelled = 0, True
    while was_cancelled:

        async def push() -> None:
            async with store.stage("session", create=True) as staging:
                hasher = staging.hasher()
                if hasher is None:
                    hasher = Hasher.portable()
                    await staging.rehash(hasher)
                await write(staging, data[staging.offset :], hasher)
                await staging.settle(hasher)
                await staging.publish(hasher.digest())

        was_cancelled = await cancelled_at(steps, push)
        async with store.stage("session", create=True) as staging:
            hasher = Hasher()
            await staging.rehash(hasher)
            assert hasher.digest() == digest_of(data[: staging.offset])
            stored = await staging.published()
            assert stored is None or await content_of(store, stored) == data
            await staging.discard()
            if stored is not None:
                await store.remove(stored.key)
        steps += 3
    await store.sweep_strays(older_than_s=-86400)
    assert workers.place.keys() == {}
    assert workers.place.uploads() == []


# --- going back -------------------------------------------------------------------------------------------------------

CUTS = [0, 1, 2 * MIB, 5 * MIB, 5 * MIB + 1, 12 * MIB, 17 * MIB, 18 * MIB - 1]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("settled", [0, 2 * MIB, 8 * MIB])
async def test_truncate_to_any_offset(workers: Workers, settled: int, cut: int) -> None:
    """Bytes in the spool, in rows, in segments and in parts are forgotten beyond any offset; what follows is right."""
    store = await workers.store()
    if settled:
        await patch(store, DATA[:settled], create=True)
    async with store.stage("session", create=True) as staging:
        hasher = staging.hasher()
        assert hasher is not None
        await write(staging, DATA[settled : 18 * MIB], hasher)
        await staging.truncate(cut)
        assert staging.offset == cut
        again = Hasher.portable()
        await staging.rehash(again)
        assert again.digest() == digest_of(DATA[:cut])
        await write(staging, DATA[cut : 18 * MIB + 5], again)
        await staging.settle(again)
    await publish(await workers.store(), DATA[: 18 * MIB + 5])


async def test_rollback_to_what_was_settled(workers: Workers) -> None:
    """Going back to where the request began neither reads nor copies anything."""
    life = Life()
    store = await workers.store(life)
    await patch(store, DATA[: 7 * MIB], create=True)
    async with store.stage("session", create=False) as staging:
        hasher = staging.hasher()
        assert hasher is not None
        await write(staging, b"x" * (12 * MIB), hasher)
        await staging.truncate(7 * MIB)
        assert not {"copy_part", "complete"} & set(calls(life))
    await patch(store, DATA[7 * MIB :])
    await publish(store, DATA)


@pytest.mark.parametrize("size_bytes", [100, 2 * MIB, 12 * MIB])
async def test_more_after_publish(workers: Workers, size_bytes: int) -> None:
    """Bytes that come after a publish, on another replica, make another object; the first one stays as it is."""
    first, second = await workers.store(), await workers.store()
    await patch(first, DATA[:size_bytes], create=True)
    async with first.stage("session", create=False) as staging:
        published = await staging.publish(digest_of(DATA[:size_bytes]))
    async with second.stage("session", create=False) as staging:
        assert await staging.published() == published
        hasher = staging.hasher()
        if hasher is None:
            hasher = Hasher.portable()
            await staging.rehash(hasher)
        await write(staging, DATA[size_bytes : size_bytes + MIB], hasher)
        await staging.settle(hasher)
        assert await staging.published() == published
    await publish(first, DATA[: size_bytes + MIB])
    assert await content_of(second, published) == DATA[:size_bytes]


async def test_publish_after_its_completion_was_lost(workers: Workers) -> None:
    """When the answer to the completion is lost with the worker, the next one finds the object as published."""
    store = await workers.store()
    await patch(store, DATA, create=True)
    dying = await workers.store(Life(name="after complete", error=Unavailable("the answer was lost")))
    async with dying.stage("session", create=False) as staging:
        with pytest.raises(Unavailable):
            await staging.publish(digest_of(DATA))
    async with store.stage("session", create=False) as staging:
        published = await staging.published()
        assert published is not None
        assert await staging.publish(digest_of(DATA)) == published
        await staging.discard()
    assert await objects_of(store) == {published.key: published}
