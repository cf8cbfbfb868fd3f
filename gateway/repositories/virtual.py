"""A virtual repository: one name for several repositories, asked in order. It holds nothing itself.

Each member is looked at with the caller's own rights, in the snapshot that reads the members; what the caller may not
read is not looked at (security row A18). The first that has a tag gives it. A member that cannot answer ends the
search, unless the settings say otherwise: what is missing for a moment must not come from somebody else (row P10).
What goes by digest is the same everywhere, so there the others are asked first, and those that have it already before
those that would have to fetch it.

Read-only by type: pushes go to the default member, which the guard finds before anything is opened.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from heapq import merge
from itertools import islice
from typing import Final, NoReturn, TypeVar

from gateway.logs import get_logger
from gateway.oci.errors import Code, RegistryError, blob_unknown, manifest_unknown, name_unknown, unavailable
from gateway.oci.manifest import MAX_BYTES
from gateway.oci.names import Tag
from gateway.oci.referrers import Referrer
from gateway.repositories.contract import (
    ArrivingBlob,
    Caller,
    FoundManifest,
    OpenRepository,
    ReferrersPage,
    Repository,
    TagPage,
)
from gateway.repositories.routing import HOSTED, Place, sources
from gateway.repositories.virtual_settings import virtual_of
from gateway.upstream.errors import UpstreamBusy, UpstreamError
from gateway.upstream.settings import upstream_of
from storage import (
    BlobReader,
    Database,
    Digest,
    FoundBlob,
    RepositoryRecord,
    Span,
    StorageError,
    Transaction,
)
from storage.metadata import blobs, images, manifests

T = TypeVar("T")
Ask = Callable[[Repository, str], Awaitable[T]]
Has = Callable[[Transaction, int, Digest], bool]

_UNKNOWN: Final = frozenset({Code.NAME_UNKNOWN, Code.MANIFEST_UNKNOWN, Code.BLOB_UNKNOWN})
_TROUBLE_FROM: Final = 500
_RETRY_AFTER_S: Final = 5
_INCOMPLETE: Final = "a member of this virtual repository cannot answer"
_log = get_logger(__name__)


class VirtualRepository:
    """See `contract.Repository`. Cheap to make; one per request and caller."""

    def __init__(
        self,
        record: RepositoryRecord,
        caller: Caller,
        *,
        database: Database,
        open_repository: OpenRepository,
    ) -> None:
        self._record = record
        self._caller = caller
        self._database = database
        self._open_repository = open_repository
        self._holders: dict[int, RepositoryRecord] = {}
        self._stops = virtual_of(record.settings).on_member_failure == "stop"

    @property
    def record(self) -> RepositoryRecord:
        """The row that this repository is."""
        return self._record

    async def manifest(self, image: str, reference: Tag | Digest) -> FoundManifest:
        """See `contract.Repository.manifest`. A tag's answer hangs on all members before the one that has it."""
        if isinstance(reference, Tag):
            places = await self._database.read(sources, self._record, image, self._caller.may_pull)
        else:
            places = await self._database.read(self._nearest_first, image, reference, _has_manifest)
        by_tag = isinstance(reference, Tag)
        found = await self._first(
            places, lambda each, inside: each.manifest(inside, reference), stops=by_tag and self._stops
        )
        if found is None:
            raise manifest_unknown(image, str(reference))
        return replace(found[1], depends_on_rows=found[1].depends_on_rows and not by_tag)

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob | ArrivingBlob:
        """See `contract.Repository.find_blob`."""
        places = await self._database.read(self._nearest_first, image, digest, _has_blob)
        found = await self._first(places, lambda each, inside: each.find_blob(inside, digest), stops=False)
        if found is None:
            raise blob_unknown(digest)
        place, blob = found
        if isinstance(blob, FoundBlob):
            self._holders[blob.image_id] = place.record
        return blob

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """See `contract.Repository.open_blob`; `found` is from this very object, and its member opens it."""
        return self._open_repository(self._holders[found.image_id], self._caller).open_blob(found, span)

    async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
        """See `contract.Repository.tags`: those of all members, each once."""
        pages, is_whole = await self._each(image, lambda each, inside: each.tags(inside, after=after, limit=limit))
        if not pages and is_whole:
            raise name_unknown(image)
        names = list(islice(_unique(merge(*(page.names for page in pages))), limit))
        return TagPage(names, *_staleness(pages, is_whole=is_whole))

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
        """See `contract.Repository.referrers`: those in all members, each once."""
        first: list[Referrer] = []

        async def ask(each: Repository, inside: str) -> ReferrersPage[None]:
            nonlocal first
            theirs = await each.referrers(
                inside, subject, artifact_type=artifact_type, after=after, limit=limit, build=_one_page
            )
            merged = merge(first, theirs.built, key=lambda referrer: str(referrer.digest))
            first = _one_page(islice(_unique(merged, key=lambda referrer: referrer.digest), limit))
            return ReferrersPage(None, theirs.warning, theirs.age_s)  # not the page itself: they would add up

        pages, is_whole = await self._each(image, ask)
        built = await self._database.survey(lambda _: build(iter(first)))  # a long page takes its time: not on the loop
        return ReferrersPage(built, *_staleness(pages, is_whole=is_whole))

    # --- which members, and what they say -------------------------------------------------------------------------

    def _nearest_first(self, tx: Transaction, image: str, digest: Digest, has: Has) -> list[Place]:
        """The members to ask for a digest: the first that has it here, then those that might fetch it."""
        places = sources(tx, self._record, image, self._caller.may_pull)
        for place in places:
            held = images.find(tx, place.record.id, place.image)
            if held is not None and has(tx, held.id, digest):
                return [place, *(other for other in places if other is not place and _may_fetch(other))]
        return [place for place in places if _may_fetch(place)]

    async def _first(self, places: Sequence[Place], ask: Ask[T], *, stops: bool) -> tuple[Place, T] | None:
        """What the first member that knows it says; None if none does and all could be asked.

        Where trouble does not stop the search, it matters only if nobody has it.
        """
        trouble: tuple[Place, Exception] | None = None
        for place in places:
            try:
                return place, await ask(self._open_repository(place.record, self._caller), place.image)
            except (RegistryError, StorageError, UpstreamError) as error:
                if _is_unknown(error):
                    continue
                if stops or not _is_trouble(error):
                    self._fail(place, error)
                self._warn("member_skipped", place, error)
                trouble = trouble or (place, error)
        if trouble is not None:
            self._fail(*trouble)
        return None

    async def _each(self, image: str, ask: Ask[T]) -> tuple[list[T], bool]:
        """What each member that knows the image says, and whether all could be asked."""
        said, is_whole = [], True
        for place in await self._database.read(sources, self._record, image, self._caller.may_pull):
            try:
                said.append(await ask(self._open_repository(place.record, self._caller), place.image))
            except (RegistryError, StorageError, UpstreamError) as error:
                if _is_unknown(error):
                    continue
                if self._stops or not _is_trouble(error):
                    self._fail(place, error)
                self._warn("member_skipped", place, error)
                is_whole = False
        return said, is_whole

    def _fail(self, place: Place, error: Exception) -> NoReturn:
        """Raise what the caller is told of a member's trouble: 503, but for what is said of it elsewhere already.

        The caller may read the member, so its name tells them nothing new; what is wrong with it is for the log.
        """
        if isinstance(error, UpstreamError) and not isinstance(error, UpstreamBusy):
            self._warn("member_failed", place, error)
            message = f"{_INCOMPLETE}: {place.record.full_name}"
            raise unavailable(message, error.retry_after_s or _RETRY_AFTER_S) from error
        raise error

    def _warn(self, event: str, place: Place, error: Exception) -> None:
        _log.warning(
            event,
            repository=self._record.full_name,
            member=place.record.full_name,
            error=str(error),
        )


