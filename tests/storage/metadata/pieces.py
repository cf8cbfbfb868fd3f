"""Images, blobs and manifests that tests of single rows need; bytes are nobody's business here."""

from collections.abc import Sequence

from storage import Digest, Document, ImageRecord, ReferenceRecord, StoredObject, Transaction
from storage.metadata import blobs, images, manifests, repositories
from tests.storage.metadata.samples import NOW, repository


def digest(name: object, algorithm: str = "sha256") -> Digest:
    """Some digest, the same for the same name."""
    return Digest.of(str(name).encode(), algorithm)


def copy(name: object, key: str | None = None) -> StoredObject:
    """What a store would say of a blob."""
    return StoredObject(key or f"key-of-{name}", digest(name), 10, 7, "zstd", NOW)


def image(tx: Transaction, full_name: str = "team/app/img") -> ImageRecord:
    """The image of that name, in a repository that is made if needed."""
    place, _, name = full_name.rpartition("/")
    project, _, repository_name = place.partition("/")
    found = repositories.find(tx, project, repository_name) or repository(tx, place)
    return images.ensure(tx, found, name, now=NOW)


def blob(tx: Transaction, name: object, *linked: ImageRecord, now: int = NOW) -> int:
    """A stored blob that those images link; its id."""
    blob_id = blobs.settle(tx, 1, digest(name), copy(name), now=now)
    assert blob_id is not None
    for each in linked:
        blobs.link(tx, each.id, digest(name), blob_id, now=now)
    return blob_id


def document(name: object) -> Document:
    """The bytes of some manifest."""
    content = str(name).encode()
    return Document(Digest.of(content), "application/vnd.oci.image.manifest.v1+json", content)


def manifest(
    tx: Transaction,
    place: ImageRecord,
    name: object,
    needs: Sequence[ReferenceRecord] = (),
    *,
    subject: Digest | None = None,
    artifact_type: str | None = None,
) -> int:
    """A stored manifest; its id."""
    return manifests.put(
        tx,
        place.id,
        document(name),
        artifact_type=artifact_type,
        subject=subject,
        annotations=None,
        references=needs,
        by=None,
        now=NOW,
    )


def layer(name: object, blob_id: int | None) -> ReferenceRecord:
    """A reference to a layer."""
    return ReferenceRecord("layer", digest(name), 10, blob_id)
