"""The contract of a repository. Reading is for all kinds, writing for hosted ones only: a proxy is read-only by type.

Methods raise `RegistryError` with the code the specification gives; storage's own errors and those of upstreams
(`gateway.upstream.errors`) come out as they are. Trouble is never "unknown", and nothing here answers by digest alone:
what is given was pushed to this repository, came from its own upstream, or may be read where the caller may read.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from gateway.oci.manifest import Manifest
from gateway.oci.names import Tag
from gateway.oci.referrers import Referrer
from storage import (
    BlobReader,
    Digest,
    Document,
    FoundBlob,
    RepositoryRecord,
    Span,
    TagRecord,
    Transaction,
)

T = TypeVar("T")

AdmitTag = Callable[[TagRecord | None, str], None]
"""Decides inside the writing transaction whether a tag may be made or moved; raises `RegistryError`."""
AdmitDelete = Callable[[Sequence[str], Digest], None]
"""Decides whether these tags of a manifest may go; raises `RegistryError`."""


Confirm = Callable[[Transaction], None]
"""Looks at the caller's right once more, inside the writing transaction; raises `RegistryError`."""


class Caller(Protocol):
    """Who asks, as far as repositories must know: what the account itself may do elsewhere, computed from rows.

    The entries of a registry token name the door that was used and say nothing of other repositories, so they do not
    count here; the limits of the credential do.
    """

    def may_pull(self, tx: Transaction, repository: RepositoryRecord) -> bool:
        """Whether the caller may read all of that repository, in this snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest, and how long and why it may be believed.

    `fresh_until`: from this Unix second on the answer may be another without any row having changed; None: rows tell.
    `warning`: why this may be out of date, for a `Warning` field, and `age_s` since it was last known to be right; such
    an answer is not to be remembered. `depends_on_rows` False: it hangs on more than the rows of the image that the
    document was found in, so it is not to be remembered either.
    """

    document: Document
    fresh_until: float | None = None
    age_s: int | None = None
    warning: str | None = None
    depends_on_rows: bool = True


@dataclass(frozen=True, slots=True)
class ArrivingBlob:
    """A blob that is not here yet: whoever opens it reads it as it comes in, verified before its last bytes are given.

    `open` starts or joins the fetch; nothing is asked of the upstream before. It raises, before anything was given,
    what the fetch failed with: `UpstreamError` or `StorageError`.
    """

    digest: Digest
    size_bytes: int
    open: Callable[[Span], AbstractAsyncContextManager[BlobReader]]


@dataclass(frozen=True, slots=True)
class TagPage:
    """Tags in bytewise order; `warning` and `age_s` as in `FoundManifest`."""

    names: Sequence[str]
    warning: str | None = None
    age_s: int | None = None


@dataclass(frozen=True, slots=True)
class ReferrersPage(Generic[T]):
    """What was built of referrers; `warning` and `age_s` as in `FoundManifest`."""

    built: T
    warning: str | None = None
    age_s: int | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """A manifest on its way in: its bytes, what they say, the tags to point at it, and who pushes."""

    document: Document
    manifest: Manifest
    tags: tuple[str, ...]
    by: int | None


class Repository(Protocol):
    """Reading. `image` is the name inside the repository."""

    @property
    def record(self) -> RepositoryRecord:
        """The row that this repository is."""
        ...

    async def manifest(self, image: str, reference: Tag | Digest) -> FoundManifest:
        """The exact bytes; MANIFEST_UNKNOWN."""
        ...

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob | ArrivingBlob:
        """The blob, if this image may read it; BLOB_UNKNOWN whether or not another image has it.

        Fetches nothing: what an upstream has and this place has not is `ArrivingBlob`.
        """
        ...

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """A span of it, open for reading."""
        ...

    async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
        """Up to `limit` tags in bytewise order beyond `after`; NAME_UNKNOWN if nothing was ever pushed there."""
        ...

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
        """What `build` makes of the manifests with this subject, up to `limit`, by digest beyond `after`.

        There are none for unknown subjects and images (row RF-04). `build` is called once, perhaps in a thread, and
        rows are read as it takes them: it bounds what is read (RF-10), must not wait and must not keep the iterator.
        """
        ...


@runtime_checkable
class WritableRepository(Repository, Protocol):
    """Reading and writing."""

    async def put_manifest(self, image: str, push: Push, *, admit: AdmitTag, confirm: Confirm | None = None) -> None:
        """Store a manifest and point its tags at it, all or nothing; MANIFEST_BLOB_UNKNOWN, SIZE_INVALID, DENIED.

        `confirm` is called first in the same transaction, `admit` for each tag after it.
        """
        ...

    async def delete_tag(self, image: str, tag: Tag, *, admit: AdmitDelete) -> None:
        """Remove one tag and nothing else; MANIFEST_UNKNOWN, DENIED."""
        ...

    async def delete_manifest(self, image: str, digest: Digest, *, admit: AdmitDelete) -> None:
        """Remove a manifest and all its tags at once; MANIFEST_UNKNOWN, DENIED. It can be restored for a while."""
        ...

    async def delete_blob(self, image: str, digest: Digest) -> None:
        """Take the image's link to a blob away; BLOB_UNKNOWN. The bytes stay while anything needs them."""
        ...

    async def share_blob(self, image: str, digest: Digest) -> FoundBlob | None:
        """Link a blob that is stored already, if the caller may read a repository that has it; else None.

        For callers who were admitted to write to this repository, who then need not send the bytes.
        """
        ...


OpenRepository = Callable[[RepositoryRecord, Caller], Repository]
"""From a row to what serves it, for one caller. Cheap: once per request."""
