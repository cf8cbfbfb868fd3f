"""Rows from bytes: all that is stored gets its row back, once, and nothing that has one changes."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import Database, Digest, Rebuild, RebuildTotals, StoredObject, Transaction
from storage.metadata import blobs, garbage
from storage.metadata.tables import blobs as blob_table
from storage.metadata.tables import links
from storage.s3.keys import ObjectName
from tests.servers.bucket_server import S3Server
from tests.storage.failing import publish_only
from tests.storage.place import put
from tests.storage.s3.bucket_place import place_in
from tests.storage.s3.buckets import settings_for
from tests.storage.scene import Clock, Scene

DATA = [b"blob %d" % number for number in range(450)]
STAGING = "0123456789-rebuild"


def forget(tx: Transaction) -> None:
    """A database in which nobody ever pushed."""
    tx.execute(sa.delete(links))
    tx.execute(sa.delete(blob_table))


def forget_one(tx: Transaction, digest: Digest) -> None:
    """A database of before that push."""
    tx.execute(sa.delete(blob_table).where(blob_table.c.digest == str(digest)))


async def run(scene: Scene, *, verify: bool = False) -> RebuildTotals:
    """One run."""
    return await Rebuild(scene.database, scene.content, verify=verify, clock=scene.clock).run()


async def rows(scene: Scene) -> dict[Digest, StoredObject]:
    """What is on record."""
    found = await scene.database.survey(garbage.every_blob, after=0, limit=1000)
    return {blob.stored.digest: blob.stored for blob in found}


@pytest.mark.slow
async def test_an_empty_database_gets_every_row(scene: Scene) -> None:
    """The same objects are on record as before; the next push finds its bytes, and a second run nothing to do."""
    for data in DATA:
        await scene.push(data)
    before = await rows(scene)
    await scene.database.transaction(forget)

    first, second = await run(scene), await run(scene)

    assert {digest: stored.key for digest, stored in (await rows(scene)).items()} == {
        digest: stored.key for digest, stored in before.items()
    }
    assert (first.objects, first.added, first.kept, first.unusable) == (450, 450, 0, [])
    assert (second.objects, second.added, second.kept) == (450, 0, 450)
    assert await scene.pull(await scene.push(DATA[0])) == DATA[0]


async def test_with_a_backup_only_what_is_missing_comes(scene: Scene) -> None:
    """Rows that have their bytes stay as they are, with their links."""
    old = await scene.push(b"in the backup")
    late = await scene.push(b"not in the backup", "app")
    await scene.unlink(late)
    await scene.database.transaction(
        lambda tx: tx.execute(sa.delete(blob_table).where(blob_table.c.digest == str(late)))
    )

    totals = await run(scene)

    assert (totals.added, totals.kept) == (1, 1)
    assert await scene.pull(old) == b"in the backup"
    assert set(await rows(scene)) == {old, late}


async def test_a_row_from_before_its_blob_was_stored_anew_is_healed(scene: Scene) -> None:
    """The backup names a key that is gone; the same bytes lie under another."""
    digest = await scene.push(b"healed since")
    (gone,) = (await rows(scene)).values()
    fresh = await put(scene.store, STAGING, b"healed since")
    await scene.store.remove(gone.key)

    totals = await run(scene)

    assert (totals.healed, totals.added) == (1, 0)
    assert (await rows(scene))[digest].key == fresh.key
    assert await scene.pull(digest) == b"healed since"


async def test_a_second_copy_and_what_was_given_up_get_no_row(scene: Scene) -> None:
    """One good copy is enough, and what the sweep is about to remove cannot be relied on."""
    await scene.push(b"twice")
    await put(scene.store, STAGING, b"twice")
    loose = await put(scene.store, f"{STAGING}-2", b"given up")
    await scene.database.transaction(blobs.free_later, scene.repository.storage_id, loose.key, now=int(scene.clock()))
    before = await rows(scene)

    totals = await run(scene)

    assert (totals.objects, totals.kept, totals.added, totals.healed) == (3, 3, 0, 0)
    assert await rows(scene) == before


async def test_a_push_in_flight_meets_its_row(scene: Scene) -> None:
    """What was published and not yet committed gets a row; the commit that follows takes that one."""
    record = await publish_only(scene, b"in flight")
    totals = await run(scene)

    async with scene.content.resume(record) as upload:
        committed = await scene.content.commit(upload, Digest.of(b"in flight"), repository=scene.repository)

    assert totals.added == 1
    assert await rows(scene) == {Digest.of(b"in flight"): committed.stored}
    assert await scene.pull(Digest.of(b"in flight")) == b"in flight"


@pytest.fixture
async def damaged(directory_scene: Scene, tmp_path: Path) -> Scene:
    """One sound object and one with a wrong byte, and a database that knows neither."""
    await directory_scene.push(b"sound")
    await directory_scene.push(b"damaged")
    (path,) = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file() and path.read_bytes() == b"damaged"]
    path.chmod(0o600)
    path.write_bytes(b"damageX")
    await directory_scene.database.transaction(forget)
    return directory_scene


async def test_verifying_keeps_wrong_bytes_off_the_record(damaged: Scene) -> None:
    """They are told; without verifying they come as they are listed, for fsck to find."""
    careful = await run(damaged, verify=True)
    on_record = set(await rows(damaged))
    trusting = await run(damaged)

    assert on_record == {Digest.of(b"sound")}
    assert (careful.added, careful.unusable_objects, careful.read_bytes) == (1, 1, 12)
    assert "its bytes have digest" in careful.unusable[0].detail
    assert trusting.added == 1


async def test_an_object_whose_size_cannot_be_told_is_not_put_on_record(directory_scene: Scene, tmp_path: Path) -> None:
    """A compressed object without its table is listed with no size; an empty blob is not mistaken for one."""
    await directory_scene.push(b"")
    stored = await put(directory_scene.store, STAGING, b"x")
    path = tmp_path / "blobs" / stored.key
    path.rename(path.with_name(f"{path.name}.zst"))
    await directory_scene.database.transaction(forget)

    totals = await run(directory_scene)

    assert (totals.added, [each.detail for each in totals.unusable]) == (1, ["its size cannot be told"])


async def test_a_marker_without_its_bytes_does_not_stand_for_a_digest(
    radosgw: S3Server, bucket: str, database: Database, tmp_path: Path
) -> None:
    """What a publish left in a bucket that never brought its bytes keeps no sound object off the record."""
    async with place_in(radosgw, settings_for(radosgw, bucket), database, tmp_path) as place:
        scene = await Scene(database, await place.open(), Clock()).prepare()
        digest = await scene.push(b"published at the second attempt")
        sound = (await rows(scene))[digest]
        dead = replace(ObjectName.parse(sound.key), object_id="-listed-first")
        radosgw.overwrite(bucket, place.settings.root + dead.marker, b"")
        await scene.database.transaction(forget)

        totals = await run(scene)

        assert (await rows(scene))[digest].key == sound.key
        assert (totals.objects, totals.added) == (2, 1)
        assert [each.key for each in totals.unusable] == [dead.key]
