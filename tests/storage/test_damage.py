"""Wrong bytes that a pull finds: the answer is broken off, the object put aside, and the next push heals."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from storage import (
    BlobUnknown,
    Damaged,
    DamageReports,
    Database,
    Digest,
    FoundDamage,
    HotSetStore,
    Intakes,
    Span,
    StoredObject,
    Unavailable,
)
from storage.damage import MOST_PER_HOUR, judge, set_aside
from storage.metadata import blobs
from storage.records import BlobRecord
from tests.storage.hotset_place import MIB, OddStore, hot_set
from tests.storage.place import objects_of, put
from tests.storage.scene import Clock, Scene

DATA = bytes(range(256)) * 4 * 1024
DIGEST = Digest.of(DATA)


@dataclass
class Front:
    """A scene whose store is a hot set in front of an odd origin."""

    scene: Scene
    origin: OddStore
    intakes: Intakes
    reports: DamageReports
    told: list[FoundDamage] = field(default_factory=list)

    async def row(self) -> BlobRecord:
        """The blob's row."""
        storage_id = self.scene.content.storage_id("main")
        found = await self.scene.database.read(blobs.find, storage_id, DIGEST)
        assert found is not None
        return found

    async def broken_pull(self) -> int:
        """Pull what is damaged; gives how many bytes came."""
        found = await self.scene.find(DIGEST)
        got: list[bytes] = []
        with pytest.raises(Damaged):
            await self._pull_into(got)
        await self.intakes.wait_idle()
        assert found.size_bytes == len(DATA)
        return len(b"".join(got))

    async def _pull_into(self, got: list[bytes]) -> None:
        found = await self.scene.find(DIGEST)
        async with self.scene.content.open(found, Span(0, found.size_bytes)) as reader:
            async for chunk in reader.chunks():
                got.append(chunk)


@pytest.fixture
async def front(database: Database, tmp_path: Path) -> AsyncIterator[Front]:
    """The blob was pushed and nobody has pulled it."""
    origin = OddStore()
    async with Intakes.open() as intakes:
        store = HotSetStore(origin, await hot_set(tmp_path / "hot"), intakes)
        scene = await Scene(database, store, Clock()).prepare()
        told: list[FoundDamage] = []
        store.on_damage = reports = DamageReports(
            database, scene.content, storage="main", origin=origin, tell=told.append, clock=scene.clock
        )
        await scene.push(DATA)
        yield Front(scene, origin, intakes, reports, told)


