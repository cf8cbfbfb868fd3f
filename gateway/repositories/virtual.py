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
from gateway.oci.names import Tag
from gateway.oci.referrers import Referrer
from gateway.repositories.contract import (
    ArrivingBlob,
    Caller,
    FoundManifest,
    OpenRepository,
    Repository,
    TagPage,
)
from gateway.repositories.routing import Place, sources
from gateway.repositories.virtual_settings import virtual_of
from gateway.upstream.errors import UpstreamBusy, UpstreamError
from gateway.upstream.settings import upstream_of
from storage import (
    BlobReader,
    Content,
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
        content: Content,
        open_repository: OpenRepository,
    ) -> None:
        self._record = record
        self._caller = caller
        self._database = database
        self._content = content
        self._open_repository = open_repository
        self._stops = virtual_of(record.settings).on_member_failure == "stop"

    @property
    def record(self) -> RepositoryRecord:
        """The row that this repository is."""
        return self._record

    async def manifest(self, image: str, reference: Tag | Digest) -> FoundManifest:
        """See `contract.Repository.manifest`. A tag's answer hangs on all members before the one that has it."""
        if isinstance(reference, Tag):
            places = await self._places(image)
            found = await self._first(places, lambda each, inside: each.manifest(inside, reference), stops=self._stops)
            if found is not None:
                return replace(found[1], depends_on_rows=False, found_in=found[0])
        else:
            places, here = await self._database.read(self._look_for_manifest, image, reference)
            if here is not None:
                return here
            found = await self._first(places, lambda each, inside: each.manifest(inside, reference), stops=False)
            if found is not None:
                return replace(found[1], found_in=found[0])
        raise manifest_unknown(image, str(reference))

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob | ArrivingBlob:
        """See `contract.Repository.find_blob`."""
        places, image_id = await self._database.read(self._look_for_blob, image, digest)
        if image_id is not None:
            return await self._content.find(image_id, digest)
        found = await self._first(places, lambda each, inside: each.find_blob(inside, digest), stops=False)
        if found is None:
            raise blob_unknown(digest)
        return found[1]

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """See `contract.Repository.open_blob`."""
        return self._content.open(found, span)

    async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
        """See `contract.Repository.tags`: those of all members, each once."""
        pages, is_whole = await self._each(image, lambda each, inside: each.tags(inside, after=after, limit=limit))
        if not pages and is_whole:
            raise name_unknown(image)
        warning = next((page.warning for page in pages if page.warning is not None), None)
        return TagPage(
            list(islice(_unique(merge(*(page.names for page in pages))), limit)),
            warning if is_whole else _INCOMPLETE,
            max((page.age_s for page in pages if page.age_s is not None), default=None),
        )

    async def referrers(
        self,
        image: str,
        subject: Digest,
        *,
        artifact_type: str | None,
        after: str,
        limit: int,
        build: Callable[[Iterator[Referrer]], T],
    ) -> T:
        """See `contract.Repository.referrers`: those in all members, each once."""

        def ask(each: Repository, inside: str) -> Awaitable[list[Referrer]]:
            return each.referrers(inside, subject, artifact_type=artifact_type, after=after, limit=limit, build=list)

        listed, _ = await self._each(image, ask)
        merged = merge(*listed, key=lambda referrer: str(referrer.digest))
        first = list(islice(_unique(merged, key=lambda referrer: referrer.digest), limit))
        return await self._database.survey(lambda _: build(iter(first)))  # a long page takes its time: not on the loop

    # --- which members, and what they say -------------------------------------------------------------------------

    async def _places(self, image: str) -> list[Place]:
        return await self._database.read(sources, self._record, image, self._caller.may_pull)

    def _look_for_manifest(
        self, tx: Transaction, image: str, digest: Digest
    ) -> tuple[list[Place], FoundManifest | None]:
        """The members to ask, or else the manifest that one of them has."""
        places = sources(tx, self._record, image, self._caller.may_pull)
        for place in places:
            held = images.find(tx, place.record.id, place.image)
            document = manifests.by_digest(tx, held.id, digest) if held else None
            if document is not None:
                return places, FoundManifest(document, found_in=place)
        return _further(places), None

    def _look_for_blob(self, tx: Transaction, image: str, digest: Digest) -> tuple[list[Place], int | None]:
        """The members to ask, or else the id of the image in one of them that links the blob."""
        places = sources(tx, self._record, image, self._caller.may_pull)
        for place in places:
            held = images.find(tx, place.record.id, place.image)
            if held is not None and blobs.linked(tx, held.id, digest) is not None:
                return places, held.id
        return _further(places), None

    async def _first(self, places: Sequence[Place], ask: Ask[T], *, stops: bool) -> tuple[Place, T] | None:
        """What the first member that knows it says; None if none does and all could be asked.

        Where trouble does not stop the search, it matters only if nobody has it.
        """
        trouble: Exception | None = None
        for place in places:
            try:
                return place, await ask(self._open_repository(place.record, self._caller), place.image)
            except (RegistryError, StorageError, UpstreamError) as error:
                if _is_unknown(error):
                    continue
                if stops or not _is_trouble(error):
                    _tell(error)
                self._warn(place, error)
                trouble = trouble or error
        if trouble is not None:
            _tell(trouble)
        return None

    async def _each(self, image: str, ask: Ask[T]) -> tuple[list[T], bool]:
        """What each member that knows the image says, and whether all could be asked."""
        said, is_whole = [], True
        for place in await self._places(image):
            try:
                said.append(await ask(self._open_repository(place.record, self._caller), place.image))
            except (RegistryError, StorageError, UpstreamError) as error:
                if _is_unknown(error):
                    continue
                if self._stops or not _is_trouble(error):
                    _tell(error)
                self._warn(place, error)
                is_whole = False
        return said, is_whole

    def _warn(self, place: Place, error: Exception) -> None:
        _log.warning(
            "member_skipped",
            repository=self._record.full_name,
            member=place.record.full_name,
            error=str(error),
        )


def _further(places: Iterable[Place]) -> list[Place]:
    """Those that may have more than their rows say."""
    return [
        place
        for place in places
        if place.record.repository_type != "hosted" or upstream_of(place.record.settings) is not None
    ]


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, RegistryError) and error.code in _UNKNOWN


def _is_trouble(error: Exception) -> bool:
    return not isinstance(error, RegistryError) or error.status >= _TROUBLE_FROM


def _tell(error: Exception) -> NoReturn:
    """Raise what the caller is told of a member's trouble: 503, but for what is said of it elsewhere already."""
    if isinstance(error, UpstreamError) and not isinstance(error, UpstreamBusy):
        raise unavailable(_INCOMPLETE, error.retry_after_s or _RETRY_AFTER_S) from error
    raise error


def _unique(ordered: Iterable[T], *, key: Callable[[T], object] = lambda value: value) -> Iterator[T]:
    """Each of what is in order once."""
    before: object = None
    for value in ordered:
        if (this := key(value)) != before:
            yield value
        before = this
