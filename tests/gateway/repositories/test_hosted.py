"""A hosted repository: what may be pushed over what, all or nothing; what reading gives; and what stays apart."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from gateway.oci.errors import Code, RegistryError, denied
from gateway.oci.names import Tag
from gateway.oci.referrers import Referrer
from gateway.repositories.contract import FoundManifest, WritableRepository
from storage import Digest, Document, Span, TagRecord, Transaction, Unavailable
from storage.metadata import images, manifests, tags
from tests.gateway.repositories.shelf import (
    CONFIG,
    IMAGE,
    LAYER,
    Shelf,
    allow_tag,
    push_of,
    refused,
)
from tests.served import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, descriptor, image_index, image_manifest

ABSENT = Digest.of(b"nobody has this")


async def test_a_hosted_repository_is_writable(shelf: Shelf) -> None:
    """Whether a repository may be written is its type; one that only reads is not taken for writable."""

    class ReadOnly:
        """What a proxy has."""

        record = shelf.record
        manifest = shelf.hosted.manifest
        find_blob = shelf.hosted.find_blob
        open_blob = shelf.hosted.open_blob
        tags = shelf.hosted.tags
        referrers = shelf.hosted.referrers

    assert isinstance(shelf.hosted, WritableRepository)
    assert not isinstance(ReadOnly(), WritableRepository)


# --- what goes in --------------------------------------------------------------------------------------------------


async def test_a_manifest_comes_back_as_it_was(shelf: Shelf) -> None:
    """MP-02: by tag and by digest the exact bytes, with the type they were pushed with."""
    digest = await shelf.image("v1", "latest")

    for reference in (Tag("v1"), Tag("latest"), digest):
        assert await shelf.hosted.manifest("app", reference) == FoundManifest(Document(digest, OCI_MANIFEST, IMAGE))


async def test_everything_that_is_missing_is_named(shelf: Shelf) -> None:
    """MP-09: each missing digest once, in the manifest's order, and nothing is left of the push, not even the image."""
    error = await refused(Code.MANIFEST_BLOB_UNKNOWN, shelf.put(image_manifest(CONFIG, LAYER, b"second", LAYER), "v1"))

    named = [entry.detail for entry in error.entries]
    assert named == [{"digest": str(Digest.of(content))} for content in (CONFIG, LAYER, b"second")]
    await refused(Code.NAME_UNKNOWN, shelf.tags())


async def test_a_layer_elsewhere_need_not_be_here(shelf: Shelf) -> None:
    """MP-10: a foreign layer with URLs is not asked for; once it is here, its size counts like any other's."""
    await shelf.blob(CONFIG)
    foreign = {
        **descriptor(LAYER, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        "urls": ["https://elsewhere.example/layer"],
    }

    def image(**changes: int) -> bytes:
        value = json.loads(image_manifest(CONFIG))
        return json.dumps({**value, "layers": [{**foreign, **changes}]}).encode()

    assert await shelf.at(await shelf.put(image())) == Digest.of(image())
    await shelf.put(image(size=999))
    await shelf.blob(LAYER)
    await refused(Code.SIZE_INVALID, shelf.put(image(size=998)))


async def test_what_is_named_twice_is_needed_once(shelf: Shelf) -> None:
    """Each role and digest is one reference, in the order of first appearance, however often it is repeated."""
    await shelf.blob(CONFIG)
    await shelf.blob(LAYER)
    digest = await shelf.put(image_manifest(CONFIG, LAYER, CONFIG, LAYER, LAYER))
    index = await shelf.put(image_index(*[image_manifest(CONFIG, LAYER, CONFIG, LAYER, LAYER)] * 3))

    def needed(tx: Transaction, of: Digest) -> list[tuple[str, Digest]]:
        place = images.find(tx, shelf.record.id, "app")
        found = manifests.find(tx, place.id, of) if place else None
        assert found is not None
        return [(each.role, each.digest) for each in manifests.references(tx, found.id)]

    config, layer = Digest.of(CONFIG), Digest.of(LAYER)
    database = shelf.scene.database
    assert await database.read(needed, digest) == [("config", config), ("layer", layer), ("layer", config)]
    assert await database.read(needed, index) == [("child", digest)]


@pytest.mark.parametrize("which", ["config", "layer", "child"])
async def test_sizes_must_be_true(shelf: Shelf, which: str) -> None:
    """MP-15: a descriptor whose size is not that of the stored content is refused, and nothing is stored."""
    child = await shelf.image()
    value: dict[str, Any]
    if which == "child":
        value = json.loads(image_index(IMAGE))
        value["manifests"][0]["size"] += 1
    else:
        value = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(CONFIG, OCI_CONFIG),
            "layers": [descriptor(LAYER, OCI_LAYER)],
        }
        part = value["config"] if which == "config" else value["layers"][0]
        part["size"] -= 1
    content = json.dumps(value).encode()

    error = await refused(Code.SIZE_INVALID, shelf.put(content, "v1"))

    named = child if which == "child" else Digest.of(CONFIG if which == "config" else LAYER)
    assert str(named) in error.message
    await refused(Code.MANIFEST_UNKNOWN, shelf.at(Digest.of(content)))
    assert await shelf.tags() == []