async def test_wrong_bytes_are_put_aside_and_a_push_heals(front: Front) -> None:
    """The pull is broken off before its end, then nobody finds the blob, and after the next push it is right again."""
    before = (await front.row()).stored
    front.origin.behaviour.flips = {MIB // 2}
    assert await front.broken_pull() < len(DATA)
    assert (await front.row()).damaged_at == front.scene.clock.now
    assert await objects_of(front.origin) == {}
    with pytest.raises(BlobUnknown):
        await front.scene.find(DIGEST)
    assert [(each.stored, each.storage, each.images) for each in front.told] == [
        (before, "main", ("common/hosted/app",))
    ]
    front.origin.behaviour.flips = set()
    await front.scene.push(DATA)
    assert await front.scene.pull(DIGEST) == DATA
    assert (await front.row()).damaged_at is None


async def test_wrong_size_is_put_aside_too(front: Front) -> None:
    """An object that lost bytes is damaged as soon as it is opened."""
    key = (await front.row()).stored.key
    found = front.origin._objects[key]
    front.origin._objects[key] = type(found)(found.digest, found.content[:-1], found.created_at)
    assert await front.broken_pull() == 0
    assert (await front.row()).damaged_at is not None


async def test_bytes_that_were_wrong_on_the_way_only(front: Front) -> None:
    """What is right at the second look is left alone, and the next pull gets it."""
    front.origin.behaviour.flips = {5}
    front.origin.behaviour.flips_once = True
    assert await front.broken_pull() < len(DATA)
    assert (front.reports.doubted, front.reports.confirmed, front.told) == (1, 0, [])
    assert (await front.row()).damaged_at is None
    assert await front.scene.pull(DIGEST) == DATA


async def test_report_of_an_object_that_went(front: Front) -> None:
    """An object that is gone, or was replaced by a push, is no damage."""
    row = await front.row()
    old = StoredObject("another-key", DIGEST, len(DATA), len(DATA), "identity", 0)
    assert not await front.reports(old)
    await front.origin.remove(row.stored.key)
    assert not await front.reports(row.stored)
    assert (await front.row()).damaged_at is None


async def test_reported_twice(front: Front) -> None:
    """The second report of the same object changes nothing and is told to nobody."""
    row = await front.row()
    front.origin.behaviour.flips = {5}
    assert await front.reports(row.stored)
    assert not await front.reports(row.stored)
    assert not await set_aside(front.scene.database, front.scene.content, row, now=1)
    assert len(front.told) == 1


async def test_reported_by_many_at_once(front: Front) -> None:
    """While one looks at an object the others leave it alone: it is read once more, not once per reader."""
    row = await front.row()
    front.origin.behaviour.flips = {5}
    looks = 0

    async def count(position: int) -> None:
        nonlocal looks
        looks += position == 0
        await trio.testing.wait_all_tasks_blocked()

    front.origin.behaviour.before_chunk = count
    answers: list[bool] = []

    async def report() -> None:
        answers.append(await front.reports(row.stored))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(report)
    assert (looks, sorted(answers)) == (1, [False] * 4 + [True])


async def test_reports_of_many_objects_at_once_stay_within_the_bound(front: Front) -> None:
    """Those that are being looked at count as well: together they put aside no more than may be in an hour."""
    front.origin.behaviour.flips = {5}
    rows = await pushed(front, MOST_PER_HOUR + 3)

    async def yield_first(_position: int) -> None:
        await trio.testing.wait_all_tasks_blocked()

    front.origin.behaviour.before_chunk = yield_first
    async with trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(front.reports, row.stored)
    assert (front.reports.confirmed, front.reports.withheld) == (MOST_PER_HOUR, 3)


async def pushed(front: Front, count: int) -> list[BlobRecord]:
    """So many blobs that were pushed."""
    rows = []
    for number in range(count):
        content = number.to_bytes(4) + DATA
        await front.scene.push(content)
        row = await front.scene.database.read(blobs.find, front.scene.content.storage_id("main"), Digest.of(content))
        assert row is not None
        rows.append(row)
    return rows


async def test_a_machine_that_reads_everything_wrongly(front: Front) -> None:
    """It puts aside only so many objects an hour and says so once; what it then reports is neither read nor changed."""
    front.origin.behaviour.flips = {5}
    alarms: list[int] = []
    front.reports._tell_too_many = lambda: alarms.append(front.reports.confirmed)
    rows = await pushed(front, MOST_PER_HOUR + 2)

    put_aside = [await front.reports(row.stored) for row in rows]

    assert put_aside == [True] * MOST_PER_HOUR + [False, False]
    assert (alarms, front.reports.withheld) == ([MOST_PER_HOUR], 2)
    front.scene.clock.now += 3601
    assert await front.reports(rows[-1].stored)


async def test_origin_that_cannot_be_asked(front: Front) -> None:
    """While the origin does not answer nothing is decided."""
    row = await front.row()
    front.origin.behaviour.breaks_at = [0]
    with pytest.raises(Unavailable):
        await front.reports(row.stored)
    assert (await front.row()).damaged_at is None


async def test_judge() -> None:
    """Right bytes have nothing wrong, others are described, and the reader may be slowed down."""
    store = OddStore()
    stored = await put(store, "one", DATA)
    read = 0

    async def pace(size_bytes: int) -> None:
        nonlocal read
        read += size_bytes
        await trio.lowlevel.checkpoint()

    assert await judge(store, stored, pace=pace) is None
    assert read == len(DATA)
    store.behaviour.flips = {0}
    assert "sha256:" in (await judge(store, stored) or "")
