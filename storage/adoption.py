"""The rows of a blob that came as a local file: one transaction, whatever the number of images that wait for it."""

from collections.abc import Collection
from dataclasses import dataclass

from storage.blobstore import StoredObject
from storage.database import Transaction
from storage.digest import Digest
from storage.metadata import blobs, images, manifests
from storage.records import BlobRecord, RepositoryRecord


@dataclass(frozen=True, slots=True)
class Adoption:
    """A blob with its sha256, and the digest (the same, or sha512) under which images of a repository want it."""

    repository: RepositoryRecord
    digest: Digest
    asked: Digest
    image_names: Collection[str]

    def settle(
        self, tx: Transaction, stored: StoredObject | None, *, broken: str | None, now: int
    ) -> BlobRecord | None:
        """Put the blob on record and link it; see `blobs.settle` for `stored`, `broken`, None and what is raised."""
        storage_id = self.repository.storage_id
        blob_id = blobs.settle(tx, storage_id, self.digest, stored, broken=broken, now=now)
        if blob_id is None:
            return None
        if self.asked != self.digest:
            blobs.name_also(tx, storage_id, self.asked, blob_id)
        for name in sorted(self.image_names):
            link_into(tx, self.repository, name, self.asked, blob_id, now=now)
        return blobs.find(tx, storage_id, self.digest)


def link_into(
    tx: Transaction, repository: RepositoryRecord, image: str, digest: Digest, blob_id: int, *, now: int
) -> int:
    """Let the image read the blob, and its manifests that were stored before need it; gives the image's id."""
    target = images.ensure(tx, repository, image, now=now)
    blobs.link(tx, target.id, digest, blob_id, now=now)
    manifests.fill(tx, target.id, digest, blob_id)
    return target.id