async def test_an_index_needs_its_children_in_the_same_image(shelf: Shelf) -> None:
    """MP-25: another image's manifest is missing here; a child that was deleted is missing again."""
    index = image_index(IMAGE)
    await shelf.image(image="elsewhere")
    await refused(Code.MANIFEST_BLOB_UNKNOWN, shelf.put(index, "v1"))

    child = await shelf.image()
    assert await shelf.at(await shelf.put(index, "v1")) == Digest.of(index)
    nested = image_index(index, IMAGE)
    assert await shelf.at(await shelf.put(nested)) == Digest.of(nested)

    await shelf.delete(child)
    await refused(Code.MANIFEST_BLOB_UNKNOWN, shelf.put(image_index(IMAGE, annotations={"a": "b"})))


async def test_what_a_manifest_needs_is_on_record(shelf: Shelf) -> None:
    """Config, layers and children, in order and each once, lead to the blobs that are kept for them."""
    image = await shelf.image()
    index = await shelf.put(image_index(IMAGE))
    twice = await shelf.put(image_manifest(CONFIG, LAYER, LAYER))

    def needs(tx: Transaction, digest: Digest) -> list[tuple[str, Digest, bool]]:
        place = images.find(tx, shelf.record.id, "app")
        found = manifests.find(tx, place.id, digest) if place else None
        assert found is not None
        return [(each.role, each.digest, each.blob_id is not None) for each in manifests.references(tx, found.id)]

    config, layer = ("config", Digest.of(CONFIG), True), ("layer", Digest.of(LAYER), True)
    assert await shelf.scene.database.read(needs, image) == [config, layer]
    assert await shelf.scene.database.read(needs, twice) == [config, layer]
    assert await shelf.scene.database.read(needs, index) == [("child", image, False)]


async def test_a_manifest_keeps_its_blobs(shelf: Shelf) -> None:
    """The sweep takes what no manifest needs and leaves the rest, long after every grace period."""
    await shelf.image("v1")
    loose = await shelf.blob(b"loose")

    shelf.scene.clock.advance(10 * shelf.scene.grace_s)
    await shelf.scene.sweep().run()
    shelf.scene.clock.advance(10 * shelf.scene.grace_s)
    await shelf.scene.sweep().run()

    assert await shelf.pull(Digest.of(LAYER)) == LAYER
    await refused(Code.BLOB_UNKNOWN, shelf.pull(loose))


# --- who decides about tags ----------------------------------------------------------------------------------------


async def test_every_tag_is_asked_for_before_anything_is_written(shelf: Shelf) -> None:
    """The rule hears of each tag in order with what it points at now, and one refusal undoes the whole push."""
    first = await shelf.image("b")
    asked: list[tuple[str, Digest | None]] = []

    def admit(tag: TagRecord | None, name: str) -> None:
        asked.append((name, tag.digest if tag else None))
        if name == "c":
            raise denied("c is fixed")

    second = image_manifest(CONFIG)
    await refused(Code.DENIED, shelf.put(second, "a", "b", "c", admit=admit))

    assert asked == [("a", None), ("b", first), ("c", None)]
    assert await shelf.tags() == ["b"]
    assert await shelf.at("b") == first
    await refused(Code.MANIFEST_UNKNOWN, shelf.at(Digest.of(second)))


