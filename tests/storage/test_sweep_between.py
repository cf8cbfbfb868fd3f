"""Pushes, deletions and crashes between any two steps of a sweep, and between its looking and its acting."""

from collections.abc import Awaitable, Callable

import pytest

from storage import BlobUnknown, Digest, Sweep, SweepReport, Unavailable
from tests.storage.failing import FailingDatabase, FailingStore, Faults, InterruptedDatabase, cancelled_at, publish_only
from tests.storage.place import areas_of, objects_of
from tests.storage.scene import EXPIRY_S, GRACE_S, UNDELETE_S, BlobMissing, Scene

DATA = b"bytes that may become garbage"
DIGEST = Digest.of(DATA)
STEPS = 7

pytestmark = pytest.mark.slow  # each case is quick, but every pair of steps is one: half a minute together


async def fresh(scene: Scene) -> None:
    """A blob whose grace period has just ended."""
    await scene.push(DATA)
    scene.clock.advance(GRACE_S)


async def condemned(scene: Scene) -> None:
    """A blob with a tombstone."""
    await fresh(scene)
    await scene.sweep().run()


async def ripe(scene: Scene) -> None:
    """A blob with a tombstone that is old enough."""
    await condemned(scene)
    scene.clock.advance(GRACE_S)


async def purged(scene: Scene) -> None:
    """A blob whose only manifest has been deleted for the length of its window."""
    await scene.push(DATA)
    await scene.delete_manifest(await scene.put_manifest([DIGEST]))
    scene.clock.advance(max(GRACE_S, UNDELETE_S))


Prepare = Callable[[Scene], Awaitable[None]]
CASES: dict[str, Prepare] = {each.__name__: each for each in (fresh, condemned, ripe, purged)}


@pytest.fixture(params=CASES)
def prepare(request: pytest.FixtureRequest) -> Prepare:
    """How far the blob's end has come before the run."""
    return CASES[request.param]


async def assert_whole_for_ever(scene: Scene) -> None:
    """The blob that a manifest needs is there now and after all grace, in one copy."""
    assert await scene.pull(DIGEST) == DATA
    for _ in range(3):
        scene.clock.advance(GRACE_S)
        assert (await scene.sweep().run()).trouble == []
    assert await scene.pull(DIGEST) == DATA
    assert len(await objects_of(scene.store)) == 1


@pytest.mark.parametrize("after", range(STEPS + 1))
async def test_push_between_two_steps(memory_scene: Scene, prepare: Prepare, after: int) -> None:
    """A blob that is pushed again and used between any two steps of a run is there, whole, for ever after."""
    scene = memory_scene
    await prepare(scene)
    other = await scene.worker()
    steps = list(scene.sweep().steps().values())
    assert len(steps) == STEPS
    for step in steps[:after]:
        await step(SweepReport())
    await scene.push(DATA, content=other)
    await scene.put_manifest([DIGEST])
    for step in steps[after:]:
        await step(SweepReport())
    await assert_whole_for_ever(scene)


@pytest.mark.parametrize("number", range(4))
async def test_push_between_looking_and_acting(scene: Scene, prepare: Prepare, number: int) -> None:
    """The same right before any of the sweep's transactions, when it has already seen the blob as garbage."""
    await prepare(scene)

    async def push() -> None:
        await scene.push(DATA)
        await scene.put_manifest([DIGEST])

    database = InterruptedDatabase(scene.database, push, before=number)
    await scene.sweep(database=database).run()
    if not database.is_done:  # this run had fewer transactions
        await push()
    await assert_whole_for_ever(scene)


async def test_manifest_between_looking_and_acting(scene: Scene) -> None:
    """A manifest that comes when its blobs' links are about to lapse either keeps them or is refused, never half."""
    await fresh(scene)
    refused = False

    async def put() -> None:
        nonlocal refused
        try:
            await scene.put_manifest([DIGEST])
        except BlobMissing:
            refused = True

    database = InterruptedDatabase(scene.database, put)
    await scene.sweep(database=database).run()
    assert database.is_done
    assert not refused
    await assert_whole_for_ever(scene)


