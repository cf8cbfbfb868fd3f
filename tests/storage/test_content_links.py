"""What an image may read: by its links alone, made by a push or a mount, and renewed by telling of them."""

import pytest
import sqlalchemy as sa

from storage import (
    BlobUnknown,
    Damaged,
    Digest,
    Span,
    Unavailable,
)
from storage.metadata import blobs, garbage
from storage.metadata import tables as t
from tests.storage.failing import FailingDatabase, Faults
from tests.storage.place import objects_of
from tests.storage.scene import Scene

DATA = b"some bytes that make a blob"
DIGEST = Digest.of(DATA)

# --- reading, by links ----------------------------------------------------------------------------------------------


async def test_only_links_make_readable(scene: Scene) -> None:
    """A blob that one image has is unknown in every other, and so is one that nobody has (row ACC-04)."""
    await scene.push(DATA)
    for image, repository in (("second", scene.repository), ("app", scene.other)):
        with pytest.raises(BlobUnknown) as present:
            await scene.find(DIGEST, image, repository=repository)
        absent = Digest.of(b"nobody has this")
        with pytest.raises(BlobUnknown) as never:
            await scene.find(absent, image, repository=repository)
        assert str(present.value).replace(str(DIGEST), "") == str(never.value).replace(str(absent), "")


async def test_one_copy_for_all(scene: Scene) -> None:
    """Whoever pushes the same bytes again gets a link, and the store keeps one copy (row UP-31)."""
    for repository in (scene.repository, scene.other, scene.repository):
        await scene.push(DATA, repository=repository)
    await scene.sweep().run()
    assert len(await objects_of(scene.store)) == 1
    assert await scene.pull(DIGEST, repository=scene.other) == DATA


async def test_span(scene: Scene) -> None:
    """A part of a blob is read as that part."""
    await scene.push(DATA)
    found = await scene.find(DIGEST)
    async with scene.content.open(found, Span(5, 10)) as reader:
        assert b"".join([chunk async for chunk in reader.chunks()]) == DATA[5:10]


async def test_object_that_is_missing_is_damage(directory_scene: Scene) -> None:
    """A blob on record whose object the store does not have is trouble, not absence."""
    scene = directory_scene
    await scene.push(DATA)
    found = await scene.find(DIGEST)
    await scene.store.remove(found.record.stored.key)
    with pytest.raises(Damaged, match="fsck"):
        await scene.pull(DIGEST)


async def test_blob_that_went_between_find_and_open(scene: Scene) -> None:
    """A blob that the sweep removed after it was found is unknown; one that was stored anew is to be asked again."""
    await scene.push(DATA)
    found = await scene.find(DIGEST)
    await scene.unlink(DIGEST)
    for _ in range(3):
        scene.clock.advance(scene.grace_s)
        await scene.sweep().run()
    with pytest.raises(BlobUnknown):
        async with scene.content.open(found, Span(0, 1)):
            pass
    await scene.push(DATA)
    with pytest.raises(Unavailable, match="retry"):
        async with scene.content.open(found, Span(0, 1)):
            pass


async def test_damaged_blob_is_absent_until_pushed_again(scene: Scene) -> None:
    """A blob that fsck marked is unknown everywhere, so that clients send it, and the next push heals all images."""
    await scene.push(DATA)
    await scene.push(DATA, "second")
    found = await scene.find(DIGEST)
    await scene.database.transaction(garbage.mark_damaged, found.record, now=1)
    for image in ("app", "second"):
        with pytest.raises(BlobUnknown):
            await scene.find(DIGEST, image)
    await scene.push(DATA)
    assert await scene.pull(DIGEST) == await scene.pull(DIGEST, "second") == DATA
    await scene.sweep().run()
    assert list(await objects_of(scene.store)) == [(await scene.find(DIGEST)).record.stored.key]


async def test_storage_that_is_not_configured(memory_scene: Scene) -> None:
    """A storage whose configuration is gone is trouble that says what to do."""
    with pytest.raises(Unavailable, match=r"storage\.storages"):
        memory_scene.content.store(99)
    with pytest.raises(KeyError):
        memory_scene.content.storage_id("nowhere")
    assert memory_scene.content.storage_names() == {memory_scene.content.storage_id("main"): "main"}


# --- mounts ---------------------------------------------------------------------------------------------------------