async def test_the_decision_holds_until_the_tag_is_written(shelf: Shelf) -> None:
    """MP-24: of twenty pushes at once that each want the tag to be new, one wins; no two saw it absent."""
    await shelf.image()
    won: list[Digest] = []

    def only_new(tag: TagRecord | None, name: str) -> None:
        if tag is not None:
            raise denied("it is taken")

    async def push(number: int) -> None:
        content = image_manifest(CONFIG, annotations={"number": str(number)})
        try:
            won.append(await shelf.put(content, "v1", admit=only_new))
        except RegistryError as error:
            assert error.code is Code.DENIED  # noqa: PT017  # either outcome is right, for all but one

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(push, number)

    assert won == [await shelf.at("v1")]


async def test_a_tag_moves_and_its_past_stays(shelf: Shelf) -> None:
    """A moved tag keeps the time it was made at and says who moved it when; the manifest before stays by digest."""
    first = await shelf.image("v1")
    made = shelf.scene.clock.now
    shelf.scene.clock.advance(60)
    second = await shelf.put(image_manifest(CONFIG), "v1", by=None)

    def look(tx: Transaction) -> TagRecord | None:
        place = images.find(tx, shelf.record.id, "app")
        return tags.find(tx, place.id, "v1") if place else None

    tag = await shelf.scene.database.read(look)
    assert tag is not None
    assert (tag.digest, tag.created_at, tag.moved_at, tag.moved_by) == (second, made, made + 60, None)
    assert await shelf.at(first) == first


async def test_pushing_again_changes_nothing(shelf: Shelf) -> None:
    """MP-12: the same manifest and tag again are accepted, and are there once."""
    digest = await shelf.image("v1")

    assert await shelf.put(IMAGE, "v1") == digest
    assert await shelf.tags() == ["v1"]
    assert [row.digest for row in await _referrers_of(shelf, ABSENT)] == []


# --- what goes out -------------------------------------------------------------------------------------------------


async def test_what_is_unknown_says_so(shelf: Shelf) -> None:
    """Each kind of thing has its own code, in an image that exists and in one that never did."""
    await shelf.image("v1")

    for image in ("app", "never"):
        await refused(Code.MANIFEST_UNKNOWN, shelf.at("v2", image=image))
        await refused(Code.MANIFEST_UNKNOWN, shelf.at(ABSENT, image=image))
        await refused(Code.BLOB_UNKNOWN, shelf.pull(ABSENT, image=image))
        await refused(Code.MANIFEST_UNKNOWN, shelf.delete("v2", image=image))
        await refused(Code.MANIFEST_UNKNOWN, shelf.delete(ABSENT, image=image))
        await refused(Code.BLOB_UNKNOWN, shelf.hosted.delete_blob(image, ABSENT))
        await refused(Code.MANIFEST_UNKNOWN, shelf.hosted.restore_manifest(image, ABSENT))
    await refused(Code.NAME_UNKNOWN, shelf.tags(image="never"))


async def test_trouble_is_never_absence(shelf: Shelf) -> None:
    """A dead database comes out as it is: nobody concludes that an image, tag or blob is gone."""
    digest = await shelf.image("v1")
    await shelf.scene.database.aclose()

    acts = (
        lambda: shelf.at("v1"),
        lambda: shelf.pull(Digest.of(LAYER)),
        shelf.tags,
        lambda: _referrers_of(shelf, digest),
        lambda: shelf.delete("v1"),
        lambda: shelf.delete(digest),
        lambda: shelf.hosted.delete_blob("app", Digest.of(LAYER)),
        lambda: shelf.put(IMAGE, "v1"),
    )
    for act in acts:
        with pytest.raises(Unavailable):
            await act()


async def test_a_span_of_a_blob(shelf: Shelf) -> None:
    """Reading gives the span that was asked for, and the size of the whole is known before."""
    digest = await shelf.blob(LAYER)

    found = await shelf.hosted.find_blob("app", digest)
    async with shelf.hosted.open_blob(found, Span(5, 8)) as reader:
        assert b"".join([chunk async for chunk in reader.chunks()]) == LAYER[5:8]
    assert found.size_bytes == len(LAYER)


