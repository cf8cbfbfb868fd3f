"""Pulls of manifests: what was used when, what a cache holds, and what goes when it must be smaller."""

import pytest

from storage import ColdManifest, Database, Digest, ReferenceRecord, Transaction
from storage.metadata import blobs, manifests, pulls, repositories, tags, upstreams
from storage.metadata.pulls import EVER
from tests.storage.metadata.pieces import blob, digest, document, image, layer, manifest
from tests.storage.metadata.samples import NOW


def child(name: object) -> ReferenceRecord:
    """A reference to a manifest, by the name that it was made with."""
    return ReferenceRecord("child", document(name).digest, document(name).size_bytes, None)


def noted(tx: Transaction, name: object, at: int, full_name: str = "hub/cache/img") -> None:
    """Note a pull."""
    place = image(tx, full_name)
    pulls.note(tx, [(place.id, document(name).digest, at)])


def cold(tx: Transaction, repository_id: int = 1) -> list[tuple[Digest, int]]:
    """All cold manifests with the times of their use; the same page by page."""
    whole = pulls.coldest(tx, repository_id, limit=100)
    paged: list[ColdManifest] = []
    while page := pulls.coldest(
        tx, repository_id, after=(paged[-1].used_at, paged[-1].manifest_id) if paged else pulls.FIRST, limit=2
    ):
        paged += page
    assert paged == whole
    return [(each.digest, each.used_at) for each in whole]


def names(found: list[ColdManifest]) -> list[Digest]:
    """Their digests."""
    return [each.digest for each in found]


async def test_the_least_recently_pulled_comes_first(database: Database) -> None:
    """What was never pulled counts from when it came; an older pull that is told late changes nothing."""

    def act(tx: Transaction) -> None:
        place = image(tx, "hub/cache/img")
        for name in "abc":
            manifest(tx, place, name)
        manifest(tx, image(tx, "hub/other/img"), "elsewhere")
        noted(tx, "a", NOW + 20)
        noted(tx, "b", NOW + 10)
        noted(tx, "a", NOW + 5)
        noted(tx, "absent", NOW + 30)
        pulls.note(tx, [(77, document("a").digest, NOW + 99)])
        assert cold(tx) == [
            (document("c").digest, NOW),
            (document("b").digest, NOW + 10),
            (document("a").digest, NOW + 20),
        ]
        first, second, _ = pulls.coldest(tx, 1, limit=3)
        assert (first.image, first.image_id, first.pushed_at, first.pulled_at) == ("img", place.id, NOW, None)
        assert (second.pulled_at, second.used_at) == (NOW + 10, NOW + 10)

    await database.transaction(act)


async def test_an_index_and_what_it_names_are_used_together(database: Database) -> None:
    """Children are not listed; a pull of one keeps the index; the same child in another image is that one's own."""

    def act(tx: Transaction) -> None:
        place, other = image(tx, "hub/cache/img"), image(tx, "hub/cache/other")
        manifest(tx, place, "child")
        manifest(tx, other, "child")
        manifest(tx, place, "index", [child("child"), child("never fetched")])
        manifest(tx, place, "plain")
        noted(tx, "plain", NOW + 5)
        noted(tx, "child", NOW + 9)
        assert cold(tx) == [
            (document("child").digest, NOW),
            (document("plain").digest, NOW + 5),
            (document("index").digest, NOW + 9),
        ]

    await database.transaction(act)


async def test_what_a_cache_holds(database: Database) -> None:
    """Each blob once, however many images link it, as it is stored; and the manifests."""

    def act(tx: Transaction) -> None:
        place, other = image(tx, "hub/cache/img"), image(tx, "hub/cache/other")
        assert pulls.stored_bytes(tx, place.repository_id) == 0
        blob(tx, "shared", place, other)
        blob(tx, "single", place)
        blob(tx, "not linked here", image(tx, "hub/other/img"))
        manifest(tx, place, "1234")
        assert pulls.stored_bytes(tx, place.repository_id) == 7 + 7 + 4

    await database.transaction(act)


async def test_row_p8_an_image_that_shares_layers_with_another_stays_whole(database: Database) -> None:
    """What goes takes only the links that no other manifest of its image needs, and tells the bytes that it freed.

    Security row P8. A layer that another image of the repository links is not free yet.
    """

    def act(tx: Transaction) -> None:
        place, other = image(tx, "hub/cache/img"), image(tx, "hub/cache/other")
        shared, own, common = (blob(tx, name, place) for name in ("shared", "own", "common"))
        blob(tx, "common", other)
        one = manifest(tx, place, "one", [layer("shared", shared), layer("own", own), layer("common", common)])
        manifest(tx, place, "two", [layer("shared", shared)])
        tags.put(tx, place.id, "1", one, by=None, now=NOW)
        upstreams.put_check(tx, place.id, "1", NOW, None)
        before = pulls.stored_bytes(tx, place.repository_id)

        freed = pulls.evict(tx, one)

        assert freed == len(b"one") + 7
        assert pulls.stored_bytes(tx, place.repository_id) == before - freed
        linked = {name for name in ("shared", "own", "common") if blobs.linked(tx, place.id, digest(name))}
        assert linked == {"shared"}
        assert blobs.linked(tx, other.id, digest("common")) is not None
        assert manifests.find(tx, place.id, document("two").digest) is not None
        assert tags.find(tx, place.id, "1") is None
        assert upstreams.checked(tx, place.id, "1") is None
        assert pulls.evict(tx, one) is None

    await database.transaction(act)


