"""A small installation without HTTP: repositories, an account, workers over one database and one store, and a clock.

The functions do what the gateway does with storage, in the same order; `put_manifest` and `delete_manifest` are one
transaction each, as there.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage import (
    BlobStore,
    Content,
    Database,
    Digest,
    Document,
    FoundBlob,
    ImageRecord,
    ReferenceRecord,
    RepositoryRecord,
    Span,
    Sweep,
    SweepSettings,
    Transaction,
    UploadRecord,
)
from storage.metadata import blobs, images, manifests, storages, tags
from tests.storage.metadata import samples
from tests.storage.place import read

GRACE_S = 1000
UNDELETE_S = 500
EXPIRY_S = 700


class Clock:
    """Unix seconds that pass only when a test says so. Starts now, as directories have times of their own."""

    def __init__(self) -> None:
        self.now = int(time.time())

    def __call__(self) -> float:
        """The time, as `time.time` gives it."""
        return self.now

    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds


class BlobMissing(Exception):
    """A manifest needs a blob that its image may not read."""


@dataclass
class Scene:
    """Everything that a test of storage has at hand; `content` is the first worker."""

    database: Database
    store: BlobStore
    clock: Clock
    grace_s: int = GRACE_S
    uploads_per_account: int = 20
    content: Content = field(init=False)
    repository: RepositoryRecord = field(init=False)
    other: RepositoryRecord = field(init=False)
    account_id: int = field(init=False)

    async def prepare(self) -> "Scene":
        """Make the rows; gives itself."""
        self.content = await self.worker()
        self.repository, self.other, self.account_id = await self.database.transaction(_furnish)
        return self

    async def worker(self, *, database: Database | None = None, store: BlobStore | None = None) -> Content:
        """Another worker process' view: no shared memory with the first, the same database and the same place."""
        content = Content(
            database or self.database,
            {"main": store or self.store},
            grace_s=self.grace_s,
            uploads_per_account=self.uploads_per_account,
            clock=self.clock,
        )
        await content.prepare()
        return content

    def sweep(self, *, content: Content | None = None, database: Database | None = None) -> Sweep:
        """A sweep that knows nothing of earlier ones."""
        settings = SweepSettings(grace_s=self.grace_s, undelete_s=UNDELETE_S, upload_expiry_s=EXPIRY_S)
        return Sweep(database or self.database, content or self.content, settings, clock=self.clock)

    async def begin(self, image: str = "app", *, content: Content | None = None) -> UploadRecord:
        """A new upload session in the first repository."""
        return await (content or self.content).begin(self.repository, image, account_id=self.account_id)

    async def push(
        self,
        data: bytes,
        image: str = "app",
        *,
        digest: Digest | None = None,
        repository: RepositoryRecord | None = None,
        content: Content | None = None,
    ) -> Digest:
        """Push a blob as a client does that sends it whether or not it is there."""
        content, repository = content or self.content, repository or self.repository
        digest = digest or Digest.of(data)
        record = await content.begin(repository, image, account_id=self.account_id)
        async with content.resume(record) as upload:
            if data:
                await upload.append(data)
            await content.commit(upload, digest, repository=repository)
        return digest

    async def find(
        self, digest: Digest, image: str = "app", *, repository: RepositoryRecord | None = None
    ) -> FoundBlob:
        """The blob as the image may read it."""
        record = await self.image(image, repository=repository)
        return await self.content.find(record.id, digest)

    async def pull(self, digest: Digest, image: str = "app", *, repository: RepositoryRecord | None = None) -> bytes:
        """The blob's bytes through the image."""
        found = await self.find(digest, image, repository=repository)
        async with self.content.open(found, Span(0, found.size_bytes)) as reader:
            return await read(reader)

    async def image(self, image: str = "app", *, repository: RepositoryRecord | None = None) -> ImageRecord:
        """The image's row, made if it is new."""
        place = repository or self.repository
        return await self.database.transaction(images.ensure, place, image, now=self.clock.now)

    async def put_manifest(
        self, needs: Sequence[Digest], image: str = "app", *, tag: str | None = None, salt: str = ""
    ) -> Digest:
        """Push a manifest that needs these blobs; `BlobMissing` unless the image may read them all."""
        return await self.database.transaction(
            put_manifest, self.repository, image, needs, tag=tag, salt=salt, now=self.clock.now
        )

    async def delete_manifest(self, digest: Digest, image: str = "app") -> None:
        """Delete a manifest with its tags; it can be restored for a while."""
        await self.database.transaction(delete_manifest, self.repository, image, digest, now=self.clock.now)

    async def restore_manifest(self, digest: Digest, image: str = "app") -> bool:
        """Undo that; False if it is too late."""
        return await self.database.transaction(restore_manifest, self.repository, image, digest, now=self.clock.now)

    async def unlink(self, digest: Digest, image: str = "app") -> bool:
        """Delete a blob from the image, as `DELETE /v2/.../blobs/` does."""
        record = await self.image(image)
        return await self.database.transaction(blobs.unlink, record.id, digest)


def _furnish(tx: Transaction) -> tuple[RepositoryRecord, RepositoryRecord, int]:
    first, second = (
        samples.repository(tx, f"common/{name}", storage_id=storages.ensure(tx, "main")) for name in ("hosted", "other")
    )
    return first, second, samples.account(tx, "ann").id


def document(needs: Sequence[Digest], salt: str = "") -> Document:
    """Bytes that name what they need, as a manifest does."""
    content = json.dumps({"salt": salt, "layers": [str(digest) for digest in needs]}).encode()
    return Document(Digest.of(content), "application/vnd.oci.image.manifest.v1+json", content)


def put_manifest(
    tx: Transaction,
    repository: RepositoryRecord,
    image: str,
    needs: Sequence[Digest],
    *,
    tag: str | None,
    salt: str,
    now: int,
) -> Digest:
    """What the gateway does in one transaction when a manifest is put."""
    target = images.ensure(tx, repository, image, now=now)
    held = blobs.linked_sizes(tx, target.id, list(dict.fromkeys(needs)))
    if missing := [str(digest) for digest in needs if digest not in held]:
        raise BlobMissing(", ".join(missing))
    pushed = document(needs, salt)
    references = [
        ReferenceRecord("layer", digest, size_bytes, blob_id)
        for digest, (blob_id, size_bytes) in ((digest, held[digest]) for digest in needs)
    ]
    manifest_id = manifests.put(
        tx,
        target.id,
        pushed,
        artifact_type=None,
        subject=None,
        annotations=None,
        references=references,
        by=None,
        now=now,
    )
    if tag is not None:
        tags.put(tx, target.id, tag, manifest_id, by=None, now=now)
    return pushed.digest


def delete_manifest(tx: Transaction, repository: RepositoryRecord, image: str, digest: Digest, *, now: int) -> None:
    """What the gateway does when a manifest is deleted by digest."""
    target = images.find(tx, repository.id, image)
    assert target is not None
    found = manifests.find(tx, target.id, digest)
    assert found is not None
    names = tags.delete_of_manifest(tx, found.id)
    assert manifests.mark_deleted(tx, found.id, tag_names=names, now=now)


def restore_manifest(tx: Transaction, repository: RepositoryRecord, image: str, digest: Digest, *, now: int) -> bool:
    """What the gateway does when a deletion is undone."""
    target = images.find(tx, repository.id, image)
    found = manifests.find(tx, target.id, digest, deleted=True) if target else None
    if target is None or found is None or found.deleted_at is None:
        return False
    for name in manifests.restore(tx, found.id):
        tags.put(tx, target.id, name, found.id, by=None, now=now)
    return True
