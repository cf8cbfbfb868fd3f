"""Every step of the sweep, its periods of grace, its trouble, and pushes and crashes between any two of its steps."""

from pathlib import Path

import pytest

from storage import (
    BlobUnknown,
    Content,
    Digest,
    SweepReport,
    Unavailable,
    UploadUnknown,
)
from storage.metadata import garbage
from storage.metadata.garbage import FIRST_REMOVAL, Doomed
from storage.metadata.tables import blobs
from tests.storage.failing import FailingDatabase, FailingStore, Faults, publish_only
from tests.storage.place import areas_of, objects_of
from tests.storage.scene import EXPIRY_S, GRACE_S, UNDELETE_S, Scene

DATA = b"bytes that may become garbage"
DIGEST = Digest.of(DATA)
STEPS = (
    "expire_uploads",
    "drop_lost_staging",
    "purge_manifests",
    "lapse_links",
    "condemn_blobs",
    "remove_rows",
    "remove_bytes",
)


async def sweep(scene: Scene, *, after_s: int = 0) -> SweepReport:
    """Let time pass, then one whole run without trouble."""
    scene.clock.advance(after_s)
    report = await scene.sweep().run()
    assert report.trouble == []
    return report


async def stored_digests(scene: Scene) -> set[Digest]:
    """What the store holds."""
    return {stored.digest for stored in (await objects_of(scene.store)).values()}


async def waiting_removals(scene: Scene) -> list[str]:
    """Keys whose bytes are still to go."""
    found = await scene.database.survey(garbage.removals_due, after=FIRST_REMOVAL, limit=100)
    return [removal.key for removal in found]


async def test_steps_are_those_of_a_run(memory_scene: Scene) -> None:
    """The steps have names and an order, which the tests below rely on."""
    assert tuple(memory_scene.sweep().steps()) == STEPS


# --- blobs ----------------------------------------------------------------------------------------------------------


async def test_life_of_an_unused_blob(scene: Scene) -> None:
    """A blob that no manifest needs is readable for its grace period, condemned then, and gone after another one."""
    await scene.push(DATA)
    assert await sweep(scene, after_s=GRACE_S - 1) == SweepReport()
    assert await scene.pull(DIGEST) == DATA

    assert await sweep(scene, after_s=1) == SweepReport(lapsed_links=1, condemned_blobs=1)
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST)
    assert await sweep(scene, after_s=GRACE_S - 1) == SweepReport()
    assert await stored_digests(scene) == {DIGEST}

    report = await sweep(scene, after_s=1)
    assert report == SweepReport(removed_blobs=1, removed_bytes=len(DATA))
    assert await objects_of(scene.store) == {}
    assert await waiting_removals(scene) == []
    assert await sweep(scene) == SweepReport()


async def test_needed_blobs_stay(scene: Scene) -> None:
    """What a manifest needs stays for ever, tagged or not, and so does its link."""
    await scene.push(DATA)
    await scene.put_manifest([DIGEST])
    for _ in range(4):
        assert await sweep(scene, after_s=10 * GRACE_S) == SweepReport()
    assert await scene.pull(DIGEST) == DATA


async def test_link_that_its_image_does_not_need(scene: Scene) -> None:
    """A link lapses in the image that has no manifest for it; the blob stays for the one that has."""
    await scene.push(DATA)
    await scene.put_manifest([DIGEST])
    await scene.push(DATA, "second")
    assert await sweep(scene, after_s=GRACE_S) == SweepReport(lapsed_links=1)
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST, "second")
    assert await scene.pull(DIGEST) == DATA


async def test_unlinked_blob_that_a_manifest_needs(scene: Scene) -> None:
    """A blob that was deleted from its image is kept as long as a manifest names it, and a push brings it back."""
    await scene.push(DATA)
    await scene.put_manifest([DIGEST])
    await scene.unlink(DIGEST)
    for _ in range(3):
        assert await sweep(scene, after_s=GRACE_S) == SweepReport()
    assert await stored_digests(scene) == {DIGEST}
    await scene.push(DATA)
    assert await scene.pull(DIGEST) == DATA