async def test_an_index_goes_with_what_it_alone_names(database: Database) -> None:
    """Never a child before its index; a child of another index, or one that is wanted by itself, stays."""

    def act(tx: Transaction) -> None:
        place = image(tx, "hub/cache/img")
        single = manifest(tx, place, "single", [layer("layer", blob(tx, "layer", place))])
        for name in ("shared", "warm"):
            manifest(tx, place, name)
        index = manifest(tx, place, "index", [child("single"), child("shared"), child("warm"), child("absent")])
        manifest(tx, place, "other", [child("shared")])
        noted(tx, "warm", NOW + 9)
        assert pulls.evict(tx, single) is None
        freed = pulls.evict(tx, index, came_by=NOW, pulled_by=NOW)
        assert freed == len(b"index") + len(b"single") + 7
        left = {name for name in ("single", "shared", "warm") if manifests.find(tx, place.id, document(name).digest)}
        assert left == {"shared", "warm"}
        assert cold(tx)[-1] == (document("warm").digest, NOW + 9)
        assert blobs.linked(tx, place.id, digest("layer")) is None

    await database.transaction(act)


async def test_what_was_used_meanwhile_stays(database: Database) -> None:
    """Between being seen and going, a manifest that came again or was pulled is kept."""

    def act(tx: Transaction) -> None:
        place = image(tx, "hub/cache/img")
        one = manifest(tx, place, "one")
        noted(tx, "one", NOW + 5)
        assert pulls.evict(tx, one, came_by=EVER, pulled_by=NOW + 4) is None
        assert pulls.evict(tx, one, came_by=NOW - 1, pulled_by=EVER) is None
        assert pulls.evict(tx, one, came_by=NOW, pulled_by=NOW + 5) == len(b"one")

    await database.transaction(act)


async def test_a_layer_that_is_named_before_it_came_is_kept(database: Database) -> None:
    """A manifest of a cache that was never filled still names its layer: the link of another's pull is not taken."""

    def act(tx: Transaction) -> None:
        place = image(tx, "hub/cache/img")
        one = manifest(tx, place, "one", [layer("layer", blob(tx, "layer", place))])
        manifest(tx, place, "two", [layer("layer", None)])
        assert pulls.evict(tx, one) == len(b"one")
        assert blobs.linked(tx, place.id, digest("layer")) is not None

    await database.transaction(act)


async def test_what_is_old(database: Database) -> None:
    """Old is what came by the one time and was not pulled after the other; a child's pull counts for its index."""

    def act(tx: Transaction) -> None:
        place = image(tx, "hub/cache/img")
        for name in ("never", "pulled", "child"):
            manifest(tx, place, name)
        manifest(tx, place, "index", [child("child")])
        noted(tx, "pulled", NOW + 5)
        noted(tx, "child", NOW + 6)

        def found(came_by: int, pulled_by: int) -> list[Digest]:
            return names(pulls.old(tx, 1, came_by=came_by, pulled_by=pulled_by, limit=9))

        never, pulled, index = (document(name).digest for name in ("never", "pulled", "index"))
        assert found(NOW - 1, EVER) == []
        assert found(NOW, NOW + 4) == [never]
        assert found(NOW, NOW + 5) == [never, pulled]
        assert found(NOW, EVER) == [never, pulled, index]

    await database.transaction(act)


async def test_times_of_pulls_go_with_their_manifest(database: Database) -> None:
    """A manifest that comes again was never pulled."""

    def act(tx: Transaction) -> None:
        place = image(tx, "hub/cache/img")
        one = manifest(tx, place, "one")
        noted(tx, "one", NOW + 5)
        assert pulls.evict(tx, one) is not None
        manifest(tx, place, "one")
        assert cold(tx) == [(document("one").digest, NOW)]
        repositories.delete(tx, place.repository_id)
        assert cold(tx) == []

    await database.transaction(act)


@pytest.mark.slow  # it has to be deeper than Python's stack
async def test_indexes_within_indexes_go_together(database: Database) -> None:
    """However deep an upstream has nested them: all that only the first names goes with it."""
    depth = 1200

    def act(tx: Transaction) -> None:
        place = image(tx, "hub/cache/img")
        manifest(tx, place, 0)
        for level in range(1, depth):
            top = manifest(tx, place, level, [child(level - 1)])
        freed = pulls.evict(tx, top)
        assert freed == sum(document(level).size_bytes for level in range(depth))
        assert pulls.coldest(tx, 1, limit=1) == []
        assert pulls.evict(tx, top) is None

    await database.transaction(act)
