"""A repository that takes over from another registry: its own first, what is missing from there, deletions for good."""

import os
from collections.abc import Sequence

import pytest
import trio

from gateway.oci.errors import Code
from gateway.oci.names import Tag
from gateway.repositories.contract import ArrivingBlob, WritableRepository
from gateway.upstream.errors import UpstreamError
from storage import Digest, FoundBlob, RepositoryRecord
from tests.gateway.repositories.mirror import Mirror, asked, changed
from tests.gateway.repositories.shelf import Holder, Shelf, allow_delete, allow_tag, push_of, refused
from tests.served import OCI_CONFIG, image_index, image_manifest, sha256
from tests.upstream.script import Says, Stall, on
from tests.upstream.scripted import ScriptedUpstream

LAYER = os.urandom(300_000)
SIGNATURE = "application/vnd.example.signature"


@pytest.fixture
async def record(through: Mirror) -> RepositoryRecord:
    """A hosted repository that falls back to the upstream."""
    return await through.make("hosted", negative_ttl_s=0)


def writable(through: Mirror, record: RepositoryRecord, caller: Holder | None = None) -> WritableRepository:
    """The repository, for writing."""
    repository = through.at(record, caller or Holder())
    assert isinstance(repository, WritableRepository)
    return repository


async def push(through: Mirror, record: RepositoryRecord, content: bytes, *tags: str) -> None:
    """PUT a manifest, whose blobs must be here or there."""
    await writable(through, record).put_manifest("app", push_of(content, *tags), admit=allow_tag)


async def push_image(through: Mirror, record: RepositoryRecord, *tags: str) -> str:
    """Push an image of its own."""
    shelf = Shelf(through.scene, record)
    config = os.urandom(40)
    await shelf.blob(config)
    content = image_manifest(config)
    await push(through, record, content, *tags)
    return sha256(content)


async def tags_of(through: Mirror, record: RepositoryRecord) -> Sequence[str]:
    """All tags."""
    return (await through.at(record).tags("app", after="", limit=100)).names


async def test_what_is_missing_comes_and_stays(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """What was pulled once is its own: the other registry may move its tag, or go away."""
    image = upstream.shelf.image("app", "v1", LAYER)
    assert await tags_of(through, record) == ["v1"]

    found = await through.manifest(record, "app", "v1")
    assert (str(found.document.digest), found.fresh_until, found.warning) == (image.digest, None, None)
    for digest, content in image.blobs.items():
        assert await through.blob(record, "app", digest) == content
    await through.idle()
    upstream.shelf.image("app", "v1", b"moved")
    through.scene.clock.advance(10**6)
    upstream.forget()
    assert await through.digest(record, "app", "v1") == image.digest
    assert asked(upstream) == []

    upstream.refuse()
    assert await through.digest(record, "app", "v1") == image.digest
    assert await through.blob(record, "app", sha256(LAYER)) == LAYER
    page = await through.at(record).tags("app", after="", limit=5)
    assert (list(page.names), page.warning is not None) == (["v1"], True)


async def test_its_own_comes_first(through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord) -> None:
    """What is pushed here is not asked for there, and both are listed as one."""
    upstream.shelf.image("app", "v1", LAYER)
    upstream.shelf.image("app", "v2", LAYER)
    own = await push_image(through, record, "v1", "own")

    assert await through.digest(record, "app", "v1") == own
    assert asked(upstream) == []
    assert await tags_of(through, record) == ["own", "v1", "v2"]
    assert (await through.at(record).tags("app", after="own", limit=1)).names == ["v1"]


@pytest.mark.parametrize("was_pulled_later", [False, True])
async def test_a_deleted_tag_does_not_come_back(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord, *, was_pulled_later: bool
) -> None:
    """Deletion is for good, in listings too; other tags of the same manifest go on; a new push makes it again."""
    image = upstream.shelf.image("app", "v1", LAYER)
    upstream.shelf.tags["app"]["v2"] = image.digest
    await through.manifest(record, "app", "v1")
    await writable(through, record).delete_tag("app", Tag("v1"), admit=allow_delete)
    if was_pulled_later:
        await through.manifest(record, "app", "v2")

    for _ in range(2):
        await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, "app", "v1"))
    assert await tags_of(through, record) == ["v2"]
    assert await through.digest(record, "app", "v2") == image.digest
    own = await push_image(through, record, "v1")
    assert await through.digest(record, "app", "v1") == own
    assert await tags_of(through, record) == ["v1", "v2"]


async def test_a_tag_that_is_deleted_while_it_is_asked_for_does_not_come_back(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """The question began before the tag was here: what was pushed and deleted meanwhile counts, not its answer."""
    upstream.shelf.image("app", "v1", LAYER)
    stalled = upstream.script(Stall(), on("manifests", method="HEAD"))
    outcome: list[Code] = []

    async def pull() -> None:
        outcome.append((await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, "app", "v1"))).code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull)
        while not stalled.hits:  # noqa: ASYNC110 - the upstream is a thread
            await trio.sleep(0.01)
        await push_image(through, record, "v1")
        await writable(through, record).delete_tag("app", Tag("v1"), admit=allow_delete)
        upstream.heal()

    assert outcome == [Code.MANIFEST_UNKNOWN]
    assert await tags_of(through, record) == []


