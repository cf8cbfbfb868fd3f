"""Manifests: exact bytes, references written once, and the window in which a deletion can be undone."""

import tracemalloc
from dataclasses import replace
from itertools import islice

import pytest

from storage import Database, Digest, Document, ReferenceRecord, Transaction
from storage.metadata import images, manifests, tags
from tests.storage.metadata.pieces import blob, digest, document, image, layer, manifest
from tests.storage.metadata.samples import NOW


@pytest.mark.parametrize("content", [b"{}", b"\x00\xff\xfe not text", b" {\r\n}  ", bytes(4 << 20)])
async def test_exact_bytes(database: Database, content: bytes) -> None:
    """What was put comes back byte for byte, by digest and by tag, with its media type."""
    pushed = Document(Digest.of(content), "application/vnd.example+json", content)

    def act(tx: Transaction) -> None:
        place = image(tx)
        manifest_id = manifests.put(
            tx,
            place.id,
            pushed,
            artifact_type="a/b",
            subject=digest("s"),
            annotations='{"k":"v"}',
            references=[],
            by=7,
            now=NOW,
        )
        tags.put(tx, place.id, "v1", manifest_id, by=None, now=NOW)
        assert manifests.by_digest(tx, place.id, pushed.digest) == manifests.by_tag(tx, place.id, "v1") == pushed
        found = manifests.find(tx, place.id, pushed.digest)
        assert found is not None
        assert (found.id, found.digest, found.media_type) == (manifest_id, pushed.digest, pushed.media_type)
        assert (found.artifact_type, found.subject, found.annotations) == ("a/b", digest("s"), '{"k":"v"}')
        assert (found.size_bytes, found.pushed_at, found.deleted_at) == (len(content), NOW, None)

    await database.transaction(act)


async def test_manifests_belong_to_their_image(database: Database) -> None:
    """The same bytes in another image are another manifest, and absent there until they are put."""

    def act(tx: Transaction) -> None:
        first, second = image(tx), image(tx, "team/app/second")
        manifest_id = manifest(tx, first, "m")
        assert manifests.by_digest(tx, second.id, document("m").digest) is None
        assert manifests.find(tx, second.id, document("m").digest) is None
        assert manifests.by_tag(tx, second.id, "v1") is None
        assert manifest(tx, second, "m") != manifest_id
        assert manifest(tx, first, "m") == manifest_id

    await database.transaction(act)


async def test_references(database: Database) -> None:
    """What a manifest needs is kept in its order; putting it again changes nothing."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        blob_id = blob(tx, "a", place)
        needs = [
            replace(layer("a", blob_id), role="config"),
            layer("a", blob_id),
            layer("foreign", None),
            replace(layer("child", None), role="child"),
        ]
        manifest_id = manifest(tx, place, "m", needs)
        for _ in range(2):
            assert manifests.references(tx, manifest_id) == needs
            assert manifest(tx, place, "m", needs) == manifest_id

    await database.transaction(act)


async def test_a_foreign_layer_that_came_later(database: Database) -> None:
    """A layer that was absent at first and is there when the manifest is put again is needed from then on."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        manifest_id = manifest(tx, place, "m", [layer("foreign", None), layer("other", None)])
        blob_id = blob(tx, "foreign", place)
        came = [layer("foreign", blob_id), layer("other", None)]
        assert manifest(tx, place, "m", came) == manifest_id
        assert manifests.references(tx, manifest_id) == came
        assert manifest(tx, place, "m", [layer("foreign", None), layer("other", None)]) == manifest_id
        assert manifests.references(tx, manifest_id) == came

    await database.transaction(act)


async def test_sizes_of_very_many(database: Database) -> None:
    """An index with more children than a database takes parameters is looked up whole; deleted ones are absent."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        ids = [manifest(tx, place, number) for number in range(1201)]
        manifests.mark_deleted(tx, ids[7], tag_names=[], now=NOW)
        asked = [document(number).digest for number in range(1201)]
        sizes = manifests.sizes(tx, place.id, [*asked, digest("nowhere")])
        assert sizes == {document(number).digest: len(str(number)) for number in range(1201) if number != 7}

    await database.transaction(act)


async def test_delete_and_restore(database: Database) -> None:
    """A deleted manifest is absent for readers, found for undeleting, and comes back with the names of its tags."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        manifest_id, wanted = manifest(tx, place, "m"), document("m").digest
        assert manifests.mark_deleted(tx, manifest_id, tag_names=["b", "a"], now=NOW + 1)
        assert not manifests.mark_deleted(tx, manifest_id, tag_names=[], now=NOW + 2)
        assert manifests.find(tx, place.id, wanted) is None
        assert manifests.by_digest(tx, place.id, wanted) is None
        deleted = manifests.find(tx, place.id, wanted, deleted=True)
        assert deleted is not None
        assert deleted.deleted_at == NOW + 1
        assert manifests.restore(tx, manifest_id) == ["b", "a"]
        assert manifests.restore(tx, manifest_id) == []
        assert manifests.restore(tx, 99) == []
        assert manifests.by_digest(tx, place.id, wanted) == document("m")

    await database.transaction(act)


