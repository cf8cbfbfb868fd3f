"""Pulling through: what proxies and migrating repositories do alike with an upstream. Decides nothing about freshness.

What comes is kept as rows and bytes of *this* repository, after its own upstream said that it has it, or from where
everybody may read: nobody gets a thing by naming its digest. Manifests are stored with their exact bytes before
their layers come; the children of an index come when they are asked for. A manifest that is here is never fetched
again, whatever tag leads to it: HEAD tells the digest, and costs nothing where pulls are counted.

Where the upstream says that it does not have a thing (or not for us), the result is None, and that is kept for a while
for this repository alone. All other trouble is raised as `UpstreamError`, and trouble of ours as `StorageError`.
"""

import hashlib
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from gateway.oci.names import Reference, Tag
from gateway.oci.referrers import Referrer
from gateway.repositories import rows
from gateway.repositories.prefetching import Prefetching
from gateway.repositories.remembered import Remembered
from gateway.repositories.turns import Flight, Turns
from gateway.upstream import naming
from gateway.upstream.answers import FetchedManifest, NotModified, TagListing
from gateway.upstream.errors import UpstreamDenied, UpstreamFailed, UpstreamUnknown
from gateway.upstream.opening import Upstreams
from gateway.upstream.registry import UpstreamRegistry
from gateway.upstream.settings import UpstreamSettings
from storage import Arrivals, Content, Database, Digest, Document, RepositoryRecord, Transaction, Unavailable
from storage.metadata import blobs, images, manifests, tags, upstreams

T = TypeVar("T")

BURIED: Final = "buried"
"""In place of an entity tag: what was deleted here, by its tag or digest, is not to come back from the upstream."""

PATIENCE_S: Final = 2.0
"""For an upstream that answers late, where there is a copy: many times a good round trip, and no build notices it."""
_UNKNOWN: Final = 50_000
"""Things that are remembered to be unknown; about 300 bytes each."""
_NAMES: Final = 500_000
"""Tags in remembered lists; about 80 bytes each."""
_REFERRERS: Final = 20_000
"""KiB of referrers in remembered lists."""