async def test_telling_of_a_blob_keeps_it(scene: Scene) -> None:
    """Who was told that a blob is there can still put a manifest on it almost a grace period later (row UP-27)."""
    await scene.push(DATA)
    await sweep(scene, after_s=GRACE_S - 1)
    await scene.find(DIGEST)
    await scene.content.flush_touches()
    assert await sweep(scene, after_s=GRACE_S - 1) == SweepReport()
    await scene.put_manifest([DIGEST])
    assert await sweep(scene, after_s=3 * GRACE_S) == SweepReport()


async def test_removed_blob_can_be_pushed_again(scene: Scene) -> None:
    """A blob that has gone is stored anew, under a key of its own (row DL-08)."""
    await scene.push(DATA)
    before = set(await objects_of(scene.store))
    await sweep(scene, after_s=GRACE_S)
    await sweep(scene, after_s=GRACE_S)
    await scene.push(DATA)
    assert await scene.pull(DIGEST) == DATA
    assert before.isdisjoint(await objects_of(scene.store))


async def test_both_digests_go_with_the_blob(scene: Scene) -> None:
    """A blob with a second digest goes whole, and comes back whole."""
    digest = Digest.of(DATA, "sha512")
    for _ in range(2):
        await scene.push(DATA, digest=digest)
        assert await scene.pull(digest) == DATA
        await sweep(scene, after_s=GRACE_S)
        await sweep(scene, after_s=GRACE_S)
        assert await objects_of(scene.store) == {}


async def test_wrong_tombstone_is_taken_off(memory_scene: Scene) -> None:
    """A tombstone on a blob that is linked, however it came there, is removed and its blob kept."""
    scene = memory_scene
    await scene.push(DATA)
    await scene.put_manifest([DIGEST])
    found = await scene.find(DIGEST)
    await scene.database.transaction(
        lambda tx: tx.execute(blobs.update().where(blobs.c.id == found.record.id).values(condemned_at=1)).rowcount
    )
    await sweep(scene)
    assert (await scene.find(DIGEST)).record.condemned_at is None
    assert await scene.pull(DIGEST) == DATA


