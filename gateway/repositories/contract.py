"""The contract of a repository. Reading is for all kinds, writing for hosted ones only: a proxy is read-only by type.

Methods raise `RegistryError` with the code the specification gives, and storage's own errors as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from gateway.oci.manifest import Manifest
from gateway.oci.names import Tag
from storage import (
    BlobReader,
    Digest,
    Document,
    FoundBlob,
    ManifestRecord,
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

    async def manifest(self, image: str, reference: Tag | Digest) -> Document:
        """The exact bytes; MANIFEST_UNKNOWN."""
        ...

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob:
        """The blob, if this image may read it; BLOB_UNKNOWN whether or not another image has it."""
        ...

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """A span of it, open for reading."""
        ...

    async def tags(self, image: str, *, after: str, limit: int) -> list[str]:
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
        build: Callable[[Iterator[ManifestRecord]], T],
    ) -> T:
        """What `build` makes of the manifests with this subject, up to `limit`, by digest beyond `after`.

        There are none for unknown subjects and images (row RF-04). `build` is called once, in a thread, and the rows
        are read as it takes them: it bounds what is read (RF-10), must not wait and must not keep the iterator.
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