@dataclass(frozen=True, slots=True)
class Means:
    """What pulling works with; one per process. `patience_s`: how long who has a copy waits for an upstream.

    What is remembered is kept by repository and settings: what one repository was told says nothing to another.
    """

    database: Database
    content: Content
    upstreams: Upstreams
    arrivals: Arrivals
    turns: Turns
    clock: Callable[[], float]
    prefetching: Prefetching = field(init=False, default_factory=Prefetching)
    patience_s: float = PATIENCE_S
    unknown: Remembered[Hashable, None] = field(init=False)
    listings: Remembered[Hashable, TagListing] = field(init=False)
    referrers: Remembered[Hashable, tuple[Referrer, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is remembered yet."""
        object.__setattr__(self, "unknown", Remembered(weight=_UNKNOWN, clock=self.clock))
        object.__setattr__(self, "listings", Remembered(weight=_NAMES, clock=self.clock))
        object.__setattr__(self, "referrers", Remembered(weight=_REFERRERS, clock=self.clock))


@dataclass(frozen=True, slots=True)
class Copy:
    """A manifest that is here. Of a tag: when the upstream last said that we may have it (Unix seconds), and its etag.

    `checked_at` None: nobody remembers, or its last word was that we may not.
    """

    document: Document
    checked_at: int | None = None
    etag: str | None = None


class Pulling:
    """For one repository; as cheap to make as that. `image` is always the name that its rows have.

    `keeps_tags`: a tag that is here is the repository's own and stays as it is; else the upstream moves it.
    """

    def __init__(self, record: RepositoryRecord, settings: UpstreamSettings, means: Means, *, keeps_tags: bool) -> None:
        self.record = record
        self.settings = settings
        self.means = means
        self._keeps_tags = keeps_tags

    def allows(self, image: str) -> bool:
        """Whether the settings let this image be pulled through, whether or not the upstream is asked."""
        name = naming.upstream_name(self.settings.urls, image)
        return naming.allows(name, include=self.settings.include, exclude=self.settings.exclude)

    def may_ask(self, image: str) -> bool:
        """Whether the settings let the upstream be asked about this image at all."""
        return not self.settings.is_offline and self.allows(image)

    async def upstream(self) -> UpstreamRegistry:
        """What the settings name, ready to be asked."""
        return await self.means.upstreams.of(self.record)

    # --- asking once ------------------------------------------------------------------------------------------------

    def key(self, kind: str, image: str, what: object) -> Hashable:
        """Under which things of this repository are remembered and shared: with its settings, so that they end both.

        Other credentials make other settings, too (`furnishing`). The row is as this request found it, so what was
        asked with the old ones is noted for nobody who comes later, in any process.
        """
        settings = hashlib.blake2b(self.record.settings.encode(), digest_size=16).digest()  # they may be 60 KiB
        return kind, self.record.id, settings, image, str(what)

    def is_unknown(self, image: str, what: object) -> bool:
        """Whether the upstream has said so a moment ago."""
        said = self.means.unknown.find(self.key("unknown", image, what))
        return said is not None and said.age_s < self.settings.negative_ttl_s

    def _is_denied(self, image: str, tag: Tag) -> bool:
        """Whether the upstream has kept a tag from us a moment ago that was never here."""
        said = self.means.unknown.find(self.key("denied", image, tag))
        return said is not None and said.age_s < self.settings.negative_ttl_s

    def note_unknown(self, image: str, what: object) -> None:
        """Remember that the upstream does not have it, or not for us."""
        self.means.unknown.put(self.key("unknown", image, what), None)

    async def ask(self, image: str, what: object, question: Callable[[], Awaitable[T]]) -> T | None:
        """The answer to a question, asked once for all who ask it; None: unknown, which is remembered for a while.

        `what` has to tell apart what has different answers: a digest alone is that of a manifest.
        """
        if self.is_unknown(image, what):
            return None

        async def work() -> T | None:
            try:
                return await question()
            except (UpstreamUnknown, UpstreamDenied):
                self.note_unknown(image, what)
                return None

        return await self.means.turns.share(self.key("ask", image, what), work, whose=self.record.id)

    # --- manifests --------------------------------------------------------------------------------------------------

    async def copy(self, image: str, reference: Reference) -> Copy | None:
        """What is here, whether or not it is still believed."""
        return await self.means.database.read(self._find_copy, image, reference)

    async def bring(self, image: str, digest: Digest) -> Document | None:
        """The manifest of this digest, fetched and kept unless it came meanwhile; None: the upstream has none."""
        copy = await self.ask(image, digest, partial(self._fetch, image, digest))
        return copy.document if copy else None

    def begin_check(self, image: str, tag: Tag) -> Flight[Copy | None]:
        """Ask the upstream what the tag is now and keep that, once for all who ask; goes on whoever leaves.

        None: it has none, or none any more and the settings say to drop it then. `UpstreamDenied`: it has one that was
        for us and is not now: what was here is not to be given, and nobody else's is what was meant. It is raised for a
        tag that was never here, too, where the settings say that this upstream denies only what it has.
        """
        if self._is_denied(image, tag):
            raise _denied(image, tag)

        async def work() -> Copy | None:
            known = await self.copy(image, tag)
            try:
                return await self._check(image, tag, known)
            except (UpstreamUnknown, UpstreamDenied) as error:
                return await self._gone(image, tag, known, was_denied=isinstance(error, UpstreamDenied))

        return self.means.turns.begin(self.key("tag", image, tag), work, whose=self.record.id)

    async def _check(self, image: str, tag: Tag, known: Copy | None) -> Copy:
        head = await (await self.upstream()).head(image, tag, etag=known.etag if known else None)
        if isinstance(head, NotModified) and known is not None:
            confirmed = await self.means.database.transaction(self._confirm, image, tag, known)
            return confirmed or await self._check(image, tag, None)  # it was removed meanwhile: from the beginning
        if isinstance(head, NotModified):
            raise UpstreamFailed(f"the upstream of {self.record.full_name} says 304 to a question without a condition")
        if head.digest is None:
            return await self._fetch(image, tag, tag, may_wait=known is not None)
        here = await self.means.database.transaction(self._point_if_here, image, head.digest, tag, head.etag)
        return here or await self._fetch(image, head.digest, tag, etag=head.etag, may_wait=known is not None)

    async def _gone(self, image: str, tag: Tag, known: Copy | None, *, was_denied: bool) -> Copy | None:
        """The upstream does not have it for us: what the settings say becomes of the copy."""
        if known is not None and self.settings.when_deleted == "keep":
            return await self.means.database.transaction(self._confirm, image, tag, known)
        if known is None and was_denied and self.settings.when_denied == "failure":
            self.means.unknown.put(self.key("denied", image, tag), None)
            raise _denied(image, tag)
        self.note_unknown(image, tag)
        if known is not None and was_denied:  # it stays, unread: the right to it may come back
            await self.means.database.transaction(self._forget_check, image, tag)
            raise _denied(image, tag)
        if known is not None:
            await self.means.database.transaction(self._drop, image, tag)
        return None

    async def _fetch(
        self,
        image: str,
        reference: Reference,
        tag: Tag | None = None,
        *,
        etag: str | None = None,
        may_wait: bool = False,
    ) -> Copy:
        """GET it, unless another process does so just now; keep it, and let the tag lead to it.

        `may_wait`: there is something to give meanwhile, so the last counted pulls are left to who has nothing.
        """
        began_at = int(self.means.clock())

        def look(tx: Transaction) -> Copy | None:
            copy = self._find_copy(tx, image, reference)
            is_new = copy is not None and copy.checked_at is not None and copy.checked_at >= began_at
            return copy if isinstance(reference, Digest) or is_new else None

        is_stored = False

        async def work() -> Copy:
            nonlocal is_stored
            fetched = await (await self.upstream()).manifest(image, reference, from_reserve=not may_wait)
            copy = await self.means.database.transaction(self._store, image, fetched, tag, fetched.etag or etag)
            is_stored = True
            return copy

        copy = await self.means.turns.alone(f"manifest/{self.record.id}/{image}/{reference}", look, work)
        if is_stored or tag is None:
            return copy
        return await self._point(image, copy.document.digest, tag, etag)

    async def _point(self, image: str, digest: Digest, tag: Tag, etag: str | None) -> Copy:
        """Let the tag lead to a manifest that was here a moment ago."""
        copy = await self.means.database.transaction(self._point_if_here, image, digest, tag, etag)
        if copy is None:
            raise Unavailable(f"manifest {digest} of {image} was removed while it was pulled: retry")
        return copy

    # --- rows -------------------------------------------------------------------------------------------------------

    def _find_copy(self, tx: Transaction, image: str, reference: Reference) -> Copy | None:
        document = rows.read_manifest(tx, self.record.id, image, reference)
        if document is None or document.image_id is None or isinstance(reference, Digest):
            return None if document is None else Copy(document)
        check = upstreams.checked(tx, document.image_id, reference.name)
        return Copy(document) if check is None else Copy(document, check.checked_at, check.etag)

    def _store(self, tx: Transaction, image: str, fetched: FetchedManifest, tag: Tag | None, etag: str | None) -> Copy:
        now = int(self.means.clock())
        target = images.ensure(tx, self.record, image, now=now)
        self._refuse_buried(tx, target.id, fetched.digest)
        manifest = fetched.manifest
        held = blobs.linked_sizes(tx, target.id, rows.digests(rows.blobs_of(manifest)))
        document = Document(fetched.digest, fetched.media_type, fetched.content)
        needs = rows.references(manifest, held)
        manifest_id = rows.store(tx, target, document, manifest, references=needs, by=None, now=now)
        stored = manifests.by_digest(tx, target.id, fetched.digest) or document
        if tag is None:
            return Copy(stored)
        return self._lead(tx, Copy(stored, now, etag), target.id, manifest_id, tag)

    def _point_if_here(self, tx: Transaction, image: str, digest: Digest, tag: Tag, etag: str | None) -> Copy | None:
        target = images.find(tx, self.record.id, image)
        if target is None:
            return None
        found = manifests.find(tx, target.id, digest)
        document = manifests.by_digest(tx, target.id, digest) if found else None
        if found is None or document is None:
            self._refuse_buried(tx, target.id, digest)
            return None
        return self._lead(tx, Copy(document, int(self.means.clock()), etag), target.id, found.id, tag)

    def _confirm(self, tx: Transaction, image: str, tag: Tag, known: Copy) -> Copy | None:
        """Note that the tag is still right; what another process has moved it to since is newer, and stays."""
        copy = self._find_copy(tx, image, tag)
        if copy is None or copy.document.image_id is None or copy.document.digest != known.document.digest:
            return copy
        now = int(self.means.clock())
        upstreams.put_check(tx, copy.document.image_id, tag.name, now, known.etag)
        return Copy(copy.document, now, known.etag)

    def _lead(self, tx: Transaction, copy: Copy, image_id: int, manifest_id: int, tag: Tag) -> Copy:
        """Let the tag lead there, and note when that was true; a tag of the repository's own stays as it is."""
        known = tags.find(tx, image_id, tag.name)
        now = int(self.means.clock())
        if self._keeps_tags:
            if known is None:
                self._refuse_buried(tx, image_id, tag)
                tags.put(tx, image_id, tag.name, manifest_id, by=None, now=now)
            return copy
        if known is None or known.manifest_id != manifest_id:
            tags.put(tx, image_id, tag.name, manifest_id, by=None, now=now)
        upstreams.put_check(tx, image_id, tag.name, now, copy.etag)
        return copy

    def _drop(self, tx: Transaction, image: str, tag: Tag) -> None:
        target = images.find(tx, self.record.id, image)
        if target is not None:
            tags.delete(tx, target.id, tag.name)
            upstreams.forget_check(tx, target.id, tag.name)

    def _forget_check(self, tx: Transaction, image: str, tag: Tag) -> None:
        target = images.find(tx, self.record.id, image)
        if target is not None:
            upstreams.forget_check(tx, target.id, tag.name)

    def _refuse_buried(self, tx: Transaction, image_id: int, reference: Reference) -> None:
        if is_buried(tx, image_id, str(reference)):
            raise UpstreamUnknown(f"manifest {reference} was deleted here, and stays so")


def _denied(image: str, tag: Tag) -> UpstreamDenied:
    return UpstreamDenied(f"{image}:{tag} is not for us, says its registry")


def bury(tx: Transaction, image_id: int, names: Sequence[str], *, now: int) -> None:
    """Note that these tags and digests were deleted from the image for good, whatever the upstream has."""
    for name in names:
        upstreams.put_check(tx, image_id, name, now, BURIED)


def is_buried(tx: Transaction, image_id: int, name: str) -> bool:
    """Whether the tag or digest was deleted here. What was pushed again since is here, and found without asking."""
    check = upstreams.checked(tx, image_id, name)
    return check is not None and check.etag == BURIED