async def mount(scene: Scene, digest: Digest, *, source_image: str = "app") -> bool:
    """Mount from the first repository into the second."""
    return await scene.content.mount(
        digest,
        source_repository_id=scene.repository.id,
        source_image=source_image,
        repository=scene.other,
        image="mounted",
    )


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_mount(scene: Scene, algorithm: str) -> None:
    """A mount makes the blob readable in the target without a copy, and deleting it there leaves the source alone."""
    digest = await scene.push(DATA, digest=Digest.of(DATA, algorithm))
    assert await mount(scene, digest)
    assert await mount(scene, digest)
    assert await scene.pull(digest, "mounted", repository=scene.other) == DATA
    assert len(await objects_of(scene.store)) == 1
    target = await scene.image("mounted", repository=scene.other)
    assert await scene.database.transaction(blobs.unlink, target.id, digest)
    assert await scene.pull(digest) == DATA


async def test_mount_of_what_the_source_has_not(scene: Scene) -> None:
    """Nothing is mounted from an image that may not read it itself, does not exist, or lost it (row MT-02)."""
    await scene.push(DATA)
    assert not await mount(scene, DIGEST, source_image="second")
    assert not await mount(scene, Digest.of(b"absent"))
    await scene.unlink(DIGEST)
    assert not await mount(scene, DIGEST)
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST, "mounted", repository=scene.other)


async def test_mount_needs_the_same_storage(memory_scene: Scene) -> None:
    """A blob that lies in another storage has to be sent."""
    scene = memory_scene
    await scene.push(DATA)

    def move(tx: sa.Connection) -> None:
        made = tx.execute(sa.insert(t.storages).returning(t.storages.c.id), {"name": "elsewhere"}).scalar_one()
        tx.execute(sa.update(t.blobs).values(storage_id=made))

    await scene.database.transaction(move)
    assert not await mount(scene, DIGEST)


# --- touches --------------------------------------------------------------------------------------------------------


async def linked_at(scene: Scene) -> int:
    """When the link was last renewed, counted from the start of the clock."""
    image = await scene.image()
    found = await scene.database.read(blobs.linked, image.id, DIGEST)
    assert found is not None
    return found[1]


async def test_telling_renews(memory_scene: Scene) -> None:
    """Who was told of an old link has a whole grace period to use it; telling of a young one writes nothing."""
    scene = memory_scene
    await scene.push(DATA)
    made = await linked_at(scene)
    scene.clock.advance(scene.grace_s // 2)
    await scene.find(DIGEST)
    await scene.content.flush_touches()
    assert await linked_at(scene) == made
    scene.clock.advance(1)
    await scene.find(DIGEST)
    assert await linked_at(scene) == made  # reading writes nothing
    await scene.content.flush_touches()
    assert await linked_at(scene) == made + scene.grace_s // 2 + 1


async def test_touches_survive_trouble(memory_scene: Scene) -> None:
    """Renewals that could not be written are written the next time."""
    scene, faults = memory_scene, Faults()
    worker = await scene.worker(database=FailingDatabase(scene.database, faults))
    await scene.push(DATA)
    scene.clock.advance(scene.grace_s)
    await worker.find((await scene.image()).id, DIGEST)
    faults.arm(0, Unavailable("gone"))
    with pytest.raises(Unavailable):
        await worker.flush_touches()
    await worker.flush_touches()
    assert await linked_at(scene) == scene.clock.now
    faults.passed.clear()
    await worker.flush_touches()
    assert faults.passed == []


async def test_more_touches_than_fit(memory_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """When as many renewals wait as may, they are written at once: none is dropped."""
    monkeypatch.setattr("storage.content._TOUCH_BOUND", 2)
    scene = memory_scene
    digests = [await scene.push(b"%d" % number) for number in range(3)]
    image = await scene.image()
    scene.clock.advance(scene.grace_s)
    for digest in digests:
        await scene.find(digest)
    renewed = [await scene.database.read(blobs.linked, image.id, digest) for digest in digests]
    ages = [scene.clock.now - found[1] for found in renewed if found is not None]
    assert ages == [0, 0, scene.grace_s]
    await scene.content.flush_touches()
    last = await scene.database.read(blobs.linked, image.id, digests[2])
    assert last is not None
    assert last[1] == scene.clock.now


async def test_touch_revives_nothing(memory_scene: Scene) -> None:
    """A renewal that comes after its link went does not bring it back."""
    scene = memory_scene
    await scene.push(DATA)
    scene.clock.advance(scene.grace_s)
    await scene.find(DIGEST)
    await scene.unlink(DIGEST)
    await scene.content.flush_touches()
    with pytest.raises(BlobUnknown):
        await scene.find(DIGEST)