async def test_pages(memory_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage is found on every page, and a page without any does not end the search."""
    monkeypatch.setattr("storage.sweep._LOOK", 3)
    monkeypatch.setattr("storage.sweep._BATCH", 2)
    scene = memory_scene
    pushed = [await scene.push(b"%d" % number, f"image-{number % 5}") for number in range(23)]
    kept = set(pushed[4:13])
    for number in range(4, 13):
        await scene.put_manifest([pushed[number]], f"image-{number % 5}")
    assert await sweep(scene, after_s=GRACE_S) == SweepReport(lapsed_links=14, condemned_blobs=14)
    report = await sweep(scene, after_s=GRACE_S)
    assert (report.removed_blobs, await stored_digests(scene)) == (14, kept)
    assert await waiting_removals(scene) == []


# --- manifests ------------------------------------------------------------------------------------------------------


async def test_undelete_window(scene: Scene) -> None:
    """A deleted manifest protects its blobs until its window ends, and then they have a grace period of their own."""
    await scene.push(DATA)
    digest = await scene.put_manifest([DIGEST], tag="v1")
    scene.clock.advance(10 * GRACE_S)
    await scene.delete_manifest(digest)
    assert await sweep(scene, after_s=UNDELETE_S - 1) == SweepReport()
    assert await sweep(scene, after_s=1) == SweepReport(purged_manifests=1)
    assert not await scene.restore_manifest(digest)
    assert await sweep(scene, after_s=GRACE_S - 1) == SweepReport()
    assert await scene.pull(DIGEST) == DATA
    assert await sweep(scene, after_s=1) == SweepReport(lapsed_links=1, condemned_blobs=1)
    assert (await sweep(scene, after_s=GRACE_S)).removed_blobs == 1
    assert await objects_of(scene.store) == {}


async def test_undelete_in_time(scene: Scene) -> None:
    """A manifest that is restored within its window is whole, with its tags, and stays so."""
    await scene.push(DATA)
    digest = await scene.put_manifest([DIGEST], tag="v1")
    await scene.delete_manifest(digest)
    await sweep(scene, after_s=UNDELETE_S - 1)
    assert await scene.restore_manifest(digest)
    for _ in range(3):
        assert await sweep(scene, after_s=10 * GRACE_S) == SweepReport()
    assert await scene.pull(DIGEST) == DATA


async def test_pushing_a_deleted_manifest_again(scene: Scene) -> None:
    """A manifest that is pushed again within its window lives on (row DL-08)."""
    await scene.push(DATA)
    digest = await scene.put_manifest([DIGEST])
    await scene.delete_manifest(digest)
    await sweep(scene, after_s=UNDELETE_S - 1)
    assert await scene.put_manifest([DIGEST]) == digest
    for _ in range(3):
        assert await sweep(scene, after_s=10 * GRACE_S) == SweepReport()
    assert await scene.pull(DIGEST) == DATA


async def test_shared_blob_outlives_one_manifest(scene: Scene) -> None:
    """Of two manifests that need a blob, deleting one changes nothing for the other."""
    await scene.push(DATA)
    first = await scene.put_manifest([DIGEST], salt="1")
    await scene.put_manifest([DIGEST], salt="2")
    await scene.delete_manifest(first)
    assert await sweep(scene, after_s=UNDELETE_S) == SweepReport(purged_manifests=1)
    for _ in range(3):
        assert await sweep(scene, after_s=GRACE_S) == SweepReport()
    assert await scene.pull(DIGEST) == DATA


async def test_many_deleted_manifests(memory_scene: Scene) -> None:
    """More manifests than fit into one transaction are purged in one run."""
    await memory_scene.push(DATA)
    for number in range(12):
        await memory_scene.delete_manifest(await memory_scene.put_manifest([DIGEST], salt=str(number)))
    assert await sweep(memory_scene, after_s=UNDELETE_S) == SweepReport(purged_manifests=12)


# --- uploads --------------------------------------------------------------------------------------------------------


async def test_abandoned_session_expires(scene: Scene) -> None:
    """A session that nobody used for long ends, and its bytes are freed; a younger one stays (row UP-27)."""
    old, empty = await scene.begin(), await scene.begin()
    async with scene.content.resume(old) as upload:
        await upload.append(DATA)
    scene.clock.advance(1)
    young = await scene.begin()
    assert await sweep(scene, after_s=EXPIRY_S - 1) == SweepReport(expired_uploads=2)
    assert await areas_of(scene.store) == {}
    for record in (old, empty):
        with pytest.raises(UploadUnknown):
            async with scene.content.resume(record):
                pass
    async with scene.content.resume(young) as upload:
        await upload.append(DATA)


async def test_session_in_use_does_not_expire(scene: Scene) -> None:
    """A session that a request holds is kept, however long the request takes, and so are its bytes."""
    record = await scene.begin()
    sweeper = await scene.worker()
    async with scene.content.resume(record) as upload:
        await upload.append(DATA[:5])
        scene.clock.advance(10 * EXPIRY_S)
        assert await scene.sweep(content=sweeper).run() == SweepReport()
        await upload.append(DATA[5:])
        await scene.content.commit(upload, DIGEST, repository=scene.repository)
    assert await scene.pull(DIGEST) == DATA


async def test_every_request_renews_the_session(scene: Scene) -> None:
    """A session lives on as long as its requests come within the time."""
    record = await scene.begin()
    for _ in range(3):
        scene.clock.advance(EXPIRY_S - 1)
        async with scene.content.resume(record) as upload:
            await upload.append(b"x")
        assert await sweep(scene) == SweepReport()


async def test_bytes_are_as_young_as_their_session(scene: Scene) -> None:
    """Old bytes stay as long as their session is open: an empty request renewed it."""
    record = await scene.begin()
    async with scene.content.resume(record) as upload:
        await upload.append(DATA)
    scene.clock.advance(EXPIRY_S - 1)
    async with scene.content.resume(record) as upload:
        await scene.content.save(upload)
    assert await sweep(scene, after_s=EXPIRY_S - 1) == SweepReport()
    async with scene.content.resume(record) as upload:
        await scene.content.commit(upload, DIGEST, repository=scene.repository)
    assert await scene.pull(DIGEST) == DATA


async def test_lost_staging_is_freed(scene: Scene) -> None:
    """A staging area without a session goes when it is old enough; one that is young or held stays."""
    for name in ("lost-1", "lost-2", "held"):
        async with scene.store.stage(name, create=True):
            pass
    scene.clock.advance(EXPIRY_S - 1)
    await sweep(scene)
    assert set(await areas_of(scene.store)) == {"lost-1", "lost-2", "held"}
    scene.clock.advance(2)
    async with scene.store.stage("held", create=False):
        await sweep(scene)
    assert set(await areas_of(scene.store)) == {"held"}


async def test_orphan_of_a_crash_is_freed(scene: Scene) -> None:
    """An object that was published by a process that died before its row came goes with its session."""
    await publish_only(scene, DATA)
    assert await stored_digests(scene) == {DIGEST}
    await sweep(scene, after_s=EXPIRY_S - 1)
    assert await stored_digests(scene) == {DIGEST}
    assert (await sweep(scene, after_s=2)).expired_uploads == 1
    assert await objects_of(scene.store) == {}
    assert await areas_of(scene.store) == {}


async def test_orphan_is_not_forgotten_by_a_failing_sweep(scene: Scene) -> None:
    """Whatever fails while such a session is expired, a later run frees the object."""
    await publish_only(scene, DATA)
    scene.clock.advance(EXPIRY_S + 1)
    for number in range(100):
        faults = Faults()
        content = await scene.worker(
            database=FailingDatabase(scene.database, faults), store=FailingStore(scene.store, faults)
        )
        faults.arm(number, Unavailable("as planned"))
        await scene.sweep(content=content, database=FailingDatabase(scene.database, faults)).run()
        if faults.failed_at is None:
            break
    assert number > 5
    assert await objects_of(scene.store) == {}
    assert await waiting_removals(scene) == []


# --- trouble --------------------------------------------------------------------------------------------------------


class Hopeless(FailingStore):
    """A store whose removals always fail."""

    async def remove(self, key: str) -> None:
        """Fail."""
        self._faults.point("before remove")
        raise Unavailable("the disk is read-only")


async def test_failing_store_keeps_everything_on_record(scene: Scene) -> None:
    """What a store cannot remove stays on the list for the next run; the report tells the first few, not all."""
    for number in range(12):
        await scene.push(b"%d" % number)
    await sweep(scene, after_s=GRACE_S)
    scene.clock.advance(GRACE_S)
    faults = Faults()
    report = await scene.sweep(content=await scene.worker(store=Hopeless(scene.store, faults))).run()
    assert (report.removed_blobs, len(await waiting_removals(scene))) == (12, 12)
    assert faults.passed.count("before remove") == len(report.trouble) == 10
    assert "read-only" in report.trouble[0]
    assert (await sweep(scene)) == SweepReport()
    assert await objects_of(scene.store) == {}
    assert await waiting_removals(scene) == []


async def test_report_tells_the_first_troubles() -> None:
    """A report does not grow without bound."""
    report = SweepReport()
    for number in range(1000):
        report.tell(f"key {number}", Unavailable("gone"))
    assert len(report.trouble) == 21
    assert (report.trouble[0], report.trouble[-1]) == ("key 0: gone", "and more of the kind")


async def test_missing_disk_keeps_everything(directory_scene: Scene, tmp_path: Path) -> None:
    """While the store's directory is not mounted, nothing counts as removed or abandoned."""
    scene = directory_scene
    await scene.push(DATA)
    await sweep(scene, after_s=GRACE_S)
    scene.clock.advance(GRACE_S)
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    (tmp_path / "blobs").mkdir()
    report = await scene.sweep().run()
    assert [line.partition(":")[0].split("/")[0] for line in report.trouble] == ["drop_lost_staging", "blobs"]
    assert len(await waiting_removals(scene)) == 1
    (tmp_path / "blobs").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "blobs")
    await sweep(scene)
    assert await objects_of(scene.store) == {}


