"""A worker dies, or is told of a failure, between any two steps of a push to a bucket: nothing acknowledged is lost.

After each of them another worker goes on with the same session, or with a new one where the session has ended; what is
published in the end are the client's bytes, and after a sweep nothing else lies in the bucket or in rows.
"""

import random
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from storage import Busy, Content, Database, Digest, Hasher, Unavailable, UploadRecord, UploadUnknown
from storage.s3.keys import ObjectName
from tests.servers.bucket_server import S3Server
from tests.storage.failing import FailingDatabase
from tests.storage.s3.buckets import settings_for
from tests.storage.s3.mortal import LAPSE_S, Life, Workers, until_death, workers_in
from tests.storage.scene import EXPIRY_S, GRACE_S, Scene

pytestmark = pytest.mark.slow

KIB = 1 << 10
MIB = 1 << 20
DAY_S = 86400
PLANS = {
    "row": [10 * KIB],
    "rows": [1, 10 * KIB, 700 * KIB, 3],
    "object": [300 * KIB],
    "object, rows": [300 * KIB, 2 * KIB],
    "object, object": [300 * KIB, 2 * MIB],
    "parts, row": [5 * MIB + 1, 100],
    "object, parts, object": [300 * KIB, 5 * MIB, 2 * MIB],
}
"""The sizes of a client's chunks, by where they come to lie with parts of 5 MiB; the closing request has no body."""
FAILING = ("rows", "object, object", "parts, row")
"""Plans in which a step fails without anybody dying: fewer, as the steps are the same."""
ENDS = {"dies": None, "fails": Unavailable("nobody answered")}
CASES = [*((plan, "dies") for plan in PLANS), *((plan, "fails") for plan in FAILING)]


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture
async def workers(radosgw: S3Server, shared: str, database: Database, tmp_path: Path) -> AsyncIterator[Workers]:
    """An installation over the bucket, below a prefix of its own."""
    async with workers_in(radosgw, settings_for(radosgw, shared), database, tmp_path) as made:
        yield made


class Client:
    """Sends a blob in chunks to whichever worker; remembers what was acknowledged."""

    def __init__(self, scene: Scene, plan: list[int], seed: int) -> None:
        self._scene = scene
        self._plan = plan
        self.data = random.Random(seed).randbytes(sum(plan))
        self.digest = _digest(self.data)
        self.record: UploadRecord | None = None
        self.acknowledged = 0
        self.is_stored = False

    async def go(self, worker: Content) -> None:
        """Everything from where it stands, on one worker."""
        if self.record is None:
            self.record = await self._scene.begin(content=worker)
        starts = [sum(self._plan[:number]) for number in range(len(self._plan) + 1)]
        for _, stop in pairwise(starts):
            if stop > self.acknowledged:
                await self._patch(worker, stop)
        await self._put(worker)

    async def _patch(self, worker: Content, stop: int) -> None:
        assert self.record is not None
        async with worker.resume(self.record) as upload:
            assert self.acknowledged <= upload.offset <= stop
            for at in range(upload.offset, stop, MIB):
                await upload.append(self.data[at : min(at + MIB, stop)])
            await worker.save(upload)
        self.acknowledged = stop

    async def _put(self, worker: Content) -> None:
        assert self.record is not None
        async with worker.resume(self.record) as upload:
            assert upload.offset == len(self.data)
            await worker.commit(upload, self.digest, repository=self._scene.repository)
        self.is_stored = True

    async def finish(self, worker: Content) -> None:
        """Go on after a failure as a client does; a session that ended without an answer has stored the blob."""
        for _ in range(3):
            try:
                await self.go(worker)
            except UploadUnknown:
                assert self.acknowledged == len(self.data)
                return
            except Busy:
                self._scene.clock.advance(LAPSE_S)
            else:
                return
        raise AssertionError("the session stays busy")


def _digest(data: bytes) -> Digest:
    hasher = Hasher()
    hasher.update(data)
    return hasher.digest()


async def assert_clean(workers: Workers, scene: Scene, digest: Digest | None) -> None:
    """After sweeps and their grace periods there is the blob, or nothing, and nothing else."""
    for _ in range(2):
        scene.clock.advance(max(EXPIRY_S, GRACE_S) + 1)
        report = await scene.sweep().run()
        assert report.trouble == []
    store = await workers.store()
    await store.sweep_strays(older_than_s=-DAY_S)
    expected: dict[str, int] = {}
    if digest is not None:
        found = await scene.find(digest)
        name = ObjectName.parse(found.record.stored.key)
        expected = {name.blob: name.size_bytes, name.marker: 0}
    assert workers.place.keys() == expected
    assert workers.place.uploads() == []
    assert await workers.rows() == []


@pytest.mark.parametrize(("plan", "end"), CASES)
async def test_push_interrupted_at_every_step(workers: Workers, plan: str, end: str) -> None:
    """Whatever step is a worker's last, or fails once: the push is finished elsewhere and leaves only its blob."""
    scene = await workers.scene()
    last, is_done = 0, False
    while not is_done:
        life = Life(last, error=ENDS[end])
        client = Client(scene, PLANS[plan], seed=last)
        store = await workers.store(life)
        worker = await scene.worker(store=store)
        vars(worker)["_database"] = FailingDatabase(scene.database, life)
        await until_death(lambda client=client, worker=worker: client.go(worker))  # type: ignore[misc]
        if life.is_over:
            scene.clock.advance(LAPSE_S)
        if not client.is_stored:
            await client.finish(scene.content if life.is_over or last % 2 else worker)
        assert await scene.pull(client.digest) == client.data, life.failed_at
        is_done = not life.was_reached
        await scene.unlink(client.digest)
        last += 1
    assert last > 5
    await assert_clean(workers, scene, None)
