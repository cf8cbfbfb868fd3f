"""A local file becomes a linked blob: rows and bytes in the order of every commit, and nothing left over."""

import os
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio

from storage import BlobUnknown, Content, Digest, RepositoryRecord, StorageError, Transaction, Unavailable
from storage.metadata import images, manifests
from storage.metadata.tables import manifest_references
from storage.records import ReferenceRecord
from tests.storage.directory import open_names
from tests.storage.failing import FailingDatabase, FailingStore, Faults
from tests.storage.place import areas_of, cancel_after, objects_of
from tests.storage.scene import Scene, document

DATA = b"a layer that came from an upstream"
DIGEST = Digest.of(DATA)
LONG = Digest.of(DATA, "sha512")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A verified local file."""
    found = tmp_path / "arrived"
    found.write_bytes(DATA)
    return found


async def adopt(
    scene: Scene, path: Path, *names: str, content: Content | None = None, also: Digest | None = None
) -> None:
    """Adopt it for these images of the first repository."""
    blob = await (content or scene.content).adopt(
        path, DIGEST, len(DATA), repository=scene.repository, image_names=names, also=also
    )
    assert blob.stored.digest == DIGEST


async def leftovers(scene: Scene) -> tuple[int, int]:
    """How many objects and staging areas there are once the sweep has removed what it may."""
    await scene.sweep().run()
    return len(await objects_of(scene.store)), len(await areas_of(scene.store))


async def test_adopted_for_several_images(scene: Scene, path: Path) -> None:
    """Every image that asked for the blob may read it, others may not, and the local file is not needed any more."""
    await adopt(scene, path, "one", "two")
    path.unlink()
    for image in ("one", "two"):
        assert await scene.pull(DIGEST, image) == DATA
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST, "three")
    assert await leftovers(scene) == (1, 0)


async def test_adopted_under_sha512(scene: Scene, path: Path) -> None:
    """A blob that was asked for by sha512 is linked under that, and is one object with the same bytes by sha256."""
    await adopt(scene, path, "one", also=LONG)
    assert await scene.pull(LONG, "one") == DATA
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST, "one")
    await adopt(scene, path, "one")
    assert await scene.pull(DIGEST, "one") == DATA
    assert await leftovers(scene) == (1, 0)


async def test_known_bytes_are_kept_once(scene: Scene, path: Path) -> None:
    """What somebody else has pushed is linked, and no second copy stays."""
    await scene.push(DATA, repository=scene.other)
    await adopt(scene, path, "one")
    assert await scene.pull(DIGEST, "one") == DATA
    assert await leftovers(scene) == (1, 0)


async def test_damaged_copy_is_healed(directory_scene: Scene, path: Path) -> None:
    """When the stored copy has lost its bytes, the file takes its place, for everybody who is linked to it."""
    scene = directory_scene
    await scene.push(DATA, repository=scene.other)
    found = await scene.find(DIGEST, repository=scene.other)
    await scene.store.remove(found.record.stored.key)
    await adopt(scene, path, "one")
    assert await scene.pull(DIGEST, repository=scene.other) == DATA
    assert await scene.pull(DIGEST, "one") == DATA


async def test_bytes_are_durable_before_the_row(
    directory_scene: Scene, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced, without its bytes being written again, before any row knows of it."""
    scene, synced = directory_scene, []
    fsync, inode = os.fsync, path.stat().st_ino

    def record(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    faults = Faults()
    content = await scene.worker(database=FailingDatabase(scene.database, faults))
    faults.arm_at("before transaction", Unavailable("the database is down"))
    with pytest.raises(Unavailable):
        await adopt(scene, path, "one", content=content)
    assert inode in synced
    await adopt(scene, path, "one")
    await scene.sweep().run()
    (stored,) = (await objects_of(scene.store)).values()
    assert (path.parent / "blobs" / stored.key).stat().st_ino == inode


async def test_manifest_that_came_first(scene: Scene, path: Path) -> None:
    """A cached manifest that was stored before its layers needs the blob from then on, so the sweep leaves it."""
    manifest = document([DIGEST])

    def put(tx: Transaction) -> int:
        image = images.ensure(tx, scene.repository, "one", now=scene.clock.now)
        return manifests.put(
            tx,
            image.id,
            manifest,
            artifact_type=None,
            subject=None,
            annotations=None,
            references=[ReferenceRecord("layer", DIGEST, len(DATA), None)],
            by=None,
            now=scene.clock.now,
        )

    await scene.database.transaction(put)
    await adopt(scene, path, "one")
    needed = sa.select(manifest_references.c.blob_id)
    assert None not in await scene.database.read(lambda tx: list(tx.execute(needed).scalars()))
    for _ in range(3):
        scene.clock.advance(10 * scene.grace_s)
        await scene.sweep().run()
    assert await scene.pull(DIGEST, "one") == DATA


@pytest.mark.parametrize("turn", range(12))
async def test_failure_leaves_nothing(scene: Scene, path: Path, turn: int) -> None:
    """Wherever store or database fail, nothing is linked or all is; what is left over goes; trying again helps."""
    faults = Faults()
    content = await scene.worker(
        database=FailingDatabase(scene.database, faults), store=FailingStore(scene.store, faults)
    )
    faults.arm(turn, Unavailable("the disk or the database"))
    try:
        await adopt(scene, path, "one", content=content)
    except StorageError:
        assert faults.failed_at is not None
        assert path.read_bytes() == DATA
    assert not open_names(path)
    await adopt(scene, path, "one")
    assert await scene.pull(DIGEST, "one") == DATA
    for _ in range(3):
        scene.clock.advance(10 * scene.grace_s)
        await scene.push(DATA, "one")
        await scene.sweep().run()
    assert await leftovers(scene) == (1, 0)


@pytest.mark.parametrize("turns", range(0, 20, 2))
async def test_cancelled(directory_scene: Scene, path: Path, turns: int) -> None:
    """However late it is cancelled, no descriptor and no staging area stays, and the next attempt succeeds."""
    scene = directory_scene
    await cancel_after(turns, lambda: adopt(scene, path, "one"))
    assert not open_names(path)
    assert await areas_of(scene.store) == {}
    await adopt(scene, path, "one")
    assert await scene.pull(DIGEST, "one") == DATA
    with trio.CancelScope() as scope:
        scope.cancel()
        await adopt(scene, path, "two")
    assert scope.cancelled_caught
    assert await leftovers(scene) == (1, 0)


async def test_repository_that_went(scene: Scene, path: Path) -> None:
    """When the repository is deleted while the blob comes in, nothing is linked and no bytes stay."""
    gone = _without_row(scene.other)
    with pytest.raises(StorageError):
        await scene.content.adopt(path, DIGEST, len(DATA), repository=gone, image_names=["one"])
    assert await leftovers(scene) == (0, 0)


def _without_row(repository: RepositoryRecord) -> RepositoryRecord:
    return type(repository)(
        **{name: getattr(repository, name) for name in repository.__slots__} | {"id": repository.id + 1000}
    )