def _has_manifest(tx: Transaction, image_id: int, digest: Digest) -> bool:
    return manifests.find(tx, image_id, digest) is not None


def _has_blob(tx: Transaction, image_id: int, digest: Digest) -> bool:
    return blobs.linked(tx, image_id, digest) is not None


def _may_fetch(place: Place) -> bool:
    """Whether the repository may have more than its rows say."""
    return place.record.repository_type != HOSTED or upstream_of(place.record.settings) is not None


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, RegistryError) and error.code in _UNKNOWN


def _is_trouble(error: Exception) -> bool:
    return not isinstance(error, RegistryError) or error.status >= _TROUBLE_FROM


def _staleness(pages: Sequence[TagPage | ReferrersPage[None]], *, is_whole: bool) -> tuple[str | None, int | None]:
    """The warning and the age of what was merged from these; `is_whole`: all members could be asked."""
    warning = next((page.warning for page in pages if page.warning is not None), None)
    age_s = max((page.age_s for page in pages if page.age_s is not None), default=None)
    return warning if is_whole else _INCOMPLETE, age_s


def _one_page(ordered: Iterable[Referrer]) -> list[Referrer]:
    """The first of them, until they are more than a page can hold: annotations may be as long as manifests.

    A page ends before the last of them then, so that its client is told of the rest.
    """
    taken: list[Referrer] = []
    size = 0
    for each in ordered:
        taken.append(each)
        size += sum(len(name) + len(value) for name, value in each.annotations.items())
        if size > MAX_BYTES and len(taken) > 1:
            break
    return taken


def _unique(ordered: Iterable[T], *, key: Callable[[T], object] = lambda value: value) -> Iterator[T]:
    """Each of what is in order once."""
    before: object = None
    for value in ordered:
        if (this := key(value)) != before:
            yield value
        before = this