async def test_damaged_row_is_garbage_like_others(scene: Scene) -> None:
    """A damaged blob that a manifest needs is kept, so that a push can heal it; one that nothing needs goes."""
    await scene.push(DATA)
    await scene.put_manifest([DIGEST])
    await scene.push(b"unused")
    for digest in (DIGEST, Digest.of(b"unused")):
        found = await scene.find(digest)
        await scene.database.transaction(garbage.mark_damaged, found.record, now=1)
        await scene.store.quarantine(found.record.stored.key)
    await sweep(scene, after_s=GRACE_S)
    assert (await sweep(scene, after_s=GRACE_S)).removed_blobs == 1
    await scene.push(DATA)
    assert await scene.pull(DIGEST) == DATA


async def test_unconfigured_storage_keeps(memory_scene: Scene) -> None:
    """Garbage of a storage that is no longer configured stays on record, and the report says so."""
    scene = memory_scene
    await scene.push(DATA)
    await sweep(scene, after_s=GRACE_S)
    scene.clock.advance(GRACE_S)
    other = Content(scene.database, {"another": scene.store}, clock=scene.clock)
    await other.prepare()
    report = await scene.sweep(content=other).run()
    assert [line for line in report.trouble if "not configured" in line] == report.trouble != []
    assert len(await waiting_removals(scene)) == 1


