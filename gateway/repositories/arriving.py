"""Blobs of repositories with an upstream: what is here, what may be shared, and what has to come in.

In this order. A blob that is linked in the image is given. One that a manifest of the image names, or that the upstream
was asked about and has, may be somewhere in the same storage already: it is linked if this repository holds it in
another image, or everybody may read a repository that does. Only then is it fetched, once for all who want it
(`storage.arrivals`), and read as it comes. Looking is not fetching: HEAD gives the size and leaves the bytes where they
are.

What the caller alone may read elsewhere is not linked by a pull: a link is for all readers of this repository, and an
upstream can name any digest and claim to have it. Its owner would get the bytes as soon as somebody with that right
pulls. Who pushes says what they mean to give (`WritableRepository.share_blob`).
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from gateway.oci.errors import RegistryError, blob_unknown
from gateway.repositories.contract import ArrivingBlob
from gateway.repositories.pulling import Pulling
from gateway.upstream.errors import UpstreamDenied, UpstreamError, UpstreamFailed, UpstreamUnknown
from storage import (
    BlobReader,
    BlobUnknown,
    Damaged,
    Digest,
    FoundBlob,
    Place,
    RepositoryRecord,
    Span,
    StorageError,
    Transaction,
)
from storage.metadata import images, manifests


class Arriving:
    """For one repository; as cheap to make as that. `image` is always the name that its rows have."""

    def __init__(self, pulling: Pulling) -> None:
        self._pulling = pulling
        self._means = pulling.means

    async def linked(self, image: str, digest: Digest) -> FoundBlob | None:
        """The blob, if the image holds it."""
        found = await self._means.database.read(images.find, self._pulling.record.id, image)
        if found is None:
            return None
        try:
            return await self._means.content.find(found.id, digest)
        except BlobUnknown:
            return None

    async def find(self, image: str, digest: Digest) -> FoundBlob | ArrivingBlob:
        """A blob that the image does not hold; BLOB_UNKNOWN, `UpstreamError`."""
        size_bytes = await self._means.database.read(self._referred_size, image, digest)
        if size_bytes is None and self._pulling.may_ask(image):
            size_bytes = await self._ask_size(image, digest)
        if size_bytes is None:
            raise blob_unknown(digest)
        shared = await self._means.content.share(
            digest, repository=self._pulling.record, image=image, may_read=_is_public
        )
        if shared is not None:
            return shared
        if not self._pulling.may_ask(image) or self._pulling.is_unknown(image, _as_blob(digest)):
            raise blob_unknown(digest)
        return ArrivingBlob(digest, size_bytes, partial(self._open, image, digest, size_bytes))

    async def fetch(self, image: str, arriving: ArrivingBlob) -> None:
        """Bring it in to the end, so that the image holds it; BLOB_UNKNOWN, `UpstreamError`, `StorageError`."""
        digest, size_bytes = arriving.digest, arriving.size_bytes
        source = (await self._pulling.upstream()).blob(image, digest, size_bytes)
        place = Place(self._pulling.record, image)
        try:
            await self._means.arrivals.fetch(place, digest, size_bytes, source)
        except StorageError as error:
            raise self._reason(error, image, digest) from error

    @asynccontextmanager
    async def open_found(self, found: FoundBlob, span: Span) -> AsyncIterator[BlobReader]:
        """A span of a blob that is here. If its store has lost it, it comes in once more (security row P8)."""
        async with AsyncExitStack() as stack:
            try:
                reader = await stack.enter_async_context(self._means.content.open(found, span))
            except (Damaged, BlobUnknown):
                image = await self._means.database.read(images.name_of, found.image_id)
                if image is None or not self._pulling.may_ask(image):
                    raise
                digest = found.record.stored.digest
                reader = await stack.enter_async_context(self._open(image, digest, found.size_bytes, span))
            yield reader

    # --- inside -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _open(self, image: str, digest: Digest, size_bytes: int, span: Span) -> AsyncIterator[BlobReader]:
        source = (await self._pulling.upstream()).blob(image, digest, size_bytes)
        place = Place(self._pulling.record, image)
        async with AsyncExitStack() as stack:
            try:
                opened = self._means.arrivals.open(place, digest, size_bytes, source, span)
                reader = await stack.enter_async_context(opened)
            except StorageError as error:
                raise self._reason(error, image, digest) from error
            yield reader

    async def _ask_size(self, image: str, digest: Digest) -> int | None:
        upstream = await self._pulling.upstream()
        return await self._pulling.ask(image, _as_blob(digest), partial(upstream.blob_size, image, digest))

    def _referred_size(self, tx: Transaction, image: str, digest: Digest) -> int | None:
        found = images.find(tx, self._pulling.record.id, image)
        return manifests.referred_size(tx, found.id, digest) if found else None

    def _reason(self, error: StorageError, image: str, digest: Digest) -> RegistryError | UpstreamError | StorageError:
        """What the upstream said, if that is why a blob did not come: its client is told that, not our words for it."""
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, UpstreamError):
            reason = reason.__cause__
        match reason:
            case UpstreamUnknown() | UpstreamDenied():
                self._pulling.note_unknown(image, _as_blob(digest))
                return blob_unknown(digest)
            case UpstreamError():
                return type(reason)(*reason.args, retry_after_s=reason.retry_after_s)
            case _ if isinstance(error, Damaged) and not isinstance(error.__cause__, BlobUnknown):
                return UpstreamFailed(str(error))  # its bytes are wrong; ours are, if the store lost what it had
            case _:
                return error


def _as_blob(digest: Digest) -> str:
    """What is asked about: that a registry has no manifest of a digest says nothing of a blob, nor the other way."""
    return f"blobs/{digest}"


def _is_public(tx: Transaction, repository: RepositoryRecord) -> bool:  # noqa: ARG001  # as `Content.share` asks
    """Whether everybody may read it."""
    return repository.anonymous_read