async def test_tags_come_in_pages_in_bytewise_order(shelf: Shelf) -> None:
    """TG-02: upper case before lower case, a tag before those that it begins; the cursor need not exist."""
    await shelf.image("b", "a", "B", "a.1", "a1", "_")

    assert await shelf.tags() == ["B", "_", "a", "a.1", "a1", "b"]
    assert await shelf.tags(after="_", limit=2) == ["a", "a.1"]
    assert await shelf.tags(after="a.0", limit=1) == ["a.1"]
    assert await shelf.tags(after="z") == []


async def _referrers_of(shelf: Shelf, subject: Digest, **asked: Any) -> Any:
    given = {"artifact_type": None, "after": "", "limit": 100, "build": list, **asked}
    return (await shelf.hosted.referrers("app", subject, **given)).built


async def test_referrers_by_digest_and_type_in_pages(shelf: Shelf) -> None:
    """RF-04, RF-08, RF-11: the manifests with that subject, which need not exist, in order, and none of another."""
    await shelf.image()
    subject = {"mediaType": OCI_MANIFEST, "digest": str(ABSENT), "size": 2}
    made = sorted(
        [
            await shelf.put(image_manifest(CONFIG, subject=subject, artifactType=kind, annotations={"n": str(number)}))
            for number, kind in enumerate(("sbom", "sig", "sbom"))
        ],
        key=str,
    )

    rows = await _referrers_of(shelf, ABSENT)
    assert [row.digest for row in rows] == made
    assert sorted(row.annotations["n"] for row in rows) == ["0", "1", "2"]
    assert len(await _referrers_of(shelf, ABSENT, artifact_type="sbom")) == 2
    page = await _referrers_of(shelf, ABSENT, after=str(made[0]), limit=1)
    assert [row.digest for row in page] == [made[1]]
    assert await _referrers_of(shelf, Digest.of(IMAGE)) == []
    none = await shelf.hosted.referrers("never", ABSENT, artifact_type=None, after="", limit=9, build=list)
    assert (none.built, none.warning) == ([], None)


async def test_a_page_of_referrers_is_built_off_the_loop(shelf: Shelf) -> None:
    """Megabytes of annotations are made into a page in a thread, for unknown images too; the others go on."""
    await shelf.image()

    def build(rows: Iterator[Referrer]) -> tuple[int, int]:
        return threading.get_ident(), len(list(rows))

    for image in ("app", "never"):
        page = await shelf.hosted.referrers(image, ABSENT, artifact_type=None, after="", limit=9, build=build)
        thread, count = page.built
        assert (thread != threading.get_ident(), count) == (True, 0)


# --- what stays apart ----------------------------------------------------------------------------------------------


async def test_repositories_with_the_same_image_are_apart(shelf: Shelf, other: Shelf) -> None:
    """ACC-04: one stored copy, and yet nothing of one repository's image is seen, moved or deleted from the other's."""
    digest = await shelf.image("v1")

    await refused(Code.MANIFEST_UNKNOWN, other.at("v1"))
    await refused(Code.MANIFEST_UNKNOWN, other.at(digest))
    await refused(Code.BLOB_UNKNOWN, other.pull(Digest.of(LAYER)))
    await refused(Code.MANIFEST_BLOB_UNKNOWN, other.put(IMAGE, "v1"))
    await refused(Code.NAME_UNKNOWN, other.tags())

    theirs = await other.image("v1", "v2", config=b'{"os":"other"}')
    assert (await shelf.at("v1"), await other.at("v1")) == (digest, theirs)
    await other.delete("v1")
    await other.delete(theirs)
    await other.hosted.delete_blob("app", Digest.of(LAYER))
    assert (await shelf.at("v1"), await shelf.pull(Digest.of(LAYER))) == (digest, LAYER)


async def test_images_of_one_repository_are_apart(shelf: Shelf) -> None:
    """ACC-08: what one image was pushed is not in another, however near its name."""
    digest = await shelf.image("v1", image="app")

    for near in ("app/app", "ap", "App"):
        await refused(Code.MANIFEST_UNKNOWN, shelf.at(digest, image=near))
        await refused(Code.BLOB_UNKNOWN, shelf.pull(Digest.of(LAYER), image=near))
        push = push_of(IMAGE, "v1", media_type=OCI_MANIFEST)
        await refused(Code.MANIFEST_BLOB_UNKNOWN, shelf.hosted.put_manifest(near, push, admit=allow_tag))
