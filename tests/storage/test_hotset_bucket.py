"""A hot set in front of a real bucket: what it costs the bucket, and wrong bytes there."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from storage import BlobUnknown, Damaged, DamageReports, Database, Digest, HotSetStore, Intakes, Span
from storage.s3.keys import ObjectName
from tests.servers.bucket_server import S3Server
from tests.storage.hotset_place import MIB, hot_set
from tests.storage.s3.bucket_place import BucketPlace, place_in
from tests.storage.s3.buckets import settings_for
from tests.storage.scene import Clock, Scene

pytestmark = pytest.mark.slow

DATA = bytes(range(256)) * 4 * 1024 * 3
DIGEST = Digest.of(DATA)


@dataclass
class Front:
    """An installation over a bucket with a hot set, and one blob."""

    scene: Scene
    place: BucketPlace
    intakes: Intakes

    async def name(self) -> ObjectName:
        """Where the blob lies."""
        return ObjectName.parse((await self.scene.find(DIGEST)).record.stored.key)


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture
async def front(radosgw: S3Server, shared: str, database: Database, tmp_path: Path) -> AsyncIterator[Front]:
    """The blob was pushed and nobody has pulled it."""
    async with (
        place_in(radosgw, settings_for(radosgw, shared), database, tmp_path) as place,
        Intakes.open() as intakes,
    ):
        origin = await place.open()
        store = HotSetStore(origin, await hot_set(tmp_path / "hot"), intakes)
        scene = await Scene(database, store, Clock()).prepare()
        store.on_damage = DamageReports(database, scene.content, storage="main", origin=origin, clock=scene.clock)
        await scene.push(DATA)
        yield Front(scene, place, intakes)


async def test_many_readers_cost_the_bucket_one(front: Front) -> None:
    """Twenty cold pulls at once and one after them: each byte leaves the bucket once."""

    async def pull() -> None:
        assert await front.scene.pull(DIGEST) == DATA

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(pull)
    await front.intakes.wait_idle()
    await pull()
    assert front.intakes.statistics().source_bytes == len(DATA)
    found = await front.scene.find(DIGEST)
    async with front.scene.content.open(found, Span(1, MIB)) as reader:
        assert reader.file is not None


async def test_wrong_byte_in_the_bucket(front: Front) -> None:
    """The pull is broken off, the object put aside; a push of the digest heals it."""
    name = await front.name()
    settings = front.place.settings
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    front.place.server.overwrite(settings.bucket, settings.root + name.blob, wrong)
    with pytest.raises(Damaged):
        await front.scene.pull(DIGEST)
    await front.intakes.wait_idle()
    with pytest.raises(BlobUnknown):
        await front.scene.find(DIGEST)
    assert front.place.keys() == {name.aside: len(DATA)}
    await front.scene.push(DATA)
    assert await front.scene.pull(DIGEST) == DATA


async def test_bucket_that_lost_the_end(front: Front) -> None:
    """An object that became shorter is found when it is opened, and put aside."""
    await front.place.cut((await front.name()).key, len(DATA) - 1)
    with pytest.raises(Damaged):
        await front.scene.pull(DIGEST)
    await front.intakes.wait_idle()
    with pytest.raises(BlobUnknown):
        await front.scene.find(DIGEST)


async def test_what_was_adopted_is_warm(front: Front, tmp_path: Path) -> None:
    """A file from elsewhere that goes into the bucket stays in the hot set: the next pull costs the bucket nothing."""
    other = bytes(reversed(DATA))
    (tmp_path / "arrived").write_bytes(other)
    content = front.scene.content
    blob = await content.adopt(
        tmp_path / "arrived", Digest.of(other), len(other), repository=front.scene.repository, image_names=["app"]
    )
    name = ObjectName.parse(blob.stored.key)
    keys = front.place.keys()
    assert (keys[name.blob], keys[name.marker]) == (len(other), 0)
    (tmp_path / "arrived").unlink()
    assert await front.scene.pull(Digest.of(other)) == other
    assert front.intakes.statistics().source_bytes == 0
    found = await front.scene.find(Digest.of(other))
    async with content.open(found, Span(0, MIB)) as reader:
        assert reader.file is not None
