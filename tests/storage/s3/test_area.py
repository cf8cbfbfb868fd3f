"""A holder that is overtaken: it stands still for longer than its hold lasts, another goes on, and it wakes up.

As a process that was stopped, or cut off from the database, at any step of a push to a bucket. Whoever was told that
the blob is stored was told the truth, a day later too. What is written when all is over may stay, and costs room.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from copy import copy
from pathlib import Path
from typing import TypeVar

import pytest

from storage import Content, Database, Digest, StorageError, SweepReport, UploadRecord
from storage.digest import Hasher
from tests.servers.bucket_server import S3Server
from tests.storage.failing import FailingDatabase
from tests.storage.s3.buckets import settings_for
from tests.storage.s3.mortal import LAPSE_S, Life, Workers, workers_in
from tests.storage.scene import EXPIRY_S, Scene

pytestmark = pytest.mark.slow

T = TypeVar("T")
KIB = 1 << 10
MIB = 1 << 20
DAY_S = 86400
PLANS = {
    "nothing settled": ([], 300 * KIB),
    "row": ([10 * KIB], 0),
    "object": ([300 * KIB], 0),
    "parts, row": ([5 * MIB + 1, 100], 0),
    "checked by the store": ([], 5 * MIB + 1),
}
"""The sizes of a client's chunks, and what the closing request brings, by where they come to lie."""


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture
async def workers(radosgw: S3Server, shared: str, database: Database, tmp_path: Path) -> AsyncIterator[Workers]:
    """An installation over the bucket, below a prefix of its own."""
    async with workers_in(radosgw, settings_for(radosgw, shared), database, tmp_path) as made:
        yield made


class Overtaken(Life):
    """A worker that stands still before or after one of its calls, while something happens, and then goes on."""

    def __init__(self, step: int, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._left = step
        self._meanwhile = meanwhile

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Two steps."""
        await self._step(f"before {name}")
        result = await call()
        await self._step(f"after {name}")
        return result

    async def _step(self, name: str) -> None:
        self._left -= 1
        if self._left == -1:
            self.was_reached, self.failed_at = True, name
            await self._meanwhile()


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), MIB):
        yield data[at : at + MIB]


class Client:
    """Sends a blob in chunks to whichever worker; remembers what it was told."""

    def __init__(self, scene: Scene, record: UploadRecord, plan: tuple[list[int], int], seed: int) -> None:
        chunks, self._last = plan
        self._scene = scene
        self.record = record
        self._stops = [sum(chunks[: number + 1]) for number in range(len(chunks))]
        self.data = random.Random(seed).randbytes(sum(chunks) + self._last)
        hasher = Hasher()
        hasher.update(self.data)
        self.digest: Digest = hasher.digest()
        self.acknowledged = 0
        self.is_stored = False

    async def go(self, worker: Content) -> None:
        """Everything from where it stands."""
        for stop in self._stops:
            if stop > self.acknowledged:
                async with worker.resume(self.record) as upload:
                    assert self.acknowledged <= upload.offset
                    for at in range(upload.offset, stop, MIB):
                        await upload.append(self.data[at : min(at + MIB, stop)])
                    await worker.save(upload)
                    self.acknowledged = stop
        async with worker.resume(self.record) as upload:
            assert self.acknowledged <= upload.offset
            if upload.verifies(self.digest, len(self.data)):
                await worker.receive(upload, self.digest, len(self.data), _chunks(self.data))
            for at in range(upload.offset, len(self.data), MIB):
                await upload.append(self.data[at : at + MIB])
            await worker.commit(upload, self.digest, repository=self._scene.repository)
        self.is_stored = True

    async def try_to_go(self, worker: Content) -> None:
        """As `go`; what it is told instead of success is the client's to live with."""
        try:
            await self.go(worker)
        except StorageError:
            return

    async def ask(self, worker: Content) -> None:
        """Look how far it came."""
        try:
            async with worker.resume(self.record) as upload:
                assert upload.offset >= self.acknowledged
        except StorageError:
            return

    async def cancel(self, worker: Content) -> None:
        """End the session."""
        try:
            async with worker.resume(self.record) as upload:
                await worker.cancel(upload)
        except StorageError:
            return


MEANWHILE: dict[str, Callable[[Client, Content], Awaitable[None]]] = {
    "asked": Client.ask,
    "pushed": Client.try_to_go,
    "cancelled": Client.cancel,
}


async def tidy(scene: Scene) -> None:
    """What the sweep does with sessions and staging areas a day later; links stay."""
    scene.clock.advance(EXPIRY_S + 1)
    sweep, report = scene.sweep(), SweepReport()
    for step in ("expire_uploads", "drop_lost_staging", "remove_bytes"):
        await sweep.steps()[step](report)
    assert report.trouble == []


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("plan", PLANS)
async def test_holder_overtaken_at_every_step(workers: Workers, plan: str, meanwhile: str) -> None:
    """Wherever a worker stands still, and whatever another does then: what either of them acknowledged is there."""
    scene = await workers.scene()
    step, is_done = 0, False
    while not is_done:
        store = await workers.store(Life())
        first = await scene.worker(store=store)
        client = Client(scene, await scene.begin(content=first), PLANS[plan], seed=step)
        second = copy(client)

        async def overtake(client: Client = client, second: Client = second) -> None:
            scene.clock.advance(LAPSE_S)
            second.acknowledged = client.acknowledged
            await MEANWHILE[meanwhile](second, scene.content)

        life = Overtaken(step, overtake)
        overtaken = FailingDatabase(scene.database, life)
        vars(first)["_database"] = vars(vars(store)["_stagings"])["_database"] = overtaken
        vars(store)["_bucket"].life = life
        await client.try_to_go(first)
        if not (client.is_stored or second.is_stored) and meanwhile != "cancelled":
            client.acknowledged = max(client.acknowledged, second.acknowledged)
            scene.clock.advance(LAPSE_S)
            await client.go(scene.content)
        await tidy(scene)
        if client.is_stored or second.is_stored:
            assert await scene.pull(client.digest) == client.data, f"{life.failed_at}, step {step}"
            await scene.unlink(client.digest)
        is_done = not life.was_reached
        step += 1
    assert step > 5
    await (await workers.store()).sweep_strays(older_than_s=-DAY_S)
    assert workers.place.uploads() == []
    assert await workers.rows() == []