async def test_a_deleted_manifest_does_not_come_back(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """Not by its digest, not by the tags that it had, and not by a tag that the upstream gives it."""
    image = upstream.shelf.image("app", "v1", LAYER)
    await through.manifest(record, "app", "v1")
    await writable(through, record).delete_manifest("app", Digest.parse(image.digest), admit=allow_delete)
    upstream.shelf.tags["app"]["v2"] = image.digest

    for reference in ("v1", "v2", image.digest):
        await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, "app", reference))
    restored = await Shelf(through.scene, record).hosted.restore_manifest("app", Digest.parse(image.digest))
    assert restored == ["v1"]
    for reference in ("v1", "v2", image.digest):
        assert await through.digest(record, "app", reference) == image.digest


async def test_a_deleted_blob_does_not_come_back(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """What was taken from the image is unknown there, until it is pushed again."""
    digest = upstream.shelf.put_blob("app", LAYER)
    assert await through.blob(record, "app", digest) == LAYER
    await through.idle()
    await writable(through, record).delete_blob("app", Digest.parse(digest))

    await refused(Code.BLOB_UNKNOWN, through.find(record, "app", digest))
    await Shelf(through.scene, record).blob(LAYER)
    assert isinstance(await through.find(record, "app", digest), FoundBlob)


async def test_a_push_may_need_what_only_the_upstream_has(anywhere: Mirror, upstream: ScriptedUpstream) -> None:
    """A client was told by HEAD that a blob is here: its manifest is taken, and then the blob really is here."""
    through, record = anywhere, await anywhere.make("hosted")
    base = upstream.shelf.image("app", "base", LAYER)
    config = b'{"architecture":"amd64"}'
    await Shelf(through.scene, record).blob(config)
    assert isinstance(await through.find(record, "app", sha256(LAYER)), ArrivingBlob)

    await push(through, record, image_manifest(config, LAYER), "built")
    await push(through, record, image_index(base.manifest.content), "multi")

    upstream.refuse()
    assert await through.blob(record, "app", sha256(LAYER)) == LAYER
    assert await through.digest(record, "app", "built") == sha256(image_manifest(config, LAYER))
    assert await through.digest(record, "app", base.digest) == base.digest


async def test_what_nobody_has_is_refused_as_ever(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """MP-09 where neither has it; the upstream's trouble where it cannot be asked; what needs nothing is taken then."""
    content = image_manifest(b"nobody has this config")
    await refused(Code.MANIFEST_BLOB_UNKNOWN, push(through, record, content, "v1"))
    upstream.script(Says(500))

    with pytest.raises(UpstreamError):
        await push(through, record, content, "v1")
    with pytest.raises(UpstreamError):
        await through.manifest(record, "app", "v1")
    assert await push_image(through, record, "v1") == await through.digest(record, "app", "v1")


async def test_a_push_asks_for_so_much_only(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """A manifest that names more than anybody's image does not make a storm of questions: it is refused as it is."""
    layers = [b"%d" % number for number in range(1001)]

    await refused(Code.MANIFEST_BLOB_UNKNOWN, push(through, record, image_manifest(b"{}", *layers), "v1"))

    assert asked(upstream) == []


async def test_referrers_of_both(through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord) -> None:
    """Signatures that were pushed here and those of the old registry are one list; deleted ones are not in it."""
    image = upstream.shelf.image("app", "v1", LAYER)
    theirs = [upstream.shelf.artifact("app", image.digest, content, SIGNATURE).digest for content in (b"1", b"2")]
    await Shelf(through.scene, record).blob(b"{}")
    subject = {"mediaType": OCI_CONFIG, "digest": image.digest, "size": len(image.manifest.content)}
    own = image_manifest(b"{}", subject=subject)
    await push(through, record, own)
    await through.manifest(record, "app", theirs[0])
    await writable(through, record).delete_manifest("app", Digest.parse(theirs[0]), admit=allow_delete)

    listed = await through.at(record).referrers(
        "app",
        Digest.parse(image.digest),
        artifact_type=None,
        after="",
        limit=10,
        build=lambda found: [str(each.digest) for each in found],
    )

    assert listed.built == sorted([theirs[1], sha256(own)])


async def test_a_pusher_shares_what_it_may_read(through: Mirror, record: RepositoryRecord, shelf: Shelf) -> None:
    """As in any hosted repository: linked from where the caller may read, else not; unknown to others as before."""
    digest = await shelf.blob(LAYER)
    reader = Holder(reads=frozenset({shelf.record.id}))

    assert await writable(through, record).share_blob("app", digest) is None
    found = await writable(through, record, reader).share_blob("app", digest)

    assert found is not None
    assert await through.blob(record, "app", str(digest)) == LAYER


async def test_offline_it_is_a_hosted_repository(
    through: Mirror, upstream: ScriptedUpstream, record: RepositoryRecord
) -> None:
    """With the upstream switched off nothing is asked, and what is missing is unknown."""
    upstream.shelf.image("app", "v1", LAYER)
    own = await push_image(through, record, "own")
    offline = changed(record, is_offline=True)

    assert await through.digest(offline, "app", "own") == own
    assert await tags_of(through, offline) == ["own"]
    await refused(Code.MANIFEST_UNKNOWN, through.manifest(offline, "app", "v1"))
    await refused(Code.BLOB_UNKNOWN, through.find(offline, "app", sha256(LAYER)))
    await refused(Code.NAME_UNKNOWN, through.at(offline).tags("never", after="", limit=5))
    await refused(Code.MANIFEST_BLOB_UNKNOWN, push(through, offline, image_manifest(b"{}", LAYER), "v2"))
    assert asked(upstream) == []
