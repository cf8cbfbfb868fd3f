"""Blobs of a proxy: linked, shared, arriving; what HEAD asks, and who may have what is stored already."""

import json
import os

import pytest
import trio

from gateway.oci.errors import Code
from gateway.repositories.contract import ArrivingBlob
from gateway.upstream.errors import UpstreamBusy, UpstreamError, UpstreamFailed
from gateway.upstream.http import Credential
from storage import Digest, FoundBlob, RepositoryRecord, Span
from storage.metadata import images, manifests, repositories
from tests.gateway.repositories.mirror import Mirror, asked, changed
from tests.gateway.repositories.shelf import Holder, Shelf, refused
from tests.served import image_manifest, sha256
from tests.upstream.login import Bearer
from tests.upstream.script import Busy, Cut, Other, Says, Stall, Truncated, WrongByte, on
from tests.upstream.scripted import ScriptedUpstream
from tests.upstream.shelf import Manifest

LAYER = os.urandom(700_000)
DIGEST = sha256(LAYER)
FAULTS = [
    WrongByte(699_999),
    WrongByte(3),
    Truncated(5),
    Other(b"<html>"),
    Says(200, b""),
    pytest.param(Cut(1000), marks=pytest.mark.slow),
]


@pytest.fixture
async def record(through: Mirror, upstream: ScriptedUpstream) -> RepositoryRecord:
    """A proxy whose image `app:latest` was pulled as far as its manifest."""
    upstream.shelf.image("app", "latest", LAYER)
    made = await through.make(negative_ttl_s=10)
    await through.manifest(made, "app", "latest")
    upstream.forget()
    return made


async def test_looking_fetches_nothing(through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord) -> None:
    """What a manifest names has its size from there; what none names is asked for by HEAD; no byte comes."""
    other = upstream.shelf.put_blob("app", b"not in any manifest")

    named = await through.find(record, "app", DIGEST)
    assert isinstance(named, ArrivingBlob)
    assert (named.size_bytes, asked(upstream)) == (len(LAYER), [])
    unnamed = await through.find(record, "app", other)
    assert isinstance(unnamed, ArrivingBlob)
    assert unnamed.size_bytes == len(b"not in any manifest")
    assert asked(upstream) == [f"HEAD blobs {other}"]


