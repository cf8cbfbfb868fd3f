"""The scrub: what is due, in which order, how fast, and what becomes of what it finds."""

import pytest
import trio
from trio.testing import MockClock

from storage import Content, Database, Digest, Scrub, ScrubSettings, Unavailable
from storage.metadata import blobs, garbage, verification
from tests.storage.hotset_place import OddStore
from tests.storage.scene import Clock, Scene

DAY_S = 86400
SIZE = 300_000


@pytest.fixture
def store() -> OddStore:
    """Where the bytes lie."""
    return OddStore()


@pytest.fixture
async def scene(database: Database, store: OddStore) -> Scene:
    """Six blobs of the same size, pushed one day after the other, the last one two days ago."""
    scene = await Scene(database, store, Clock()).prepare()
    for number in range(6):
        await scene.push(bytes([number]) * SIZE)
        scene.clock.advance(DAY_S)
    scene.clock.advance(DAY_S)
    return scene


def digest(number: int) -> Digest:
    """Of one of the six."""
    return Digest.of(bytes([number]) * SIZE)


def scrub_of(scene: Scene, *, cycle_days: int = 3, bytes_per_s: int = 1 << 40, content: Content | None = None) -> Scrub:
    """A scrub that knows nothing of earlier ones."""
    settings = ScrubSettings(bytes_per_s=bytes_per_s, cycle_s=cycle_days * DAY_S)
    return Scrub(scene.database, content or scene.content, settings, clock=scene.clock)


async def verified(scene: Scene) -> list[int]:
    """The numbers of the blobs that were verified now, at this second of the clock."""
    page = await scene.database.survey(
        verification.least_recent, before=scene.clock.now, after=(scene.clock.now - 1, 1 << 40), limit=100
    )
    numbers = {digest(number): number for number in range(6)}
    return [numbers[blob.stored.digest] for blob, _ in page]


async def test_everything_is_verified_once_in_a_cycle(scene: Scene) -> None:
    """Each day a share, least recently verified first; after a cycle it begins again."""
    seen = []
    for _ in range(4):
        report = await scrub_of(scene).run()
        assert (report.due_bytes, report.blobs, report.read_bytes) == (2 * SIZE, 2, 2 * SIZE)
        seen.append(await verified(scene))
        scene.clock.advance(DAY_S)
    assert seen == [[0, 1], [2, 3], [4, 5], [0, 1]]


async def test_share_of_the_day_is_done_once(scene: Scene) -> None:
    """However often it runs on one day, whoever runs it: what is done is in the rows."""
    assert (await scrub_of(scene).run()).blobs == 2
    report = await scrub_of(scene).run()
    assert (report.due_bytes, report.blobs) == (0, 0)


@pytest.mark.parametrize(("noted_bytes", "left"), [(1 << 40, 6), (1, 4)])
async def test_stopped_run_is_gone_on_with(
    scene: Scene, store: OddStore, monkeypatch: pytest.MonkeyPatch, noted_bytes: int, left: int
) -> None:
    """Of a run that is cancelled, what was written down counts; the next one does the rest of the share."""
    monkeypatch.setattr("storage.scrub._NOTED_BYTES", noted_bytes)
    first = scrub_of(scene, cycle_days=1)

    async def stop_in_the_third(_position: int) -> None:
        if first.report.blobs == 3:
            scope.cancel()
        await trio.lowlevel.checkpoint()

    store.behaviour.before_chunk = stop_in_the_third
    with trio.CancelScope() as scope:
        await first.run()
    assert scope.cancelled_caught
    store.behaviour.before_chunk = None
    assert (await scrub_of(scene, cycle_days=1).run()).blobs == left
    assert await verified(scene) == [0, 1, 2, 3, 4, 5]


async def test_rate(scene: Scene, autojump_clock: MockClock) -> None:
    """It reads no faster than it may."""
    began = trio.current_time()
    await scrub_of(scene, cycle_days=1, bytes_per_s=SIZE // 10).run()
    assert trio.current_time() - began == pytest.approx(60, rel=0.01)


async def test_no_burst_after_a_pause(scene: Scene, store: OddStore, autojump_clock: MockClock) -> None:
    """A store that did not answer for long is not read the faster for it afterwards."""
    first_chunks: list[float] = []

    async def wait_once(_position: int) -> None:
        if not first_chunks:
            await trio.sleep(100)
        first_chunks.append(trio.current_time())

    store.behaviour.before_chunk = wait_once
    began = trio.current_time()
    await scrub_of(scene, cycle_days=1, bytes_per_s=SIZE // 10).run()
    assert 158 < trio.current_time() - began < 161


async def test_damaged_blob(scene: Scene, store: OddStore) -> None:
    """It is marked, put aside and reported; the next push heals it, and the others are verified."""
    store.behaviour.flips = {SIZE - 1}
    store.behaviour.flips_of = digest(1)
    report = await scrub_of(scene, cycle_days=1).run()
    assert [(each.stored.digest, each.storage, each.images) for each in report.damaged] == [
        (digest(1), "main", ("common/hosted/app",))
    ]
    assert await verified(scene) == [0, 2, 3, 4, 5]
    row = await scene.database.read(blobs.find, scene.content.storage_id("main"), digest(1))
    assert row is not None
    assert row.damaged_at == scene.clock.now
    assert row.stored.key in store._set_aside
    store.behaviour.flips = set()
    await scene.push(bytes([1]) * SIZE)
    assert await scene.pull(digest(1)) == bytes([1]) * SIZE


async def test_wrong_at_the_first_look_only(scene: Scene, store: OddStore) -> None:
    """What is right at the second look is verified."""
    store.behaviour.flips, store.behaviour.flips_once = {5}, True
    report = await scrub_of(scene).run()
    assert (report.damaged, report.troubles, await verified(scene)) == ([], [], [0, 1])


async def test_what_cannot_be_read_is_left_for_later(scene: Scene, store: OddStore) -> None:
    """A blob that cannot be read now is neither verified nor damaged; the run goes on with the others."""
    store.behaviour.breaks_at = [100]
    report = await scrub_of(scene).run()
    assert (len(report.troubles), report.damaged, report.is_complete) == (1, [], True)
    assert await verified(scene) == [1, 2]


async def test_missing_blob(scene: Scene) -> None:
    """It is reported and left to fsck: the volume may be missing, not the blob."""
    key = (await scene.find(digest(0))).record.stored.key
    await scene.store.remove(key)
    report = await scrub_of(scene).run()
    assert [key in each for each in report.troubles] == [True]
    assert (await scene.find(digest(0))).record.damaged_at is None


async def test_store_that_is_gone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends when nothing can be read, and has judged nothing."""
    monkeypatch.setattr("storage.scrub._TROUBLES", 3)

    def refuse(*_: object) -> object:
        raise Unavailable("down")

    monkeypatch.setattr(scene.store, "open", refuse)
    report = await scrub_of(scene, cycle_days=1).run()
    assert (len(report.troubles), report.is_complete, report.damaged) == (3, False, [])
    assert await verified(scene) == []


async def test_damaged_and_condemned_blobs_are_not_looked_at(scene: Scene) -> None:
    """What readers do not get, or what is about to be removed, is nobody's share."""
    first, second = [(await scene.find(digest(number))).record for number in (0, 1)]
    await scene.database.transaction(garbage.mark_damaged, first, now=scene.clock.now)
    await scene.unlink(digest(1))
    assert await scene.database.transaction(garbage.condemn, [second.id], now=scene.clock.now) == 1
    assert (await scrub_of(scene, cycle_days=1).run()).blobs == 4
