"""The S3 store keeps the contract on a real service, and what only a bucket can be asked."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage import Database
from storage.blobstore import Span, StoredObject
from storage.digest import Digest, Hasher
from storage.errors import BlobUnknown, Damaged
from storage.s3 import staging
from storage.s3.keys import ObjectName, segment_key
from storage.s3.store import S3Store
from tests.servers.bucket_server import S3Server
from tests.storage.place import LARGE, SMALL, content_of, drop, objects_of, put
from tests.storage.s3.bucket_contract import BucketContract
from tests.storage.s3.bucket_place import BucketPlace, place_in
from tests.storage.s3.buckets import settings_for
from tests.storage.s3.test_bucket import fetch

pytestmark = pytest.mark.slow
DAY_S = 86400


@pytest.fixture(scope="module")
def server(radosgw: S3Server) -> S3Server:
    """The service."""
    return radosgw


@pytest.fixture(scope="module")
def shared(server: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return server.new_bucket()


class TestOverHttp(BucketContract):
    """The contract, over http."""


class TestOverHttps(BucketContract):
    """The contract, over https."""

    WAY = "https"


@pytest.fixture
async def place(radosgw: S3Server, shared: str, database: Database, tmp_path: Path) -> AsyncIterator[BucketPlace]:
    """A prefix of its own, over http."""
    async with place_in(radosgw, settings_for(radosgw, shared), database, tmp_path) as made:
        yield made


@pytest.fixture
async def store(place: BucketPlace) -> S3Store:
    """A ready store."""
    return await place.open()


async def test_layout(place: BucketPlace, store: S3Store) -> None:
    """A blob is its bytes and an empty marker, and nothing else stays; docs/storage-format.md says which."""
    stored = await put(store, "layout", SMALL)
    name = ObjectName.parse(stored.key)
    assert place.keys() == {name.blob: len(SMALL), name.marker: 0}
    assert place.uploads() == []
    await store.remove(stored.key)
    assert place.keys() == {}


async def test_rows_can_be_rebuilt(place: BucketPlace, store: S3Store) -> None:
    """What was published can be told from the bucket alone, by a listing, to the second."""
    published = [await put(store, f"blob-{number}", b"%d" % number) for number in range(3)]
    assert await objects_of(await place.open()) == {stored.key: stored for stored in published}


async def test_foreign_objects_are_not_listed(place: BucketPlace, store: S3Store) -> None:
    """What somebody else laid beside the markers is no blob."""
    stored = await put(store, "ours", SMALL)
    for key in ("markers/readme", f"markers/{stored.key}.bak", "markers/sha256/x/y.1.2"):
        place.server.overwrite(place.settings.bucket, place.settings.root + key, b"")
    assert await objects_of(store) == {stored.key: stored}


async def test_quarantine_keeps_the_bytes(place: BucketPlace, store: S3Store) -> None:
    """What is put aside is there for the operator, under its digest, and only there."""
    stored = await put(store, "aside", LARGE)
    await store.quarantine(stored.key)
    assert place.keys() == {ObjectName.parse(stored.key).aside: len(LARGE)}


async def test_quarantine_after_a_crash(place: BucketPlace, store: S3Store) -> None:
    """One that was interrupted between copy and removal is finished by repeating it."""
    stored = await put(store, "half-aside", LARGE)
    name = ObjectName.parse(stored.key)
    place.server.overwrite(place.settings.bucket, place.settings.root + name.aside, LARGE)
    await store.quarantine(stored.key)
    assert place.keys() == {name.aside: len(LARGE)}


async def test_missing_bytes_under_a_marker(place: BucketPlace, store: S3Store) -> None:
    """A marker without bytes is an absent object to whoever reads, and removing it removes the marker."""
    stored = await put(store, "hollow", SMALL)
    client = place.server.client()
    client.delete_object(Bucket=place.settings.bucket, Key=place.settings.root + ObjectName.parse(stored.key).blob)
    with pytest.raises(BlobUnknown):
        await content_of(store, stored)
    with pytest.raises(BlobUnknown):
        await store.stat(stored.key)
    await store.remove(stored.key)
    assert place.keys() == {}


async def test_row_of_another_size(store: S3Store) -> None:
    """A row whose size is not that of its key is damage, before anything is asked for."""
    stored = await put(store, "other-size", SMALL)
    with pytest.raises(Damaged):
        async with store.open(dataclasses.replace(stored, size_bytes=len(SMALL) + 1), Span(0, 1)):
            pass


async def test_redirect(place: BucketPlace, store: S3Store) -> None:
    """A client that follows the address gets the blob from the service itself, at the endpoint that it can reach."""
    stored = await put(store, "redirected", LARGE)
    url = await store.redirect_url(stored)
    assert fetch(url) == (200, LARGE)
    assert f"X-Amz-Expires={place.settings.redirect_lifetime_s}" in url
    outside = dataclasses.replace(place.settings, public_endpoint_url="https://s3.outside.example")
    assert (await (await place.open(outside)).redirect_url(stored)).startswith("https://s3.outside.example/")


async def test_sweep_of_strays(place: BucketPlace, store: S3Store) -> None:
    """Segments and uploads that no area knows are removed once they are old, and nothing else is."""
    stored = await put(store, "published", SMALL)
    async with store.stage("lives", create=True) as staging:  # parts and a segment
        for _ in range(6):
            await staging.write(b"x" * (2 << 20), Hasher())
    before, uploads = place.keys(), place.uploads()
    assert uploads
    root = place.settings.root
    stray, foreign = segment_key("nobody", 0), "staging/notes.txt"
    for key in (stray, foreign):
        place.server.overwrite(place.settings.bucket, root + key, b"left behind")
    client = place.server.client()
    client.create_multipart_upload(Bucket=place.settings.bucket, Key=f"{root}blobs/no/nobody-1")
    assert await store.sweep_strays(older_than_s=DAY_S) == 0
    assert await store.sweep_strays(older_than_s=-DAY_S) == 2  # as a clock of tomorrow sees it
    assert place.keys() == before | {foreign: 11}
    assert place.uploads() == uploads
    async with store.stage("lives", create=False) as staging:
        hasher = Hasher()
        await staging.rehash(hasher)
        assert hasher.digest() == Digest.of(b"x" * (12 << 20))
    assert await content_of(store, stored) == SMALL


async def test_sweep_spares_an_upload_that_runs(place: BucketPlace, store: S3Store) -> None:
    """A request that takes longer than strays may live keeps the parts that no row knows of yet."""
    sent = bytes(1 << 20)
    hasher = Hasher.portable()
    async with store.stage("slow", create=True) as staging:
        while not place.uploads():
            await staging.write(sent, hasher)
        assert await (await place.open()).sweep_strays(older_than_s=-DAY_S) == 0
        await staging.write(sent, hasher)
        stored = await staging.publish(hasher.digest())
        await staging.discard()
    assert await content_of(store, stored) == bytes(hasher.size_bytes)


async def test_slow_plane(radosgw: S3Server, shared: str, database: Database, tmp_path: Path) -> None:
    """With boto3 in threads instead of our own client, blobs of each size go in and come out."""
    async with place_in(radosgw, settings_for(radosgw, shared, "boto3"), database, tmp_path) as place:
        store = await place.open()
        for content in (b"", SMALL, LARGE, LARGE * 20):
            stored = await put(store, f"slow-{len(content)}", content)
            assert await content_of(store, stored) == content
            assert (
                await content_of(store, stored, Span(len(content) // 2, len(content))) == content[len(content) // 2 :]
            )
            assert await store.stat(stored.key) == stored
            await store.remove(stored.key)
        assert place.keys() == {}


async def test_statements_about_itself(store: S3Store) -> None:
    """Uploads survive machines; there is no descriptor to send from."""
    assert store.properties.durable_staging
    assert not store.properties.has_files
    stored: StoredObject = await put(store, "no-file", SMALL)
    async with store.open(stored, Span(0, 1)) as reader:
        assert reader.file is None


async def test_adopted_in_parts(
    place: BucketPlace, store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is too large for one PUT goes in parts, as if a client had sent it."""
    monkeypatch.setattr(staging, "_LARGEST_PUT_BYTES", len(LARGE) - 1)
    (tmp_path / "whole").write_bytes(LARGE)
    stored = await store.adopt(tmp_path / "whole", Digest.of(LARGE), len(LARGE), staging_id="large")
    assert await drop(store, "large") == stored
    assert await content_of(store, stored) == LARGE
    name = ObjectName.parse(stored.key)
    assert place.keys() == {name.blob: len(LARGE), name.marker: 0}
