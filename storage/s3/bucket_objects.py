"""What S3 tells of objects, and the two ways to move their bytes as one contract (`DataPlane`).

Keys are whole here (with the prefix). What goes wrong is a `storage.s3.failures.Trouble`, and nothing is repeated.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from storage.blobstore import Span
from storage.transfer.payload import Payload

_CONTENT_RANGE: Final = re.compile(r"bytes (?:\d{1,19}-\d{1,19}|\*)/(\d{1,19})")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as HEAD or a listing tells of it; `etag` without quotes, `modified_at` in Unix seconds."""

    key: str
    size_bytes: int
    etag: str
    modified_at: int


@dataclass(frozen=True, slots=True)
class UploadPart:
    """One part of a multipart upload that does not go on: which upload, and the part's number."""

    upload_id: str
    number: int


class Download:
    """The answer to a GET, being read: `size_bytes` come, out of `total_bytes` that the object has."""

    __slots__ = ("_chunks", "etag", "size_bytes", "total_bytes")

    def __init__(self, chunks: AsyncIterator[bytes], *, size_bytes: int, total_bytes: int, etag: str) -> None:
        self._chunks = chunks
        self.size_bytes = size_bytes
        self.total_bytes = total_bytes
        self.etag = etag

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order, 1 byte to 256 KiB at a time; call once.

        When the connection breaks, ends early or falls silent, what a `Bucket` gave raises `Unavailable`: ask for the
        rest anew. It never ends before `size_bytes` without that.
        """
        return self._chunks


class DataPlane(Protocol):
    """Bytes to and from one bucket. `verifies`: the digest given to `put` reaches the store."""

    verifies: bool

    async def put(
        self,
        key: str,
        payload: Payload,
        *,
        part: UploadPart | None = None,
        sha256: str | None = None,
        if_absent: bool = False,
    ) -> str:
        """Write an object, or a part of one, and give its ETag without quotes."""
        ...

    def get(self, key: str, span: Span | None) -> AbstractAsyncContextManager[Download]:
        """Read an object or a span of it; `chunks` raises `Unreached` too."""
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Look at an object; an absent one is `Refused` with the code NoSuchKey and nothing else is."""
        ...

    async def aclose(self) -> None:
        """Close what is idle."""
        ...


def total_of(content_range: str) -> int | None:
    """The size of the whole object in a Content-Range header; None if it does not say."""
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    return None if match is None else int(match[1])


def range_of(span: Span) -> str:
    """A span (not an empty one) as a Range header (RFC 9110, 14.2)."""
    return f"bytes={span.start}-{span.stop - 1}"


def unquoted(etag: str) -> str:
    """An ETag without its quotes: radosgw 16 compares them so, and all accept it."""
    return etag.strip().strip('"')
