"""A proxy: images of another registry, kept as they are pulled. Read-only by type; what is cached is ours to give.

A manifest by digest is good for ever. A tag is what its upstream says it is:

| the tag here | its upstream               | what is given                                                   |
|--------------|----------------------------|-----------------------------------------------------------------|
| believed     | is not asked               | the copy                                                        |
| old          | has it, the same or new    | that                                                            |
| old          | in trouble, slow, or busy  | the copy, with a warning and its age                            |
| old          | has it no more             | "unknown", and the tag goes; the copy, if `when_deleted` is keep |
| old          | has it, not for us now     | `UpstreamDenied`: a view does not take another member's for it  |
| none         | has it                     | that, fetched and kept                                          |
| none         | has none                   | "unknown", without asking again for `negative_ttl_s`            |
| none         | says that we may not       | the same; `UpstreamDenied`, if `when_denied` is failure         |
| none         | in trouble, slow, or busy  | the trouble: never "unknown"                                    |
| any          | offline by its settings    | the copy, or "unknown"                                          |

Who has a copy does not wait long: not at all for an upstream whose last question was in vain, and for a slow one only
`Means.patience_s`. The question goes on without them, so that the next pull finds its answer.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

import trio

from gateway.oci.errors import RegistryError, blob_unknown, manifest_unknown, name_unknown
from gateway.oci.names import Reference, Tag
from gateway.oci.referrers import Referrer
from gateway.repositories.arriving import Arriving
from gateway.repositories.contract import ArrivingBlob, FoundManifest, ReferrersPage, TagPage
from gateway.repositories.freshness import Standing, standing
from gateway.repositories.listing import Listing, own_page, page_of
from gateway.repositories.pulling import Copy, Means, Pulling
from gateway.upstream import naming
from gateway.upstream.errors import UpstreamDenied, UpstreamError, UpstreamFailed, UpstreamSlow
from gateway.upstream.settings import UpstreamSettings
from storage import BlobReader, Digest, FoundBlob, RepositoryRecord, Span

T = TypeVar("T")

_WARNING: Final = "the upstream registry cannot be asked: this is what it had"


class ProxyRepository:
    """See `contract.Repository` and the module docstring. Cheap to make; one per request."""

    def __init__(self, record: RepositoryRecord, settings: UpstreamSettings, means: Means) -> None:
        self._record = record
        self._settings = settings
        self._means = means
        self._pulling = Pulling(record, settings, means, keeps_tags=False)
        self._arriving = Arriving(self._pulling)
        self._listing = Listing(self._pulling)

    @property
    def record(self) -> RepositoryRecord:
        """The row that this repository is."""
        return self._record

    # --- manifests --------------------------------------------------------------------------------------------------

    async def manifest(self, image: str, reference: Reference) -> FoundManifest:
        """See `contract.Repository.manifest`."""
        name = self._stored_name(image)
        if not self._pulling.allows(name):
            raise _unknown(image, reference)
        copy = await self._pulling.copy(name, reference)
        found: FoundManifest | None = None
        if isinstance(reference, Tag):
            found = await self._by_tag(name, reference, copy)
        elif copy is not None:
            found = FoundManifest(copy.document)
        elif self._pulling.may_ask(name) and (document := await self._pulling.bring(name, reference)):
            found = FoundManifest(document)
        if found is None:
            raise _unknown(image, reference)
        if copy is None or copy.document.digest != found.document.digest:  # it came just now
            self._means.prefetching.begin(
                self._means.turns, self, image, found.document, platforms=self._settings.platforms
            )
        return found

    async def _by_tag(self, name: str, tag: Tag, copy: Copy | None) -> FoundManifest | None:
        """The table of the module docstring."""
        if self._settings.is_offline:
            return FoundManifest(copy.document) if copy else None
        worth = self._standing(tag, copy)
        if copy is not None and worth.is_fresh:
            return FoundManifest(copy.document, fresh_until=worth.fresh_until)
        if self._pulling.is_unknown(name, tag):
            if copy is not None:
                raise UpstreamDenied(f"{name}:{tag} is not for us any more, says its registry")
            return None
        try:
            checked = await self._check(name, tag, has_copy=copy is not None and copy.checked_at is not None)
        except UpstreamDenied:
            raise
        except UpstreamError:
            if copy is None or copy.checked_at is None:
                raise
            return FoundManifest(copy.document, age_s=worth.age_s, warning=_WARNING)
        if checked is None:
            return None
        return FoundManifest(checked.document, fresh_until=self._standing(tag, checked).fresh_until)

    async def _check(self, name: str, tag: Tag, *, has_copy: bool) -> Copy | None:
        """Ask the upstream; who has a copy is not kept waiting, while the question goes on."""
        flight = self._pulling.begin_check(name, tag)
        if not has_copy:
            return await flight.outcome()
        if (await self._pulling.upstream()).is_troubled():
            raise UpstreamFailed("the upstream did not answer the last time")
        with trio.move_on_after(self._means.patience_s):
            return await flight.outcome()
        raise UpstreamSlow(f"the upstream did not answer within {self._means.patience_s:g} s")

    def _standing(self, tag: Tag, copy: Copy | None) -> Standing:
        checked_at = copy.checked_at if copy else None
        return standing(self._settings, tag.name, checked_at=checked_at, now=self._means.clock())

    # --- blobs ------------------------------------------------------------------------------------------------------

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob | ArrivingBlob:
        """See `contract.Repository.find_blob`."""
        name = self._stored_name(image)
        if not self._pulling.allows(name):
            raise blob_unknown(digest)
        return await self._arriving.linked(name, digest) or await self._arriving.find(name, digest)

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """See `contract.Repository.open_blob`."""
        return self._arriving.open_found(found, span)

    # --- lists ------------------------------------------------------------------------------------------------------

    async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
        """See `contract.Repository.tags`: what the upstream lists, else what was pulled from here."""
        name = self._stored_name(image)
        if not self._pulling.allows(name):
            raise name_unknown(image)
        if self._settings.is_offline:
            return TagPage(await self._own_tags(image, name, after=after, limit=limit))
        try:
            listed = await self._listing.tags(name)
        except UpstreamError:
            own = await self._listing.own_tags(name, after=after, limit=limit)
            if own is None:
                raise
            return own_page(own)
        if listed.names is None:
            raise name_unknown(image)
        return TagPage(page_of(listed.names, after=after, limit=limit), listed.warning, listed.age_s)

    async def _own_tags(self, image: str, name: str, *, after: str, limit: int) -> list[str]:
        own = await self._listing.own_tags(name, after=after, limit=limit)
        if own is None:
            raise name_unknown(image)
        return own

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
        """See `contract.Repository.referrers`: what the upstream lists, and what was pulled from here (row RF-19)."""
        name = self._stored_name(image)
        if not self._pulling.allows(name):
            return ReferrersPage(build(iter(())))
        return await self._listing.merged(
            name, subject, hidden=frozenset(), artifact_type=artifact_type, after=after, limit=limit, build=build
        )

    def _stored_name(self, image: str) -> str:
        """What the image's rows are called: as at the upstream, so that Docker Hub's two names for one are one here."""
        return naming.upstream_name(self._settings.urls, image)


def _unknown(image: str, reference: Reference) -> RegistryError:
    return manifest_unknown(image, str(reference))
