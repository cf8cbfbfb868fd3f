"""Referrers of virtual repositories: one page of them is held, however long the annotations of all are."""

import tracemalloc
from collections.abc import Iterator

import pytest

from gateway.oci.manifest import MAX_BYTES
from gateway.oci.referrers import Referrer, build_page
from gateway.repositories.opening import opener
from storage import RepositoryRecord, Transaction
from storage.metadata import members
from storage.metadata.members import NewMember
from tests.gateway.repositories.shelf import CONFIG, Holder, Shelf
from tests.served import OCI_MANIFEST, image_manifest
from tests.storage.metadata import samples

_NOTE = "x" * 600_000
_EACH = 30
"""So many referrers with such a note in each of two members: 36 MB."""


def _one_page(found: Iterator[Referrer]) -> list[str]:
    """The digests of the page that a client gets."""
    seen: list[str] = []

    def noted() -> Iterator[Referrer]:
        for each in found:
            seen.append(str(each.digest))
            yield each

    _, shown = build_page(noted(), limit_bytes=MAX_BYTES)
    return seen[:shown]


@pytest.mark.slow
async def test_pages_of_long_annotations_are_whole_and_small(shelf: Shelf, other: Shelf) -> None:
    """Page by page all are listed, each once and in order, and no page takes the memory of all of them."""
    subject = await shelf.image("v1")
    descriptor = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 1}
    pushed: list[str] = []
    for number in range(2 * _EACH):
        home = (shelf, other)[number % 2]
        await home.blob(CONFIG)
        notes = {"number": str(number), "note": _NOTE}
        pushed.append(str(await home.put(image_manifest(CONFIG, subject=descriptor, annotations=notes))))

    def make(tx: Transaction) -> RepositoryRecord:
        made = samples.repository(tx, "common/all", repository_type="virtual")
        members.put(tx, made.id, [NewMember(shelf.record.id), NewMember(other.record.id)])
        return made

    record = await shelf.scene.database.transaction(make)
    scene, caller = shelf.scene, Holder(reads=frozenset({shelf.record.id, other.record.id}))
    view = opener(database=scene.database, content=scene.content, clock=scene.clock)(record, caller)

    listed: list[str] = []
    page: list[str] | None = None
    tracemalloc.start()
    while page is None or page:
        after = listed[-1] if listed else ""
        found = await view.referrers("app", subject, artifact_type=None, after=after, limit=1001, build=_one_page)
        page = found.built
        listed += page
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert listed == sorted(pushed)
    assert peak_bytes < 2 * _EACH * len(_NOTE)
