"""A hosted repository: images that clients push. Every write is one transaction.

A manifest is taken only if everything it needs is readable in the same image at that instant (rows MP-09, MP-25); the
references are written with it, so that garbage collection never has to read it again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from gateway.oci.errors import (
    RegistryError,
    blob_unknown,
    manifest_blob_unknown,
    manifest_unknown,
    name_unknown,
    size_invalid,
)
from gateway.oci.manifest import Descriptor, Manifest
from gateway.oci.names import Tag
from gateway.oci.referrers import Referrer
from gateway.repositories import rows
from gateway.repositories.contract import (
    AdmitDelete,
    AdmitTag,
    Caller,
    Confirm,
    FoundManifest,
    Push,
    ReferrersPage,
    TagPage,
)
from storage import (
    BlobReader,
    BlobUnknown,
    Content,
    Database,
    Digest,
    FoundBlob,
    ImageRecord,
    ReferenceRecord,
    RepositoryRecord,
    Span,
    Transaction,
)
from storage.metadata import blobs, images, manifests, tags

T = TypeVar("T")

Bury = Callable[[Transaction, int, Sequence[str]], None]
"""Told of the tags and digests that are deleted from an image (its id), in the same transaction."""


class HostedRepository:
    """See `contract.WritableRepository`. Cheap to make; one per request."""

    def __init__(
        self,
        record: RepositoryRecord,
        *,
        database: Database,
        content: Content,
        clock: Callable[[], float] = time.time,
        caller: Caller | None = None,
        bury: Bury | None = None,
    ) -> None:
        """Without a `caller` nothing is shared from elsewhere; `bury` is called for what is deleted, in its act."""
        self._record = record
        self._database = database
        self._content = content
        self._clock = clock
        self._caller = caller
        self._bury = bury

    @property
    def record(self) -> RepositoryRecord:
        """The row that this repository is."""
        return self._record

    # --- reading ------------------------------------------------------------------------------------------------

    async def manifest(self, image: str, reference: Tag | Digest) -> FoundManifest:
        """See `contract.Repository.manifest`."""
        document = await self._database.read(rows.read_manifest, self._record.id, image, reference)
        if document is None:
            raise self._manifest_unknown(image, reference)
        return FoundManifest(document)

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob:
        """See `contract.Repository.find_blob`."""
        found = await self._database.read(images.find, self._record.id, image)
        if found is None:
            raise blob_unknown(digest)
        try:
            return await self._content.find(found.id, digest)
        except BlobUnknown:
            raise blob_unknown(digest) from None

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """See `contract.Repository.open_blob`."""
        return self._content.open(found, span)

    async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
        """See `contract.Repository.tags`."""

        def page(tx: Transaction) -> list[str] | None:
            found = images.find(tx, self._record.id, image)
            return tags.page(tx, found.id, after=after, limit=limit) if found else None

        names = await self._database.survey(page)
        if names is None:
            raise name_unknown(image)
        return TagPage(names)

    async def referrers(
        self,
        image: str,
        subject: Digest,
        *,
        artifact_type: str | None,
        after: str,
        limit: int,
        build: Callable[[Iterator[Referrer]], T],
    ) -> ReferrersPage[T]:
        """See `contract.Repository.referrers`."""

        def page(tx: Transaction) -> T:
            found = images.find(tx, self._record.id, image)
            if found is None:
                return build(iter(()))
            listed = manifests.referrers(tx, found.id, subject, artifact_type=artifact_type, after=after, limit=limit)
            return build(map(rows.referrer_of, listed))

        return ReferrersPage(await self._database.survey(page))

    # --- writing ------------------------------------------------------------------------------------------------

    async def put_manifest(self, image: str, push: Push, *, admit: AdmitTag, confirm: Confirm | None = None) -> None:
        """See `contract.WritableRepository.put_manifest`."""

        def put(tx: Transaction) -> None:
            if confirm is not None:
                confirm(tx)
            now = int(self._clock())
            target = images.ensure(tx, self._record, image, now=now)
            references = _resolve(tx, target, push.manifest)
            for name in push.tags:
                admit(tags.find(tx, target.id, name), name)
            manifest_id = rows.store(
                tx, target, push.document, push.manifest, references=references, by=push.by, now=now
            )
            for name in push.tags:
                tags.put(tx, target.id, name, manifest_id, by=push.by, now=now)

        await self._database.transaction(put)

    async def delete_tag(self, image: str, tag: Tag, *, admit: AdmitDelete) -> None:
        """See `contract.WritableRepository.delete_tag`."""

        def delete(tx: Transaction) -> bool:
            target = images.find(tx, self._record.id, image)
            found = tags.find(tx, target.id, tag.name) if target else None
            if target is None or found is None:
                return False
            admit([tag.name], found.digest)
            self._note_deleted(tx, target.id, tag.name)
            return tags.delete(tx, target.id, tag.name)

        if not await self._database.transaction(delete):
            raise self._manifest_unknown(image, tag)

    async def delete_manifest(self, image: str, digest: Digest, *, admit: AdmitDelete) -> None:
        """See `contract.WritableRepository.delete_manifest`."""

        def delete(tx: Transaction) -> bool:
            target = images.find(tx, self._record.id, image)
            found = manifests.find(tx, target.id, digest) if target else None
            if target is None or found is None:
                return False
            names = tags.of_manifest(tx, found.id)
            admit(names, digest)
            self._note_deleted(tx, target.id, str(digest), *names)
            tags.delete_of_manifest(tx, found.id)
            return manifests.mark_deleted(tx, found.id, tag_names=names, now=int(self._clock()))

        if not await self._database.transaction(delete):
            raise self._manifest_unknown(image, digest)

    async def delete_blob(self, image: str, digest: Digest) -> None:
        """See `contract.WritableRepository.delete_blob`."""

        def delete(tx: Transaction) -> bool:
            target = images.find(tx, self._record.id, image)
            if target is None or not blobs.unlink(tx, target.id, digest):
                return False
            self._note_deleted(tx, target.id, str(digest))
            return True

        if not await self._database.transaction(delete):
            raise blob_unknown(digest)

    async def share_blob(self, image: str, digest: Digest) -> FoundBlob | None:
        """See `contract.WritableRepository.share_blob`."""
        if self._caller is None:
            return None
        return await self._content.share(digest, repository=self._record, image=image, may_read=self._caller.may_pull)

    async def restore_manifest(self, image: str, digest: Digest) -> list[str]:
        """Undo a deletion within its window; gives the tags put back (those not taken meanwhile)."""

        def restore(tx: Transaction) -> list[str] | None:
            target = images.find(tx, self._record.id, image)
            found = manifests.find(tx, target.id, digest, deleted=True) if target else None
            if target is None or found is None or found.deleted_at is None:
                return None
            now = int(self._clock())
            free = [name for name in manifests.restore(tx, found.id) if tags.find(tx, target.id, name) is None]
            for name in free:
                tags.put(tx, target.id, name, found.id, by=None, now=now)
            return free

        names = await self._database.transaction(restore)
        if names is None:
            raise self._manifest_unknown(image, digest)
        return names

    def _note_deleted(self, tx: Transaction, image_id: int, *names: str) -> None:
        if self._bury is not None:
            self._bury(tx, image_id, names)

    def _manifest_unknown(self, image: str, reference: Tag | Digest) -> RegistryError:
        return manifest_unknown(image, reference.name if isinstance(reference, Tag) else str(reference))


def _resolve(tx: Transaction, image: ImageRecord, manifest: Manifest) -> list[ReferenceRecord]:
    """The references of a manifest, each proved to be readable in the image; raises for what is missing."""
    needed = rows.blobs_of(manifest)
    held = blobs.linked_sizes(tx, image.id, rows.digests(needed))
    children = manifests.sizes(tx, image.id, rows.digests(manifest.children))
    sizes = {digest: size_bytes for digest, (_, size_bytes) in held.items()} | children
    _refuse_missing([item for item in (*needed, *manifest.children) if not item.is_foreign], sizes)
    _refuse_wrong_sizes([*needed, *manifest.children], sizes)
    return rows.references(manifest, held)


def _refuse_missing(items: Sequence[Descriptor], sizes: dict[Digest, int]) -> None:
    missing = [str(digest) for digest in rows.digests(items) if digest not in sizes]
    if missing:
        raise manifest_blob_unknown(missing)


def _refuse_wrong_sizes(items: Sequence[Descriptor], sizes: dict[Digest, int]) -> None:
    for item in items:
        actual = sizes.get(item.digest, item.size_bytes)
        if actual != item.size_bytes:
            raise size_invalid(f"{item.digest} has {actual} bytes, the manifest says {item.size_bytes}")
