"""One bucket below one prefix: objects and multipart uploads by key, with retries, in the words of `storage.errors`.

Two planes lie below: `s3_control` (boto3, in threads) for what is rare and small, `storage.transfer` for bytes. Knows
nothing of blobs, digests of blobs, staging areas or rows: keys are text, relative to the prefix (`s3_keys`).

Every call may raise `Unavailable` (the store did not answer as it should, after bounded retries; or it refuses us, which
the message says) and `StorageFull` (quota) besides what it names.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from storage.blobstore import Span
from storage.blocking import Pool
from storage.s3_abilities import Abilities
from storage.s3_settings import S3Settings
from storage.transfer.payload import Payload


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as HEAD or a listing tells of it; `etag` without quotes, `modified_at` in Unix seconds."""

    key: str
    size_bytes: int
    etag: str
    modified_at: int


class Download:
    """The answer to a GET, being read."""

    size_bytes: int
    """How many bytes come."""
    total_bytes: int
    """How many bytes the object has."""
    etag: str

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order, 1 byte to 256 KiB at a time; call once.

        `Unavailable` when the connection breaks, ends early or falls silent: ask for the rest anew.
        """
        raise NotImplementedError


class Bucket:
    """See the module docstring. For any number of tasks of one event loop; `open` before anything else."""

    def __init__(self, settings: S3Settings, *, pool: Pool) -> None:
        self.settings = settings
        self._pool = pool
        self.abilities = Abilities()

    async def open(self) -> None:
        """Find credentials, reach the bucket, learn its abilities (writes and removes small objects below `probe/`)."""

    async def aclose(self) -> None:
        """Close idle connections; calls in flight end as if the connection broke."""

    async def put(self, key: str, payload: Payload, *, sha256: str | None = None, if_absent: bool = False) -> str:
        """Write one whole object (≤ 5 GiB) and give its ETag (without quotes); sent again after trouble if it can be.

        With `sha256` (hex) the signature carries the digest: where `abilities.verifies_sha256`, other bytes raise
        `DigestMismatch` and nothing is stored. With `if_absent` an existing object raises `Conflict`; only where
        `abilities.conditional_put`, elsewhere it is overwritten. A `Stream` is sent once: `Unavailable` then means
        that its bytes are gone, and the caller's own exception from the stream passes through.
        """
        raise NotImplementedError

    def get(self, key: str, span: Span | None = None) -> AbstractAsyncContextManager[Download]:
        """Read an object or a span of it (not an empty one). Raises `BlobUnknown`.

        `Damaged` if the object ends before the span begins; one that ends within the span has a shorter `size_bytes`.
        Leaving the context before the end closes the connection at once.
        """
        raise NotImplementedError

    async def head(self, key: str) -> ObjectInfo:
        """Look at an object. Raises `BlobUnknown`."""
        raise NotImplementedError

    async def create(self, key: str) -> str:
        """Begin a multipart upload and give its id; one that was begun and not told of is left for the sweeper."""
        raise NotImplementedError

    async def put_part(self, key: str, upload_id: str, number: int, payload: Payload) -> str:
        """Write part `number` (1 to 10,000; ≥ 5 MiB unless it is the last) and give its ETag. Raises `UploadUnknown`.

        Writing a number again replaces the part.
        """
        raise NotImplementedError

    async def copy_part(self, key: str, upload_id: str, number: int, *, source: str, span: Span) -> str:
        """As `put_part`, with bytes of another object of this bucket. Raises `UploadUnknown` or `BlobUnknown`."""
        raise NotImplementedError

    async def complete(self, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> None:
        """Make the object of the parts (number, ETag; ascending); repeating it is fine.

        Raises `UploadUnknown` when the upload or a part is not there and neither is the object that they would make.
        """
        raise NotImplementedError

    async def abort(self, key: str, upload_id: str) -> bool:
        """Drop an upload and its parts; False if there is no such upload (it was completed or aborted)."""
        raise NotImplementedError

    async def list_parts(self, key: str, upload_id: str) -> list[tuple[int, int, str]]:
        """All parts as (number, size in bytes, ETag), ascending. Raises `UploadUnknown`."""
        raise NotImplementedError

    async def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket, on the store's side, whatever its size. Raises `BlobUnknown`."""
        raise NotImplementedError

    async def delete(self, *keys: str) -> None:
        """Remove objects; absent ones are fine."""
        raise NotImplementedError

    def list(self, prefix: str, after: str = "") -> AsyncIterator[ObjectInfo]:
        """All objects whose keys begin so, ascending, those behind `after` only; read page by page."""
        raise NotImplementedError

    def list_uploads(self, prefix: str) -> AsyncIterator[tuple[str, str, int]]:
        """Unfinished multipart uploads as (key, upload id, begun at in Unix seconds); read page by page."""
        raise NotImplementedError

    async def put_lifecycle(self) -> None:
        """Have the store itself drop abandoned staging after `lifecycle_days`, if it can; other rules stay."""
        raise NotImplementedError

    async def presign(self, key: str, *, expires_s: int, endpoint: str | None = None) -> str:
        """An address that lets whoever has it GET the object for so long; by default at the bucket's own endpoint."""
        raise NotImplementedError
