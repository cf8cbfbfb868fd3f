"""An arrival when our own disk, store, database or other machines are in trouble, and what is left of one."""

import itertools
from pathlib import Path

import pytest
import trio

from storage import BlobUnknown, Damaged, Digest, Span, StorageFull, Unavailable, arrival
from storage import intake as intake_module
from storage.arrivals_files import ArrivalsDirectory
from storage.hotset_files import Entry, GrowingFile
from storage.metadata import blobs, leases
from tests.storage import lease_rows
from tests.storage.arrivals_place import CONTENT, MIB, SIZE, Dock, Upstream, dock, quietly_fetch, until
from tests.storage.failing import FailingDatabase, FailingStore, Faults
from tests.storage.place import objects_of
from tests.storage.scene import Scene

pytestmark = pytest.mark.usefixtures("quick_arrivals")

# --- trouble of our own ---------------------------------------------------------------------------------------------


async def test_no_room(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has no room each reader is read through to the upstream, checked, and nothing is kept."""
    monkeypatch.setattr(ArrivalsDirectory, "_free_bytes", lambda _self: SIZE - 1)
    upstream = Upstream(CONTENT)
    for span in (None, Span(5, 10)):
        assert await docked.pull(upstream, span=span) == (CONTENT[span.start : span.stop] if span else CONTENT)
    upstream.flips = {5}
    with pytest.raises(Damaged):
        await docked.pull(upstream)
    with pytest.raises(StorageFull):
        await docked.fetch(upstream)
    assert docked.arrivals.statistics().refused > 0
    assert (docked.files(), await objects_of(docked.scene.store)) == ([], {})


async def test_defects_beside_a_fetch_end_nothing(docked: Dock, caplog: pytest.LogCaptureFixture) -> None:
    """What runs beside the fetches and raises what nobody expects is logged; the next fetch goes well."""

    async def broken() -> None:
        raise RuntimeError("a defect")

    docked.intakes.run_beside(broken)
    assert await docked.pull(Upstream(CONTENT)) == CONTENT
    assert "a defect" in caplog.text


async def test_no_room_and_no_upstream(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room what the upstream says is known before an answer begins, too."""
    monkeypatch.setattr(ArrivalsDirectory, "_free_bytes", lambda _self: 0)
    upstream = Upstream(CONTENT, error=BlobUnknown("no such blob"))
    with pytest.raises(BlobUnknown):
        async with docked.open(upstream):
            pytest.fail("it was opened")


async def test_disk_full_midway(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of a blob that the disk takes no more of go on at the upstream, checked over all they got."""
    append = GrowingFile.append

    def full(self: GrowingFile, parts: list[bytes], position: int) -> int:
        if position >= MIB:
            raise OSError(28, "No space left on device")
        return append(self, parts, position)

    monkeypatch.setattr(GrowingFile, "append", full)
    upstream = Upstream(CONTENT)
    assert await docked.pull(upstream) == CONTENT
    await docked.idle()  # until then the file that was given up may still be read, as far as it goes
    upstream.flips = {5}
    with pytest.raises(Damaged):
        await docked.pull(upstream)
    await docked.idle()
    assert (docked.files(), await objects_of(docked.scene.store)) == ([], {})


async def test_directory_that_went(docked: Dock) -> None:
    """Without its directory the blob is read through all the same."""
    (docked.root / "main").rmdir()
    assert await docked.pull(Upstream(CONTENT)) == CONTENT
    (docked.root / "main").mkdir()


async def test_object_that_was_lost(docked: Dock) -> None:
    """When the store has lost the object of a row, the blob is fetched again, and the row is healed (row P8)."""
    upstream = Upstream(CONTENT)
    await docked.fetch(upstream)
    (lost,) = await objects_of(docked.scene.store)
    await docked.scene.store.remove(lost)
    assert await docked.pull(upstream) == CONTENT
    await docked.idle()
    assert await docked.stored() == CONTENT
    assert upstream.given_bytes == 2 * SIZE


@pytest.mark.parametrize("what", ["adopt", "transaction"])
async def test_publishing_that_fails_once(directory_scene: Scene, tmp_path: Path, what: str) -> None:
    """A store or database that is away for a moment is asked again; the upstream is not."""
    scene, faults = directory_scene, Faults()
    content = await scene.worker(
        database=FailingDatabase(scene.database, faults), store=FailingStore(scene.store, faults)
    )
    upstream = Upstream(CONTENT)
    async with dock(scene, tmp_path / "arrivals", content=content) as docked:
        faults.arm_at(f"before {what}", Unavailable("away"))
        await docked.fetch(upstream)
        assert faults.failed_at == f"before {what}"
        assert await docked.stored() == CONTENT
        assert upstream.given_bytes == SIZE


async def test_publishing_that_fails_for_long(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is right and cannot be stored stays where it came in: the next one reads it there, and publishes it."""

    async def down(*_args: object, **_kwargs: object) -> None:
        raise Unavailable("the store is down")

    upstream = Upstream(CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(docked.scene.content, "adopt", down)
        assert await docked.pull(upstream) == CONTENT
        await docked.idle()
        with pytest.raises(Unavailable, match="store is down"):
            await docked.fetch(upstream)
        assert docked.arrivals.statistics().unpublished == 2
    assert len(docked.files()) == 1
    assert await docked.pull(upstream, "second") == CONTENT
    await docked.idle()
    assert await docked.stored("second") == CONTENT
    assert (upstream.given_bytes, docked.files()) == (SIZE, [])


async def test_repository_that_was_deleted(docked: Dock) -> None:
    """What arrives for a repository that is gone by then is given to who reads it, and not kept."""
    upstream, scene = Upstream(CONTENT), docked.scene
    going, came = scene.other, trio.Event()

    async def delete(position: int) -> None:
        if position and not came.is_set():
            came.set()
            await scene.database.transaction(lambda tx: tx.exec_driver_sql("DELETE FROM repositories WHERE id = 2"))

    upstream.before_chunk = delete
    assert going.id == 2
    assert await docked.pull(upstream, repository=going) == CONTENT
    await docked.idle()
    await scene.sweep().run()
    assert (docked.files(), await objects_of(scene.store)) == ([], {})


async def test_next_start(directory_scene: Scene, tmp_path: Path) -> None:
    """A start within the boot keeps what came for whoever comes back; one after a boot does not trust it."""
    scene, upstream, root = directory_scene, Upstream(CONTENT), tmp_path / "arrivals"
    half = trio.Event()

    async def stall(position: int) -> None:
        if position >= 2 * MIB:
            half.set()
            await trio.sleep_forever()

    upstream.before_chunk = stall
    async with trio.open_nursery() as nursery, dock(scene, root) as docked:
        nursery.start_soon(quietly_fetch, docked, upstream)  # noqa: ASYNC111 - it is to outlive its service
        await half.wait()
    upstream.before_chunk = None
    async with dock(scene, root) as docked:
        assert [path.stat().st_size >= MIB for path in docked.files()] == [True]
    (root / "boot").write_text("another one")
    async with dock(scene, root) as docked:
        assert docked.files() == []
        assert await docked.pull(upstream) == CONTENT


async def test_upkeep(docked: Dock) -> None:
    """What nobody came back for in ten minutes is removed; what is being fetched is not, and leases of the dead go."""
    upstream, go_on = Upstream(CONTENT), trio.Event()

    async def stall(position: int) -> None:
        if position >= MIB:
            await go_on.wait()

    upstream.before_chunk = stall
    left = docked.root / "main" / f"{'0' * 40}.{'1' * 64}.7"
    left.write_bytes(b"123")
    async with docked.open(upstream) as reader:
        await anext(reader.chunks())
        assert await docked.arrivals.upkeep() == 0
        docked.scene.clock.advance(700)
        assert await docked.arrivals.upkeep() == 1
        assert not left.exists()
        assert len(docked.files()) == 1
        go_on.set()
        await docked.idle()
    assert await docked.stored() == CONTENT


@pytest.mark.slow
async def test_upstream_that_is_silent_for_long(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows another process does not fetch for itself while that one lives, however long nothing comes."""
    monkeypatch.setattr(arrival, "_TOUCH_S", 0.005)
    monkeypatch.setattr(intake_module, "_STALLED_S", 0.5)
    upstream, go_on = Upstream(CONTENT), trio.Event()
    touch, touches = GrowingFile.touch, itertools.count()
    is_long_ago = trio.Event()

    def note(self: GrowingFile) -> None:
        touch(self)
        if next(touches) == 200:  # at least a second after the first
            is_long_ago.set()

    monkeypatch.setattr(GrowingFile, "touch", note)

    async def stall(position: int) -> None:
        if position >= MIB:
            await go_on.wait()

    upstream.before_chunk = stall
    async with dock(docked.scene, docked.root) as another:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(another.pull, upstream, "filler")
            await until(lambda: bool(docked.files()) and docked.files()[0].stat().st_size > 0)
            nursery.start_soon(docked.pull, upstream, "follower")
            await is_long_ago.wait()
            go_on.set()
        await another.idle()
    assert upstream.opened == [Span(0, SIZE)]
    await docked.idle()
    for image in ("filler", "follower"):
        assert await docked.stored(image) == CONTENT


async def test_filler_that_hangs(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds the file and gives no sign of life is waited for, then readers go on at the upstream."""
    monkeypatch.setattr(intake_module, "_STALLED_S", 0.05)
    upstream = Upstream(CONTENT)
    directory = ArrivalsDirectory(docked.root / "main", reserve_bytes=0, clock=docked.scene.clock)
    entry = Entry(f"{docked.scene.repository.id}/{upstream.digest}/{SIZE}", upstream.digest, SIZE)
    hanging = directory.claim(entry.name)
    assert hanging is not None
    directory.append(hanging, [CONTENT[:MIB]], 0)
    assert await docked.pull(upstream) == CONTENT
    assert upstream.opened == [Span(MIB, SIZE)]
    hanging.close()


# --- several machines -----------------------------------------------------------------------------------------------


async def test_second_machine_waits(directory_scene: Scene, tmp_path: Path) -> None:
    """While one machine fetches, another waits for what it publishes, and reads that from the store."""
    scene, theirs, ours = directory_scene, Upstream(CONTENT), Upstream(CONTENT)
    begun, go_on = trio.Event(), trio.Event()

    async def stall(position: int) -> None:
        if position >= MIB:
            begun.set()
            await go_on.wait()

    theirs.before_chunk = stall
    got = []

    async def pull(docked: Dock) -> None:
        got.append(await docked.pull(ours, "second"))

    async with (
        dock(scene, tmp_path / "one", is_shared=True) as one,
        dock(scene, tmp_path / "two", is_shared=True) as two,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(one.pull, theirs, "first")
        await begun.wait()
        nursery.start_soon(pull, two)
        await until(lambda: two.arrivals.statistics().waited == 1)
        assert got == []
        go_on.set()
    assert got == [CONTENT]
    assert (theirs.given_bytes, ours.opened) == (SIZE, [])
    assert await scene.pull(Digest.of(CONTENT), "second") == CONTENT
    assert await scene.database.read(lease_rows.names) == []


async def test_machine_that_died(directory_scene: Scene, tmp_path: Path) -> None:
    """A lease whose holder shows no sign of life is taken over, and its row does not stay."""
    scene, upstream = directory_scene, Upstream(CONTENT)
    name = f"arrival/{scene.repository.id}/{upstream.digest}"
    now = scene.clock.now
    await scene.database.transaction(leases.take, name, holder="dead", now=now, lifetime_s=20)
    got = []
    async with dock(scene, tmp_path / "two", is_shared=True) as two, trio.open_nursery() as nursery:

        async def pull() -> None:
            got.append(await two.pull(upstream))

        nursery.start_soon(pull)
        await until(lambda: two.arrivals.statistics().waited == 1)
        assert (got, upstream.opened) == ([], [])
        scene.clock.advance(30)
    assert got == [CONTENT]
    assert await scene.database.read(lease_rows.names) == []


async def test_machine_that_takes_too_long(
    directory_scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has waited long enough for another machine that is still at it fetches the blob itself."""
    monkeypatch.setattr(arrival, "PATIENCE_S", 0.05)
    scene, upstream = directory_scene, Upstream(CONTENT)
    name = f"arrival/{scene.repository.id}/{upstream.digest}"
    await scene.database.transaction(leases.take, name, holder="slow", now=scene.clock.now, lifetime_s=20)
    async with dock(scene, tmp_path / "two", is_shared=True) as two:
        assert await two.pull(upstream) == CONTENT
        assert two.arrivals.statistics().waited == 1
        await two.idle()
        assert await two.stored() == CONTENT


async def test_leases_of_the_dead_are_forgotten(directory_scene: Scene, tmp_path: Path) -> None:
    """The upkeep removes rows of leases that nobody renews any more, and no others."""
    scene = directory_scene
    now = scene.clock.now
    for name, age in (("arrival/1/a", -1000), ("arrival/1/b", 0), ("sweep", -1000)):
        await scene.database.transaction(leases.take, name, holder="dead", now=now + age, lifetime_s=20)
    async with dock(scene, tmp_path / "one", is_shared=True) as one:
        await one.arrivals.upkeep()
    assert await scene.database.read(lease_rows.names) == ["arrival/1/b", "sweep"]


async def test_link_is_renewed_for_a_cached_blob(docked: Dock) -> None:
    """An image whose link went is linked again when it asks, without a fetch."""
    upstream = Upstream(CONTENT)
    await docked.fetch(upstream, "first")
    await docked.fetch(upstream, "second")
    image = await docked.scene.image("first")
    await docked.scene.database.transaction(blobs.unlink, image.id, upstream.digest)
    assert await docked.pull(upstream, "first") == CONTENT
    assert await docked.stored("first") == CONTENT
    assert upstream.given_bytes == SIZE
