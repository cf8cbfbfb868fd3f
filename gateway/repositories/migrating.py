"""A hosted repository that takes over from another registry: what is missing here is fetched there and then kept.

Its own comes first, always: a tag that is here is never asked for again nor moved by the upstream, and pushes, moves
and deletions are as in any hosted repository. What came in once is its own like anything that was pushed, so the other
registry can be switched off when nothing is missed any more.

What is deleted here stays deleted: its tags and digests are *buried* (`pulling.bury`), in the same transaction, and the
upstream is not asked for them again, however long the undelete window is. Pushing or restoring brings them back.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Final, TypeVar

import trio

from gateway.oci.errors import Code, RegistryError, blob_unknown, manifest_unknown, name_unknown
from gateway.oci.manifest import Descriptor
from gateway.oci.names import Reference, Tag
from gateway.oci.referrers import Referrer
from gateway.repositories import rows
from gateway.repositories.arriving import Arriving
from gateway.repositories.contract import (
    AdmitDelete,
    AdmitTag,
    ArrivingBlob,
    Caller,
    Confirm,
    FoundManifest,
    Push,
    ReferrersPage,
    TagPage,
)
from gateway.repositories.hosted import HostedRepository
from gateway.repositories.listing import Listing, either, own_page
from gateway.repositories.pulling import BURIED, Means, Pulling, bury, is_buried
from gateway.upstream.errors import UpstreamError
from gateway.upstream.settings import UpstreamSettings
from storage import BlobReader, Digest, FoundBlob, RepositoryRecord, Span, Transaction
from storage.metadata import blobs, images, manifests, upstreams

T = TypeVar("T")

_AT_ONCE: Final = 4
"""Blobs that one push of a manifest waits for at a time."""
_MOST: Final = 1000
"""What one push may have fetched: a manifest of 4 MiB could name 40,000 things, each a question to the upstream."""


class MigratingRepository:
    """See `contract.WritableRepository` and the module docstring. Cheap to make; one per request."""

    def __init__(self, record: RepositoryRecord, settings: UpstreamSettings, means: Means, *, caller: Caller) -> None:
        self._record = record
        self._means = means
        self._pulling = Pulling(record, settings, means, keeps_tags=True)
        self._arriving = Arriving(self._pulling)
        self._listing = Listing(self._pulling)
        self._hosted = HostedRepository(
            record, database=means.database, content=means.content, clock=means.clock, caller=caller, bury=self._bury
        )

    @property
    def record(self) -> RepositoryRecord:
        """The row that this repository is."""
        return self._record

    # --- reading ----------------------------------------------------------------------------------------------------

    async def manifest(self, image: str, reference: Reference) -> FoundManifest:
        """See `contract.Repository.manifest`: its own, else the upstream's, which is its own from then on."""
        copy = await self._pulling.copy(image, reference)
        if copy is None and await self._may_come(image, str(reference)):
            if isinstance(reference, Digest):
                document = await self._pulling.bring(image, reference)
                if document is not None:
                    return FoundManifest(document)
            elif not self._pulling.is_unknown(image, reference):
                copy = await self._pulling.begin_check(image, reference).outcome()
        if copy is None:
            raise manifest_unknown(image, str(reference))
        return FoundManifest(copy.document)

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob | ArrivingBlob:
        """See `contract.Repository.find_blob`."""
        found = await self._arriving.linked(image, digest)
        if found is not None:
            return found
        if not await self._may_come(image, str(digest)):
            raise blob_unknown(digest)
        return await self._arriving.find(image, digest)

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """See `contract.Repository.open_blob`."""
        return self._arriving.open_found(found, span)

    async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
        """See `contract.Repository.tags`: its own and the upstream's, but for those deleted here."""
        own = await self._listing.own_tags(image, after=after, limit=limit)
        if not self._pulling.may_ask(image):
            if own is None:
                raise name_unknown(image)
            return TagPage(own)
        try:
            listed = await self._listing.tags(image)
        except UpstreamError:
            if own is None:
                raise
            return own_page(own)
        if own is None and listed.names is None:
            raise name_unknown(image)
        buried = await self._means.database.read(self._buried, image)
        theirs = [name for name in listed.names or () if name > after and name not in buried]
        return TagPage(list(islice(either(own or (), theirs), limit)), listed.warning, listed.age_s)

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
        """See `contract.Repository.referrers`: its own and the upstream's, but for those deleted here."""
        hidden = await self._means.database.read(self._buried, image)
        return await self._listing.merged(
            image, subject, hidden=hidden, artifact_type=artifact_type, after=after, limit=limit, build=build
        )

    # --- writing ----------------------------------------------------------------------------------------------------

    async def put_manifest(self, image: str, push: Push, *, admit: AdmitTag, confirm: Confirm | None = None) -> None:
        """See `contract.WritableRepository.put_manifest`.

        What the manifest needs and only the upstream has is fetched first: its client was told that it is here.
        """
        await self._complete(image, push)
        await self._hosted.put_manifest(image, push, admit=admit, confirm=confirm)

    async def delete_tag(self, image: str, tag: Tag, *, admit: AdmitDelete) -> None:
        """See `contract.WritableRepository.delete_tag`."""
        await self._hosted.delete_tag(image, tag, admit=admit)

    async def delete_manifest(self, image: str, digest: Digest, *, admit: AdmitDelete) -> None:
        """See `contract.WritableRepository.delete_manifest`."""
        await self._hosted.delete_manifest(image, digest, admit=admit)

    async def delete_blob(self, image: str, digest: Digest) -> None:
        """See `contract.WritableRepository.delete_blob`."""
        await self._hosted.delete_blob(image, digest)

    async def share_blob(self, image: str, digest: Digest) -> FoundBlob | None:
        """See `contract.WritableRepository.share_blob`."""
        return await self._hosted.share_blob(image, digest)

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _complete(self, image: str, push: Push) -> None:
        needed = [item for item in rows.blobs_of(push.manifest) if not item.is_foreign]
        children = push.manifest.children
        # Not a mere look: the rows that are found are held, as at a push.
        missing, absent = await self._means.database.transaction(self._missing, image, needed, children)
        if len(missing) + len(absent) > _MOST:
            return  # and the manifest is refused for want of them
        for digest in absent:
            if await self._may_come(image, str(digest)):
                await self._pulling.bring(image, digest)
        limiter = trio.CapacityLimiter(_AT_ONCE)
        failures: list[Exception] = []

        async def fetch(digest: Digest) -> None:
            async with limiter:
                try:
                    await self._fetch(image, digest)
                except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for digest in missing:
                nursery.start_soon(fetch, digest)
        if failures:
            raise failures[0]

    async def _fetch(self, image: str, digest: Digest) -> None:
        """One blob; what the upstream does not have either, the push is refused for as anywhere."""
        try:
            found = await self.find_blob(image, digest)
            if isinstance(found, ArrivingBlob):
                await self._arriving.fetch(image, found)
        except RegistryError as error:
            if error.code is not Code.BLOB_UNKNOWN:
                raise

    async def _may_come(self, image: str, name: str) -> bool:
        """Whether the upstream may be asked for a tag or digest that is not here."""
        return self._pulling.may_ask(image) and not await self._means.database.read(self._is_buried, image, name)

    def _is_buried(self, tx: Transaction, image: str, name: str) -> bool:
        found = images.find(tx, self._record.id, image)
        return found is not None and is_buried(tx, found.id, name)

    def _buried(self, tx: Transaction, image: str) -> frozenset[str]:
        found = images.find(tx, self._record.id, image)
        return frozenset(upstreams.checked_with(tx, found.id, BURIED)) if found else frozenset()

    def _bury(self, tx: Transaction, image_id: int, names: Sequence[str]) -> None:
        bury(tx, image_id, names, now=int(self._means.clock()))

    def _missing(
        self, tx: Transaction, image: str, needed: Sequence[Descriptor], children: Sequence[Descriptor]
    ) -> tuple[list[Digest], list[Digest]]:
        """The blobs and the children that the image does not hold."""
        found = images.find(tx, self._record.id, image)
        wanted, wanted_children = rows.digests(needed), rows.digests(children)
        if found is None:
            return wanted, wanted_children
        held = blobs.linked_sizes(tx, found.id, wanted)
        here = manifests.sizes(tx, found.id, wanted_children)
        return [each for each in wanted if each not in held], [each for each in wanted_children if each not in here]