async def test_a_blob_comes_once_and_stays(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """P7: many cold pulls, whole and in parts, cost one GET; afterwards it is here, and its manifest holds it."""
    got: list[bytes] = []

    async def pull(span: Span | None) -> None:
        got.append(await through.blob(record, "app", DIGEST, span))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            start = number * 30_000
            nursery.start_soon(pull, Span(start, start + 20_000) if number % 2 else None)
    assert all(part in LAYER for part in got)
    assert sorted(map(len, got)) == [20_000] * 10 + [len(LAYER)] * 10
    await through.idle()
    assert upstream.all_gets() == {DIGEST: 1}

    found = await through.find(record, "app", DIGEST)
    assert isinstance(found, FoundBlob)
    assert await through.blob(record, "app", DIGEST, Span(5, 50)) == LAYER[5:50]
    assert upstream.all_gets() == {DIGEST: 1}
    image = await through.scene.database.read(images.find, record.id, "app")
    assert image is not None
    digest = Digest.parse(await through.digest(record, "app", "latest"))
    row = await through.scene.database.read(manifests.find, image.id, digest)
    assert row is not None
    needs = await through.scene.database.read(manifests.references, row.id)
    assert {need.digest: need.blob_id for need in needs}[Digest.parse(DIGEST)] == found.record.id


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
async def test_wrong_bytes_are_never_given_whole_nor_kept(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord, fault: object
) -> None:
    """P3: no pull of a wrong body ends well, nothing of it is kept, and the next pull is good."""
    upstream.script(fault, on("blobs", method="GET"))  # type: ignore[arg-type]  # all of them are faults

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, it is not a whole body
        await through.blob(record, "app", DIGEST)

    upstream.heal()
    through.scene.clock.advance(60)
    await through.idle()
    assert isinstance(await through.find(record, "app", DIGEST), ArrivingBlob)
    while True:  # it may be left alone for a while
        try:
            assert await through.blob(record, "app", DIGEST) == LAYER
            break
        except UpstreamError:
            await trio.sleep(0.1)


async def test_the_upstreams_own_words_reach_the_client(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """Before the first byte, what the upstream said is what is raised: 429 with its time, and 404 as BLOB_UNKNOWN."""
    upstream.script(Busy(9), on("blobs"))
    with pytest.raises(UpstreamBusy) as caught:
        await through.blob(record, "app", DIGEST)
    assert caught.value.retry_after_s == 9

    upstream.heal()
    through.scene.clock.advance(60)
    del upstream.shelf.blobs["app"][DIGEST]
    await refused(Code.BLOB_UNKNOWN, through.blob(record, "app", DIGEST))
    upstream.forget()
    await refused(Code.BLOB_UNKNOWN, through.blob(record, "app", DIGEST))
    assert asked(upstream) == []


async def test_a_manifest_that_lies_about_a_size_spoils_no_other(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """P3: who names somebody's layer with another size gets no bytes; whoever names it as it is still has it."""
    liar = json.loads(image_manifest(b"{}", LAYER))
    liar["layers"][0]["size"] += 1
    upstream.shelf.put_manifest("app", Manifest(json.dumps(liar).encode()), "lie")
    other = await through.make(negative_ttl_s=0)
    await through.manifest(other, "app", "lie")
    with pytest.raises(UpstreamError):
        await through.blob(other, "app", DIGEST)

    for proxy in (record, other):
        for tag in ("lie", "latest"):
            await through.manifest(proxy, "app", tag)
        assert await through.blob(proxy, "app", DIGEST) == LAYER


async def test_what_everybody_may_read_is_shared(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord, shelf: Shelf
) -> None:
    """A blob that a repository with anonymous read holds, or this one in another image, need not be fetched again."""
    await shelf.blob(LAYER, "pushed")
    assert isinstance(await through.find(record, "app", DIGEST), ArrivingBlob)

    await shelf.scene.database.transaction(repositories.update, shelf.record.id, now=2, anonymous_read=True)

    assert isinstance(await through.find(record, "app", DIGEST), FoundBlob)
    assert await through.blob(record, "app", DIGEST) == LAYER
    upstream.shelf.image("twin", "latest", LAYER)
    await shelf.scene.database.transaction(repositories.update, shelf.record.id, now=3, anonymous_read=False)
    await through.manifest(record, "twin", "latest")
    assert await through.blob(record, "twin", DIGEST) == LAYER
    assert upstream.all_gets() == {}


async def test_an_upstream_gets_no_bytes_out_of_who_may_read_them(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord, shelf: Shelf
) -> None:
    """A6: it names a secret's digest; who may read that pulls, and nobody can read here what was never sent."""
    await shelf.blob(LAYER, "pushed")
    reader = Holder(reads=frozenset({shelf.record.id}))
    del upstream.shelf.blobs["app"][DIGEST]

    assert isinstance(await through.find(record, "app", DIGEST, caller=reader), ArrivingBlob)
    await refused(Code.BLOB_UNKNOWN, through.blob(record, "app", DIGEST, caller=reader))
    await refused(Code.BLOB_UNKNOWN, through.blob(record, "app", DIGEST))


async def test_only_what_the_upstream_has_is_shared(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord, shelf: Shelf
) -> None:
    """Nobody puts a blob that they may read elsewhere into a proxy's image by asking for it: its upstream has it."""
    foreign = str(await shelf.blob(b"of another repository", "pushed"))
    holder = Holder(reads=frozenset({shelf.record.id}))

    await refused(Code.BLOB_UNKNOWN, through.find(record, "app", foreign, caller=holder))
    await refused(Code.BLOB_UNKNOWN, through.find(record, "app", foreign))
    assert asked(upstream) == [f"HEAD blobs {foreign}"]


async def test_arrivals_are_not_shared_between_repositories(through: Mirror, upstream: ScriptedUpstream) -> None:
    """What came with one repository's credentials is not given in another, which has to ask by itself."""
    upstream.registry.auth = Bearer({"user": "pw"})
    image = upstream.shelf.image("app", "latest", LAYER)
    allowed = await through.make(credentials=[Credential("user", "pw")])
    await through.manifest(allowed, "app", "latest")
    await through.blob(allowed, "app", DIGEST)
    await through.idle()
    twin = await through.make(credentials=[Credential("user", "pw")])
    stranger = await through.make()

    assert image.digest == await through.digest(twin, "app", "latest")
    assert await through.blob(twin, "app", DIGEST) == LAYER
    await refused(Code.BLOB_UNKNOWN, through.blob(stranger, "app", DIGEST))
    assert upstream.all_gets() == {DIGEST: 2}


async def test_what_its_store_lost_comes_again(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """P8: the row is there and the object is not: the pull is good, and the blob is whole again afterwards."""
    assert await through.blob(record, "app", DIGEST) == LAYER
    await through.idle()
    found = await through.find(record, "app", DIGEST)
    assert isinstance(found, FoundBlob)
    await through.scene.store.remove(found.record.stored.key)

    assert await through.blob(record, "app", DIGEST, Span(10, 600_000)) == LAYER[10:600_000]
    await through.idle()
    assert upstream.all_gets() == {DIGEST: 2}
    healed = await through.find(record, "app", DIGEST)
    assert isinstance(healed, FoundBlob)
    assert healed.record.stored.key != found.record.stored.key
    assert await through.blob(record, "app", DIGEST) == LAYER
    assert upstream.all_gets() == {DIGEST: 2}


async def test_offline_only_what_is_here_is_given(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """Offline a blob that never came is unknown, although a manifest names it."""
    offline = changed(record, is_offline=True)

    await refused(Code.BLOB_UNKNOWN, through.find(offline, "app", DIGEST))
    await through.blob(record, "app", DIGEST)
    await through.idle()
    assert await through.blob(offline, "app", DIGEST) == LAYER


async def test_a_digest_that_is_no_blob_may_be_a_manifest(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Who asks for a manifest as a blob, or for a layer as a manifest, makes neither unknown to others."""
    image = upstream.shelf.image("app", None, LAYER)
    record = await through.make(negative_ttl_s=30)
    digest = Digest.parse(image.digest)

    await refused(Code.BLOB_UNKNOWN, through.find(record, "app", image.digest))
    assert await through.digest(record, "app", digest) == image.digest
    await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, "app", Digest.parse(DIGEST)))
    assert await through.blob(record, "app", DIGEST) == LAYER


async def test_a_digest_is_asked_for_as_blob_and_as_manifest_at_once(
    through: Mirror, upstream: ScriptedUpstream
) -> None:
    """Each who asks meanwhile gets what was asked for: registries have manifests among their blobs."""
    image = upstream.shelf.image("app", None, LAYER)
    upstream.shelf.put_blob("app", image.manifest.content)
    record = await through.make()
    stalled = upstream.script(Stall(), on("blobs", method="HEAD"))
    found: list[object] = []

    async def look() -> None:
        found.append(await through.find(record, "app", image.digest))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        while not stalled.hits:  # noqa: ASYNC110 - a thread counts them
            await trio.sleep(0.01)
        assert await through.digest(record, "app", Digest.parse(image.digest)) == image.digest
        upstream.heal()
    assert [type(each) for each in found] == [ArrivingBlob]


@pytest.mark.parametrize("fault", [WrongByte(3), Other(b"<html>"), Truncated(5)], ids=repr)
async def test_wrong_bytes_are_the_upstreams_trouble(
    through: Mirror, upstream: ScriptedUpstream, fault: object
) -> None:
    """Nobody is told to look after our own store because of bytes that an upstream gave: that is 502, not 503."""
    blob = upstream.shelf.put_blob("app", b"a small one")
    record = await through.make()
    upstream.script(fault, on("blobs", method="GET"))  # type: ignore[arg-type]  # all of them are faults

    with pytest.raises(UpstreamFailed):
        await through.blob(record, "app", blob)