async def test_mount_between_looking_and_acting(scene: Scene) -> None:
    """A blob that is mounted when its row is about to be condemned is kept."""
    await scene.push(DATA)
    scene.clock.advance(GRACE_S)
    await scene.push(DATA, "second")
    await scene.unlink(DIGEST, "second")
    await scene.push(DATA, "third")

    async def mount() -> None:
        assert await scene.content.mount(
            DIGEST,
            source_repository_id=scene.repository.id,
            source_image="third",
            repository=scene.repository,
            image="app",
        )
        await scene.put_manifest([DIGEST])

    await scene.sweep(database=InterruptedDatabase(scene.database, mount)).run()
    await assert_whole_for_ever(scene)


@pytest.mark.parametrize("after", range(STEPS + 1))
async def test_crash_between_two_steps(memory_scene: Scene, prepare: Prepare, after: int) -> None:
    """A run that ends after any step is continued by a later one: what is needed stays, what is not goes."""
    scene = memory_scene
    needed = await scene.push(b"needed")
    await scene.put_manifest([needed])
    await publish_only(scene, b"orphan")
    await prepare(scene)
    for _ in range(4):
        for step in list(scene.sweep(content=await scene.worker()).steps().values())[:after]:
            await step(SweepReport())
        scene.clock.advance(max(GRACE_S, EXPIRY_S))
    for _ in range(4):
        assert (await scene.sweep(content=await scene.worker()).run()).trouble == []
        scene.clock.advance(max(GRACE_S, EXPIRY_S))
    assert [stored.digest for stored in (await objects_of(scene.store)).values()] == [needed]
    assert await areas_of(scene.store) == {}
    assert await scene.pull(needed) == b"needed"


@pytest.mark.slow
async def test_failure_at_every_point(memory_scene: Scene, prepare: Prepare) -> None:
    """A run that fails at any point loses nothing, and a later one finishes what it began."""
    scene = memory_scene
    needed = await scene.push(b"needed")
    await scene.put_manifest([needed])
    for number in range(200):
        await publish_only(scene, b"orphan")
        await prepare(scene)
        faults = Faults()
        failing = FailingDatabase(scene.database, faults)
        content = await scene.worker(database=failing, store=FailingStore(scene.store, faults))
        faults.arm(number, Unavailable("as planned"))
        report = await scene.sweep(content=content, database=failing).run()
        assert bool(report.trouble) == (faults.failed_at is not None)
        await run_out(scene)
        assert [stored.digest for stored in (await objects_of(scene.store)).values()] == [needed]
        if faults.failed_at is None:
            break
    assert number > 10
    assert await scene.pull(needed) == b"needed"


@pytest.mark.slow
async def test_cancellation_at_every_checkpoint(memory_scene: Scene, prepare: Prepare) -> None:
    """A run that is cancelled anywhere does the same."""
    scene = memory_scene
    needed = await scene.push(b"needed")
    await scene.put_manifest([needed])
    for steps in range(300):
        await publish_only(scene, b"orphan")
        await prepare(scene)
        cancelled = await cancelled_at(steps, scene.sweep().run)
        await run_out(scene)
        assert [stored.digest for stored in (await objects_of(scene.store)).values()] == [needed]
        if not cancelled:
            break
    assert steps > 10
    assert await scene.pull(needed) == b"needed"


async def run_out(scene: Scene) -> None:
    """All grace passes, with a run after each period."""
    for _ in range(4):
        assert (await scene.sweep().run()).trouble == []
        scene.clock.advance(max(GRACE_S, EXPIRY_S))


async def test_clock_that_goes_back(scene: Scene) -> None:
    """When the clock jumps back, nothing goes early; when it is right again, everything goes in time."""
    await condemned(scene)
    scene.clock.advance(-5 * GRACE_S)
    assert await scene.sweep().run() == SweepReport()
    scene.clock.advance(6 * GRACE_S)
    assert (await scene.sweep().run()).removed_blobs == 1
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST)


async def test_two_sweeps_at_once(scene: Scene) -> None:
    """Should a second sweep run beside the first, which a lease prevents, nothing is removed that is needed."""
    await ripe(scene)
    needed = await scene.push(b"needed")
    await scene.put_manifest([needed])

    async def other() -> None:
        await scene.sweep(content=await scene.worker()).run()
        await scene.push(DATA)
        await scene.put_manifest([DIGEST], salt="again")

    for number in range(3):
        await scene.sweep(database=InterruptedDatabase(scene.database, other, before=number)).run()
    assert await scene.pull(DIGEST) == DATA
    assert isinstance(scene.sweep(), Sweep)
    assert await scene.pull(needed) == b"needed"
