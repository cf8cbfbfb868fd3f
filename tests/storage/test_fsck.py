"""fsck: what it finds, what repairing does and does not do, and that a push heals."""

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage import (
    BlobReader,
    BlobStore,
    BlobUnknown,
    Digest,
    FilesystemStore,
    Finding,
    Fsck,
    Hasher,
    MemoryStore,
    Pool,
    Span,
    StoredObject,
    Unavailable,
)
from storage.metadata import garbage
from tests.storage.failing import FailingDatabase, FailingStore, Faults, InterruptedDatabase, commit, publish_only
from tests.storage.place import objects_of
from tests.storage.scene import GRACE_S, Scene

DATA = bytes(range(256)) * 4000
DIGEST = Digest.of(DATA)


async def check(scene: Scene, *, repair: bool = False) -> list[Finding]:
    """Everything that one check finds."""
    fsck = Fsck(scene.database, scene.content, repair=repair, grace_s=GRACE_S, clock=scene.clock)
    async with fsck.findings() as found:
        findings = [finding async for finding in found]
    assert fsck.totals.findings == len(findings)
    return findings


class Directory:
    """A scene over a directory, and what can happen to a file there."""

    def __init__(self, scene: Scene, root: Path) -> None:
        self.scene = scene
        self.root = root

    async def path(self, digest: Digest = DIGEST) -> Path:
        """The file of a blob that the first image has."""
        return self.root / (await self.scene.find(digest)).record.stored.key

    async def lose(self) -> None:
        """Delete the file."""
        (await self.path()).unlink()

    async def flip(self) -> None:
        """Turn one bit of the file, in the middle."""
        path = await self.path()
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(len(DATA) // 2)
            byte = file.read(1)[0]
            file.seek(len(DATA) // 2)
            file.write(bytes([byte ^ 1]))

    async def cut(self) -> None:
        """Take the end of the file away."""
        path = await self.path()
        path.chmod(0o600)
        os.truncate(path, len(DATA) - 1)

    async def grow(self) -> None:
        """Add a byte to the file."""
        path = await self.path()
        path.chmod(0o600)
        with path.open("ab") as file:
            file.write(b"x")

    async def replace(self) -> None:
        """Put a directory where the file was."""
        path = await self.path()
        path.unlink()
        path.mkdir()


@pytest.fixture
async def directory(directory_scene: Scene, tmp_path: Path) -> Directory:
    """A directory with one blob that two images have and one manifest needs."""
    await directory_scene.push(DATA)
    await directory_scene.push(DATA, "second")
    await directory_scene.put_manifest([DIGEST])
    await directory_scene.sweep().run()  # the second push's copy
    return Directory(directory_scene, tmp_path / "blobs")


async def test_nothing_wrong(scene: Scene) -> None:
    """A whole installation has no findings; everything was looked at, and marked as verified."""
    for number in range(7):
        await scene.push(b"%d" % number)
    await scene.push(DATA)
    fsck = Fsck(scene.database, scene.content, grace_s=GRACE_S, clock=scene.clock)
    async with fsck.findings() as found:
        assert [finding async for finding in found] == []
    assert (fsck.totals.blobs, fsck.totals.read_bytes, fsck.totals.orphans) == (8, 7 + len(DATA), 0)
    rows = await scene.database.survey(lambda tx: tx.exec_driver_sql("SELECT verified_at FROM blobs").scalars().all())
    assert list(rows) == [scene.clock.now] * 8


async def test_compressed_blobs(directory_scene: Scene, tmp_path: Path) -> None:
    """Blobs that are kept compressed are checked by what they give to readers."""
    scene = directory_scene
    store = FilesystemStore(tmp_path / "blobs", pool=Pool("disk", 2), compression="auto")
    text = b"the same words again and again " * 20_000
    await scene.push(text, content=await scene.worker(store=store))
    assert (await scene.find(Digest.of(text))).record.stored.encoding == "zstd"
    assert await check(scene) == []


DAMAGES = {
    "lose": ("missing", "does not have it"),
    "flip": ("damaged", "digest sha256:"),
    "cut": ("damaged", "bytes, not"),
    "grow": ("damaged", "bytes, not"),
    "replace": ("damaged", "regular file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_reported(directory: Directory, damage: str) -> None:
    """What is wrong with a blob is told with the images that suffer; without repair nothing changes."""
    await getattr(directory, damage)()
    kind, words = DAMAGES[damage]
    for _ in range(2):
        (finding,) = await check(directory.scene)
        assert (finding.kind, finding.digest, finding.storage, finding.repaired) == (kind, DIGEST, "main", False)
        assert finding.images == ("common/hosted/app", "common/hosted/second")
        assert words in finding.detail
    assert (await directory.scene.find(DIGEST)).record.damaged_at is None


@pytest.mark.parametrize("damage", DAMAGES)
async def test_repair_puts_aside_and_the_next_push_heals(directory: Directory, damage: str) -> None:
    """After repair the blob is absent, its bytes are in quarantine, and one push makes it whole for every image."""
    scene = directory.scene
    await getattr(directory, damage)()
    (finding,) = await check(scene, repair=True)
    assert (finding.kind, finding.repaired) == (DAMAGES[damage][0], True)
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST)
    assert await objects_of(scene.store) == {}
    assert len(list((directory.root / "quarantine").iterdir())) == (damage != "lose")

    (again,) = await check(scene)  # it is told until it is healed
    assert (again.kind, again.images, again.repaired) == ("damaged", finding.images, False)

    await scene.push(DATA, "second")
    assert await scene.pull(DIGEST) == await scene.pull(DIGEST, "second") == DATA
    assert await check(scene) == []
    await scene.sweep().run()
    assert await scene.pull(DIGEST) == DATA


async def test_only_the_damaged_one_is_touched(directory: Directory) -> None:
    """Among many blobs only the damaged one is found and put aside."""
    scene = directory.scene
    others = [await scene.push(b"%d" % number) for number in range(5)]
    await directory.flip()
    assert [finding.digest for finding in await check(scene, repair=True)] == [DIGEST]
    for number, digest in enumerate(others):
        assert await scene.pull(digest) == b"%d" % number


# --- orphans --------------------------------------------------------------------------------------------------------


async def orphan(scene: Scene) -> str:
    """An object without a row; its key."""
    async with scene.store.stage("orphan", create=True) as staging:
        await staging.write(b"orphan", Hasher())
        stored = await staging.publish(Digest.of(b"orphan"))
        await staging.discard()
    return stored.key


async def test_orphan(scene: Scene) -> None:
    """An object that no row has is found when it is old enough; repair puts it aside."""
    await scene.push(DATA)
    key = await orphan(scene)
    scene.clock.advance(GRACE_S - 1)
    assert await check(scene) == []
    scene.clock.advance(2)
    (finding,) = await check(scene)
    assert (finding.kind, finding.key, finding.digest) == ("orphan", key, Digest.of(b"orphan"))
    assert (finding.stored_bytes, finding.images, finding.repaired) == (6, (), False)
    (finding,) = await check(scene, repair=True)
    assert finding.repaired
    assert await check(scene) == []
    await scene.content.find((await scene.image()).id, DIGEST)
    await scene.content.flush_touches()
    await scene.sweep().run()
    assert set(await objects_of(scene.store)) == {(await scene.find(DIGEST)).record.stored.key}


async def test_commit_in_flight_is_no_orphan(scene: Scene) -> None:
    """Bytes that are published and not yet committed are left alone, and so is their commit."""
    faults = Faults()
    worker = await scene.worker(store=FailingStore(scene.store, faults))
    record = await scene.begin()
    async with worker.resume(record) as upload:
        await upload.append(DATA)
        await upload.staging.publish(DIGEST)
        assert await check(scene, repair=True) == []
        await worker.commit(upload, DIGEST, repository=scene.repository)
    assert await scene.pull(DIGEST) == DATA


async def test_commit_that_comes_at_the_last_moment(scene: Scene) -> None:
    """When an old published object gets its row right before fsck would give it up, it is kept and not reported."""
    record = await publish_only(scene, DATA)
    scene.clock.advance(GRACE_S + 1)
    (finding,) = await check(scene)
    assert finding.kind == "orphan"

    async def finish() -> None:
        await commit(scene.content, scene, record, DATA)

    database = InterruptedDatabase(scene.database, finish)
    fsck = Fsck(database, scene.content, repair=True, grace_s=GRACE_S, clock=scene.clock)
    async with fsck.findings() as found:
        assert [finding async for finding in found] == []
    assert database.is_done
    await scene.sweep().run()
    assert await scene.pull(DIGEST) == DATA


async def test_superfluous_copies_are_no_orphans(scene: Scene) -> None:
    """A second copy is freed by the commit that notices it, and its key on the list of removals troubles nobody."""
    record = await scene.begin("second")
    async with scene.content.resume(record) as upload:
        await upload.append(DATA)
        await upload.staging.publish(DIGEST)
        await scene.push(DATA)
        await scene.content.commit(upload, DIGEST, repository=scene.repository)
    assert len(await objects_of(scene.store)) == 1
    scene.clock.advance(GRACE_S + 1)
    assert await check(scene) == []


async def publish_orphans(scene: Scene, count: int) -> None:
    """So many objects without a row, old enough to be judged."""
    for number in range(count):
        data = b"orphan %d" % number
        async with scene.store.stage(f"orphan-{number}", create=True) as staging:
            await staging.write(data, Hasher())
            await staging.publish(Digest.of(data))
            await staging.discard()
    scene.clock.advance(GRACE_S + 1)


async def test_orphan_is_put_aside_with_its_bytes(directory_scene: Scene, tmp_path: Path) -> None:
    """What repair takes out of the store lies in quarantine, and no sweep removes it from there."""
    await orphan(directory_scene)
    directory_scene.clock.advance(GRACE_S + 1)
    (finding,) = await check(directory_scene, repair=True)
    assert finding.repaired
    assert (await directory_scene.sweep().run()).trouble == []
    (aside,) = (tmp_path / "blobs" / "quarantine").iterdir()
    assert aside.read_bytes() == b"orphan"


@pytest.mark.parametrize("rows", [0, 1])
async def test_store_of_another_database(scene: Scene, rows: int) -> None:
    """Beside a fresh or older database repair touches no object, and says why."""
    for number in range(rows):
        await scene.push(b"%d" % number)
    await publish_orphans(scene, 11)
    before = await objects_of(scene.store)
    findings = await check(scene, repair=True)
    assert {(each.kind, each.repaired) for each in findings} == {("orphan", False)}
    assert "older backup" in findings[0].detail
    await scene.sweep().run()
    assert len(findings) == 11
    assert await objects_of(scene.store) == before


# --- marks and lost disks -------------------------------------------------------------------------------------------


async def mark(scene: Scene) -> None:
    """Mark the whole blob as damaged, as a disk with a bad day would have it."""
    found = await scene.find(DIGEST)
    assert await scene.database.transaction(garbage.mark_damaged, found.record, now=scene.clock.now)


async def test_marked_blob_that_is_whole(scene: Scene) -> None:
    """A healthy blob with a mark is read again: repair clears the mark and puts nothing aside."""
    await scene.push(DATA)
    await mark(scene)
    (finding,) = await check(scene)
    assert (finding.kind, finding.repaired) == ("damaged", False)
    (finding,) = await check(scene, repair=True)
    assert (finding.kind, finding.repaired) == ("healed", True)
    assert await scene.pull(DIGEST) == DATA
    assert await check(scene) == []


async def test_most_blobs_are_missing(scene: Scene) -> None:
    """When most of a storage is gone at once, repair marks nothing and says that it looks unmounted."""
    digests = [await scene.push(b"%d" % number) for number in range(12)]
    for digest in digests[1:]:
        await scene.store.remove((await scene.find(digest)).record.stored.key)
    findings = await check(scene, repair=True)
    assert {(each.kind, each.repaired) for each in findings} == {("missing", False)}
    assert len(findings) == 11
    assert "unmounted" in findings[0].detail
    for digest in digests:
        assert (await scene.find(digest)).record.damaged_at is None


class BadSector(FailingStore):
    """A store on which one blob cannot be read."""

    def __init__(self, inner: BlobStore, digest: Digest) -> None:
        super().__init__(inner, Faults())
        self._digest = digest

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """Fail as `storage.durable` does."""
        if stored.digest == self._digest:
            raise Unavailable("Input/output error") from OSError(errno.EIO, "Input/output error")
        async with super().open(stored, span) as reader:
            yield reader


async def test_unreadable_blob(scene: Scene) -> None:
    """A bad sector is one finding; the check goes on behind it, and when the bytes come back the mark goes."""
    await scene.push(DATA)
    await scene.push(b"behind it")
    content = await scene.worker(store=BadSector(scene.store, DIGEST))
    fsck = Fsck(scene.database, content, repair=True, grace_s=GRACE_S, clock=scene.clock)
    async with fsck.findings() as found:
        assert [(each.kind, each.repaired) async for each in found] == [("unreadable", True)]
    assert fsck.totals.blobs == 2
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST)
    assert [each.kind for each in await check(scene, repair=True)] == ["healed"]
    assert await scene.pull(DIGEST) == DATA


# --- beside a serving gateway ---------------------------------------------------------------------------------------


class InterruptedStore(FailingStore):
    """A store on which something else happens right before an object is opened."""

    def __init__(self, inner: BlobStore, action: Callable[[], Awaitable[object]]) -> None:
        super().__init__(inner, Faults())
        self._action = action

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """The action first."""
        await self._action()
        async with super().open(stored, span) as reader:
            yield reader


async def test_blob_that_is_removed_while_it_is_checked(scene: Scene) -> None:
    """A blob that the sweep takes after it was listed is no finding, and neither is the one after it."""
    await scene.push(DATA)
    await scene.unlink(DIGEST)
    await scene.push(b"stays")
    await scene.put_manifest([Digest.of(b"stays")])

    async def sweep() -> None:
        for _ in range(2):
            scene.clock.advance(GRACE_S)
            assert (await scene.sweep().run()).trouble == []
        assert len(await objects_of(scene.store)) == 1

    content = await scene.worker(store=InterruptedStore(scene.store, sweep))
    fsck = Fsck(scene.database, content, repair=True, grace_s=GRACE_S, clock=scene.clock)
    async with fsck.findings() as found:
        assert [finding async for finding in found] == []
    assert fsck.totals.blobs == 2
    assert await scene.pull(Digest.of(b"stays")) == b"stays"


async def test_blob_that_was_stored_anew_before_it_is_checked(directory: Directory) -> None:
    """A blob that has another object since it was listed is not judged by the old one, which is gone."""
    scene = directory.scene

    async def heal() -> None:
        await directory.flip()
        await check(scene, repair=True)
        await scene.push(DATA)

    content = await scene.worker(store=InterruptedStore(scene.store, heal))
    fsck = Fsck(scene.database, content, grace_s=GRACE_S, clock=scene.clock)
    async with fsck.findings() as found:
        assert [finding async for finding in found] == []


async def test_blob_that_is_healed_while_it_is_checked(directory: Directory) -> None:
    """A blob that was healed after fsck had read its damaged bytes keeps its good row."""
    scene = directory.scene
    await directory.flip()

    async def heal() -> None:
        (finding,) = await check(scene, repair=True)
        assert finding.kind == "damaged"
        await scene.push(DATA)

    database = InterruptedDatabase(scene.database, heal)
    fsck = Fsck(database, scene.content, repair=True, grace_s=GRACE_S, clock=scene.clock)
    async with fsck.findings() as found:
        assert [finding async for finding in found] == []
    assert database.is_done
    assert await scene.pull(DIGEST) == DATA


async def test_trouble_ends_the_check_and_marks_nothing(directory: Directory) -> None:
    """A disk that does not answer is no damage: the check ends, and no blob is marked."""
    scene = directory.scene
    faults = Faults()
    content = await scene.worker(store=FailingStore(scene.store, faults))
    faults.arm_at("before open", Unavailable("the disk hiccups"))
    fsck = Fsck(scene.database, content, repair=True, grace_s=GRACE_S, clock=scene.clock)
    with pytest.raises(Unavailable):
        async with fsck.findings() as found:
            assert [finding async for finding in found] == []
    assert await scene.pull(DIGEST) == DATA


async def test_missing_disk_marks_nothing(directory: Directory) -> None:
    """When the store's directory is not mounted, its blobs are not missing."""
    scene = directory.scene
    directory.root.rename(directory.root.with_name("elsewhere"))
    directory.root.mkdir()
    with pytest.raises(Unavailable):
        await check(scene, repair=True)
    directory.root.rmdir()
    directory.root.with_name("elsewhere").rename(directory.root)
    assert await scene.pull(DIGEST) == DATA


async def test_repair_that_was_interrupted(directory: Directory) -> None:
    """When a repair dies at any point, the next one finishes it: nobody ever reads the damaged bytes after it."""
    scene = directory.scene
    await directory.flip()
    for number in range(100):
        faults = Faults()
        database = FailingDatabase(scene.database, faults)
        content = await scene.worker(database=database, store=FailingStore(scene.store, faults))
        fsck = Fsck(database, content, repair=True, grace_s=GRACE_S, clock=scene.clock)
        faults.arm(number, Unavailable("died"))
        try:
            async with fsck.findings() as found:
                assert [finding.kind async for finding in found] == ["damaged"]
        except Unavailable:
            continue
        break
    assert 5 < number < 99
    assert await objects_of(scene.store) == {}
    assert len(list((directory.root / "quarantine").iterdir())) == 1
    await scene.push(DATA)
    assert await scene.pull(DIGEST) == DATA


async def test_leaving_early(scene: Scene) -> None:
    """Who has seen enough leaves, and nothing stays open."""
    for number in range(3):
        await scene.push(b"%d" % number)
    await orphan(scene)
    scene.clock.advance(GRACE_S + 1)
    async with Fsck(scene.database, scene.content, grace_s=GRACE_S, clock=scene.clock).findings() as found:
        async for finding in found:
            assert finding.kind == "orphan"
            break
    if isinstance(scene.store, MemoryStore | FilesystemStore):
        assert scene.store.statistics().readers_open == 0