# --- the dry run ----------------------------------------------------------------------------------------------------


async def prospects(scene: Scene) -> dict[Digest, Doomed]:
    """What the dry run tells."""
    async with scene.sweep().prospects() as found:
        return {doomed.digest: doomed async for doomed in found}


async def test_dry_run_tells_what_goes_and_when(scene: Scene) -> None:
    """It lists exactly the blobs that later runs remove, each at the time that it told, with bytes and reason."""
    start = scene.clock.now
    needed, unlinked, unused, deleted, shared = [
        await scene.push(text) for text in (b"needed", b"unlinked", b"unused", b"deleted", b"shared")
    ]
    await scene.put_manifest([needed, shared])
    await scene.unlink(unlinked)
    await scene.delete_manifest(await scene.put_manifest([deleted, shared], salt="deleted"))
    scene.clock.advance(100)

    told = await prospects(scene)
    assert {digest: (doomed.reason, doomed.not_before - start) for digest, doomed in told.items()} == {
        unlinked: ("nothing links it", 2 * GRACE_S),
        unused: ("no manifest needs it", 2 * GRACE_S),
        deleted: ("only deleted manifests need it", UNDELETE_S + 2 * GRACE_S),
    }
    assert told[unused].stored_bytes == len(b"unused")
    assert await prospects(scene) == told  # looking changes nothing

    went: dict[Digest, int] = {}
    while len(went) < 3 and scene.clock.now < start + 10 * GRACE_S:
        scene.clock.advance(100)
        before = await stored_digests(scene)
        await sweep(scene)
        went |= dict.fromkeys(before - await stored_digests(scene), scene.clock.now)
    assert went == {digest: doomed.not_before for digest, doomed in told.items()}
    assert await prospects(scene) == {}


async def test_dry_run_of_condemned_blobs(scene: Scene) -> None:
    """A blob with a tombstone goes a grace period after it was put on, however long ago that was."""
    await scene.push(DATA)
    await sweep(scene, after_s=GRACE_S)
    told = (await prospects(scene))[DIGEST]
    assert (told.reason, told.not_before) == ("nothing links it", scene.clock.now + GRACE_S)
    scene.clock.advance(5 * GRACE_S)
    assert (await prospects(scene))[DIGEST] == told


async def test_dry_run_in_pages(memory_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on after pages without garbage."""
    monkeypatch.setattr("storage.sweep._LOOK", 2)
    pushed = [await memory_scene.push(b"%d" % number) for number in range(9)]
    await memory_scene.put_manifest(pushed[1:8])
    assert set(await prospects(memory_scene)) == {pushed[0], pushed[8]}
