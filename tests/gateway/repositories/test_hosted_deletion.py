"""Deleting from a hosted repository, the rules that forbid it, and undoing it within its window."""

from collections.abc import Sequence

import pytest

from gateway.oci.errors import Code, RegistryError, denied
from gateway.oci.referrers import Referrer
from storage import Digest
from tests.gateway.repositories.shelf import CONFIG, IMAGE, LAYER, Shelf, refused
from tests.served import OCI_MANIFEST, image_index, image_manifest

OTHER = image_manifest(CONFIG)


def forbid(names: Sequence[str], digest: Digest) -> None:
    """A rule that keeps everything."""
    raise denied("by rule")


async def test_a_tag_goes_alone(shelf: Shelf) -> None:
    """DL-01: the manifest and its other tags stay."""
    digest = await shelf.image("v1", "v2")

    await shelf.delete("v1")

    assert await shelf.tags() == ["v2"]
    assert await shelf.at(digest) == digest
    await refused(Code.MANIFEST_UNKNOWN, shelf.delete("v1"))


async def test_a_manifest_goes_with_all_its_tags(shelf: Shelf) -> None:
    """DL-02: nothing leads to it any more, by digest or by tag; its neighbour keeps its own tags."""
    digest = await shelf.image("v1", "v2")
    other = await shelf.put(OTHER, "v3")

    await shelf.delete(digest)

    assert await shelf.tags() == ["v3"]
    assert await shelf.at("v3") == other
    for reference in ("v1", "v2", digest):
        await refused(Code.MANIFEST_UNKNOWN, shelf.at(reference))
    await refused(Code.MANIFEST_UNKNOWN, shelf.delete(digest))


async def test_a_rule_hears_of_all_tags_and_its_no_undoes_everything(shelf: Shelf) -> None:
    """A11: the rule decides about every tag that would go, in the transaction that removes them."""
    digest = await shelf.image("v2", "v1")
    heard: list[tuple[list[str], Digest]] = []

    def hear_and_forbid(names: Sequence[str], about: Digest) -> None:
        heard.append((list(names), about))
        raise denied("by rule")

    for reference in ("v1", digest):
        await refused(Code.DENIED, shelf.delete(reference, admit=hear_and_forbid))

    assert heard == [(["v1"], digest), (["v1", "v2"], digest)]
    assert await shelf.tags() == ["v1", "v2"]
    assert await shelf.at(digest) == digest


async def test_a_rule_is_not_asked_about_what_is_not_there(shelf: Shelf) -> None:
    """404 and not 403, so that a rule's name tells nobody what once existed."""
    digest = await shelf.image("v1")
    await shelf.delete(digest)

    await refused(Code.MANIFEST_UNKNOWN, shelf.delete("v1", admit=forbid))
    await refused(Code.MANIFEST_UNKNOWN, shelf.delete(digest, admit=forbid))


async def test_a_deletion_can_be_undone(shelf: Shelf) -> None:
    """The manifest comes back with its exact bytes and its tags; once, and only if it was deleted."""
    digest = await shelf.image("v1", "v2")
    await refused(Code.MANIFEST_UNKNOWN, shelf.hosted.restore_manifest("app", digest))
    await shelf.delete(digest)

    assert sorted(await shelf.hosted.restore_manifest("app", digest)) == ["v1", "v2"]

    assert await shelf.tags() == ["v1", "v2"]
    assert (await shelf.hosted.manifest("app", digest)).document.content == IMAGE
    await refused(Code.MANIFEST_UNKNOWN, shelf.hosted.restore_manifest("app", digest))


async def test_undoing_takes_no_tag_from_anybody(shelf: Shelf) -> None:
    """A tag that points elsewhere by now stays there; one that was deleted on its own before does not come back."""
    digest = await shelf.image("v1", "v2", "v3")
    await shelf.delete("v3")
    await shelf.delete(digest)
    newer = await shelf.put(OTHER, "v1")

    assert await shelf.hosted.restore_manifest("app", digest) == ["v2"]

    assert (await shelf.at("v1"), await shelf.at("v2")) == (newer, digest)
    assert await shelf.tags() == ["v1", "v2"]


async def test_pushing_a_deleted_manifest_revives_it(shelf: Shelf) -> None:
    """It is as if it were new: readable, with the tags of this push only, and nothing is left to undo."""
    digest = await shelf.image("v1")
    await shelf.delete(digest)

    assert await shelf.put(IMAGE, "v2") == digest

    assert await shelf.tags() == ["v2"]
    assert await shelf.at(digest) == digest
    await refused(Code.MANIFEST_UNKNOWN, shelf.hosted.restore_manifest("app", digest))


async def test_a_deleted_manifest_keeps_its_blobs_within_its_window(shelf: Shelf) -> None:
    """A sweep while it can still be undone takes nothing of it; after the window it is gone for good."""
    digest = await shelf.image("v1")
    shelf.scene.clock.advance(5 * shelf.scene.grace_s)
    await shelf.delete(digest)

    await shelf.scene.sweep().run()
    await shelf.hosted.restore_manifest("app", digest)
    assert await shelf.pull(Digest.of(LAYER)) == LAYER

    await shelf.delete(digest)
    shelf.scene.clock.advance(5 * shelf.scene.grace_s)
    await shelf.scene.sweep().run()
    await refused(Code.MANIFEST_UNKNOWN, shelf.hosted.restore_manifest("app", digest))


async def test_a_blob_leaves_one_image_only(shelf: Shelf) -> None:
    """DL-05: the link goes, others keep theirs; a manifest that needs it cannot be pushed before it comes again."""
    for image in ("app", "base"):
        await shelf.blob(CONFIG, image)

    await shelf.hosted.delete_blob("app", Digest.of(CONFIG))

    await refused(Code.BLOB_UNKNOWN, shelf.pull(Digest.of(CONFIG)))
    await refused(Code.BLOB_UNKNOWN, shelf.hosted.delete_blob("app", Digest.of(CONFIG)))
    await refused(Code.MANIFEST_BLOB_UNKNOWN, shelf.put(OTHER))
    assert await shelf.pull(Digest.of(CONFIG), image="base") == CONFIG
    await shelf.blob(CONFIG)
    assert await shelf.put(OTHER) == Digest.of(OTHER)


async def test_a_deleted_referrer_is_not_listed(shelf: Shelf) -> None:
    """RF-12: deleting shows at once, and so does undoing; the subject may come and go meanwhile."""
    subject = await shelf.image()
    about = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": len(IMAGE)}
    referrer = await shelf.put(image_manifest(CONFIG, subject=about))

    async def listed() -> list[Referrer]:
        found = await shelf.hosted.referrers("app", subject, artifact_type=None, after="", limit=10, build=list)
        return found.built

    await shelf.delete(subject)
    assert [row.digest for row in await listed()] == [referrer]
    await shelf.delete(referrer)
    assert await listed() == []
    await shelf.hosted.restore_manifest("app", referrer)
    assert [row.digest for row in await listed()] == [referrer]


async def test_an_index_survives_its_children(shelf: Shelf) -> None:
    """DL-04: a child can be deleted while an index names it; the index is still served, the child is not."""
    child = await shelf.image()
    index = await shelf.put(image_index(IMAGE), "v1")

    await shelf.delete(child)

    assert await shelf.at("v1") == index
    with pytest.raises(RegistryError):
        await shelf.at(child)