async def test_putting_a_deleted_manifest_again(database: Database) -> None:
    """It lives again under its old id, and nothing of the deletion is left to restore."""

    def act(tx: Transaction) -> None:
        place = image(tx)
        manifest_id = manifest(tx, place, "m")
        manifests.mark_deleted(tx, manifest_id, tag_names=["old"], now=NOW + 1)
        assert manifest(tx, place, "m") == manifest_id
        found = manifests.find(tx, place.id, document("m").digest)
        assert found is not None
        assert found.deleted_at is None
        assert manifests.restore(tx, manifest_id) == []

    await database.transaction(act)


async def test_referrers(database: Database) -> None:
    """Manifests with a subject are listed by digest in pages, optionally of one type; deleted ones are not."""

    def act(tx: Transaction) -> None:
        place, other, subject = image(tx), image(tx, "team/app/other"), digest("subject")
        for number in range(9):
            manifest(tx, place, number, subject=subject, artifact_type=f"type/{number % 3}")
        manifest(tx, place, "of another", subject=digest("another"))
        manifest(tx, other, "elsewhere", subject=subject)
        gone = manifest(tx, place, "gone", subject=subject)
        manifests.mark_deleted(tx, gone, tag_names=[], now=NOW)

        wanted = sorted(str(document(number).digest) for number in range(9))
        pages: list[str] = []
        while page := list(
            manifests.referrers(tx, place.id, subject, artifact_type=None, after=pages[-1] if pages else "", limit=4)
        ):
            pages += [str(each.digest) for each in page]
        assert pages == wanted
        typed = list(manifests.referrers(tx, place.id, subject, artifact_type="type/1", after="", limit=99))
        assert {each.digest for each in typed} == {document(number).digest for number in (1, 4, 7)}
        assert {each.artifact_type for each in typed} == {"type/1"}
        assert list(manifests.referrers(tx, place.id, digest("none"), artifact_type=None, after="", limit=9)) == []
        assert images.find(tx, place.repository_id, "img") == place

    await database.transaction(act)


async def test_referrers_are_read_no_further_than_they_are_taken(database: Database) -> None:
    """Of twenty referrers with 200 KB of annotations each, who takes three has not held the others; all can be had."""

    def act(tx: Transaction) -> None:
        place, subject = image(tx), digest("subject")
        for number in range(20):
            content = b"%03d" % number + bytes(200_000)
            pushed = Document(Digest.of(content), "application/vnd.example+json", content)
            notes = '{"filler":"' + "x" * 199_000 + '"}'
            manifests.put(
                tx,
                place.id,
                pushed,
                artifact_type=None,
                subject=subject,
                annotations=notes,
                references=[],
                by=None,
                now=NOW,
            )
        every = [
            row.digest for row in manifests.referrers(tx, place.id, subject, artifact_type=None, after="", limit=20)
        ]
        assert len(every) == 20
        tracemalloc.start()
        try:
            rows = manifests.referrers(tx, place.id, subject, artifact_type=None, after="", limit=20)
            some = list(islice(rows, 3))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert [row.digest for row in some] == every[:3]
        assert peak_bytes < 3 * 2**20

    await database.transaction(act)


async def test_a_layer_that_comes_after_its_manifests_is_needed_by_all_of_the_image(database: Database) -> None:
    """Of a cache: manifests come first. Children, other images and what has a blob already are left alone."""

    def act(tx: Transaction) -> None:
        place, other = image(tx), image(tx, "team/app/other")
        name = digest("layer")
        has_child = ReferenceRecord("child", name, 10, None)
        ids = [manifest(tx, place, each, [layer("layer", None), layer("second", None)]) for each in ("one", "two")]
        index = manifest(tx, place, "index", [has_child])
        elsewhere = manifest(tx, other, "one", [layer("layer", None)])
        came = blob(tx, "layer", place)
        assert manifests.fill(tx, place.id, name, came) == 2
        assert manifests.fill(tx, place.id, name, came + 77) == 0
        for each in ids:
            assert [row.blob_id for row in manifests.references(tx, each)] == [came, None]
        assert [row.blob_id for row in manifests.references(tx, index)] == [None]
        assert [row.blob_id for row in manifests.references(tx, elsewhere)] == [None]

    await database.transaction(act)


async def test_the_size_that_a_manifest_says_of_a_layer(database: Database) -> None:
    """Of a manifest of this image, whether the layer came or not; a child's size is no blob's."""

    def act(tx: Transaction) -> None:
        place, other = image(tx), image(tx, "team/app/other")
        manifest(tx, place, "one", [ReferenceRecord("config", digest("config"), 123, None)])
        manifest(tx, place, "two", [ReferenceRecord("config", digest("config"), 123, None)])
        manifest(tx, place, "index", [ReferenceRecord("child", digest("child"), 7, None)])
        assert manifests.referred_size(tx, place.id, digest("config")) == 123
        assert manifests.referred_size(tx, place.id, digest("child")) is None
        assert manifests.referred_size(tx, place.id, digest("absent")) is None
        assert manifests.referred_size(tx, other.id, digest("config")) is None
        manifest(tx, place, "liar", [ReferenceRecord("config", digest("config"), 124, None)])
        assert manifests.referred_size(tx, place.id, digest("config")) is None

    await database.transaction(act)
