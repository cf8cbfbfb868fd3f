"""The contract of a blob store: where bytes lie. Implementations: `filesystem`, `memory` (and S3 later).

A store keeps *objects* under *keys that it makes itself*. One publish makes one key, and a key is never reused:
so removing a key can never hit bytes that somebody else published a moment ago, and garbage collection needs no
lock shared with pushes. Which key serves which digest is a row in the database (`storage.content`); the key also
contains the digest, so that the rows can be rebuilt from the store alone.

The caller has hashed the bytes; a store only keeps them and gives them back. It knows no repositories.
All implementations pass `tests/storage/blobstore_contract.py`. Differences between stores are data (`Properties`).
Every method may raise `Unavailable` or `StorageFull` (retry may help) besides what it names.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from storage.digest import Digest, Hasher

CHUNK_BYTES: Final = 256 * 1024
"""The most that a reader gives at once, and so the most that a slow client makes it hold."""

_STAGING_ID: Final = re.compile(r"[0-9a-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` (inclusive) to `stop` (exclusive) of a blob; 0 ≤ start ≤ stop ≤ size_bytes."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """The number of bytes."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What lies under one key. `size_bytes` is the blob's, `stored_bytes` what it takes at rest.

    `encoding` is `identity` or `zstd` (seekable, see `storage.seekable`). `digest` is always sha256 of the blob.
    """

    key: str
    digest: Digest
    size_bytes: int
    stored_bytes: int
    encoding: str
    created_at: int


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A readable descriptor whose bytes [start, stop) are the asked span of the blob, for sendfile."""

    descriptor: int
    start: int
    stop: int


class BlobReader(Protocol):
    """One open object, one span. Closed by the context manager that gave it."""

    @property
    def file(self) -> OpenFile | None:
        """For stores whose bytes lie in a file as they are; valid until the reader is closed. Else None."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The span, in order, in chunks of 1 byte to 256 KiB; call once.

        Raises `Damaged` when the store holds fewer bytes than the object's size: the caller must then abort
        what it was sending, never end it cleanly.
        """
        ...


@dataclass(frozen=True, slots=True)
class Properties:
    """What callers may rely on.

    `has_files`: readers always offer `file` for identity objects, else they may. `durable_staging`: what `settle` laid
    down is there for every machine and after every crash, and the area keeps its own running digest
    (`Staging.hasher`); else staged bytes are certain only within one boot of one machine.
    """

    name: str
    has_files: bool
    durable_staging: bool = False


class BlockingWriter(Protocol):
    """The way into a staging area for who is in a thread already, with bytes that lie in a buffer of its own."""

    @property
    def is_full(self) -> bool:
        """Whether `room` has to be awaited before more is written; changes only by `write` and `room`."""
        ...

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Append the parts (up to 1 MiB together) and feed them to the hasher; blocks. Nothing keeps the parts.

        All or nothing, and the same errors, as `Staging.write`. Not beside any other use of the area or the hasher.
        """
        ...

    async def room(self) -> None:
        """On the event loop: wait until a full writer takes more. Waits as long as it takes to make room.

        Raises `Unavailable` when the store does not take what was written before. May be cancelled; then it is full as
        before.
        """
        ...


class Staging(Protocol):
    """Bytes on their way in; nothing is visible before publish. Survives a restart where the store does.

    Held by one holder at a time, over all processes: taking it twice raises `Busy`. A holder that dies lets go. Where
    holds can lapse (an object store, a holder that was cut off), every method raises `Busy` once the hold is lost.
    """

    @property
    def staging_id(self) -> str:
        """The id that the caller made."""
        ...

    @property
    def offset(self) -> int:
        """Number of bytes held."""
        ...

    async def write(self, chunk: bytes | bytearray | memoryview, hasher: Hasher) -> None:
        """Append `chunk` (1 byte to 4 MiB) and feed it to `hasher`, in one turn of one thread.

        All or nothing: on any error, `StorageFull` included, neither offset nor hasher has moved. If cancelled, the
        write finishes first.
        """
        ...

    async def writer(self, hasher: Hasher) -> BlockingWriter | None:
        """A writer that feeds `hasher`; None where bytes cannot be taken in a thread: use `write`.

        Good until `settle`, `truncate`, `publish`, `discard` or the end of the hold: after each, ask for another one.
        """
        ...

    def hasher(self) -> Hasher | None:
        """A hasher of exactly the first `offset` bytes, if the area keeps one (`Properties.durable_staging`)."""
        ...

    async def settle(self, hasher: Hasher | None) -> None:
        """Lay down everything written: when this returns, any holder on any machine finds it, whatever dies.

        `hasher`, if it has seen exactly these bytes, is kept with them where the store keeps one. For who is about to
        acknowledge the bytes. Nothing to do where `durable_staging` is false: those are acknowledged within one boot.
        On an error what was settled before still is, and settling again may help.
        """
        ...

    def verifies(self, digest: Digest, size_bytes: int) -> bool:
        """Whether `receive` may be used now for this digest and length: the store itself compares, so we need not."""
        ...

    async def receive(self, digest: Digest, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Take all bytes of an empty area in one go, checked by the store. Only where `verifies` said so.

        `chunks` give exactly `size_bytes`; their exceptions pass through. Raises `DigestMismatch` when the bytes are
        others. On any error the area is empty as before, and the bytes have to be sent again.
        """
        ...

    async def rehash(self, hasher: Hasher) -> None:
        """Feed the first `offset` bytes to `hasher`, which must be fresh. For resuming and for a second algorithm."""
        ...

    async def truncate(self, size_bytes: int) -> None:
        """Forget bytes beyond `size_bytes` (≤ offset): a chunk that broke its own promise leaves no trace."""
        ...

    async def publish(self, digest: Digest) -> StoredObject:
        """Make the bytes durable under a key of their own and return it; all or nothing.

        `digest` is sha256 of exactly the staged bytes. When it returns, the object survives power loss. The staging
        area stays until `discard`, so publishing again gives the same key: an interrupted commit can be repeated.
        Nothing that is done to the area afterwards changes the object.
        """
        ...

    async def published(self) -> StoredObject | None:
        """The object that was last published from this area, if it is there; also after a restart.

        For who ends a session: what a crash left between publish and its row is found here. None after `discard`.
        """
        ...

    async def discard(self) -> None:
        """Drop the staged bytes; safe at any time, twice, and after publish (the object stays)."""
        ...


class BlobStore(Protocol):
    """See the module docstring. All methods may be called at any time by any task."""

    @property
    def properties(self) -> Properties:
        """What this store can do; the same for its whole life."""
        ...

    def stage(self, staging_id: str, *, create: bool) -> AbstractAsyncContextManager[Staging]:
        """Hold a staging area with all its bytes; with `create`, a new empty one if there is none.

        `staging_id`: 1 to 64 of [0-9a-z-], made by the caller, never used again. Raises `UploadUnknown` if there is
        none and `create` is false, `Busy` if it is held. Leaving the context lets go and keeps the bytes.
        """
        ...

    async def adopt(self, path: Path, digest: Digest, size_bytes: int, *, staging_id: str) -> StoredObject:
        """Make a whole local file an object, durable when this returns, without writing its bytes again if possible.

        `digest` is sha256 of exactly its bytes, as the caller has found. As if they had been staged as `staging_id`,
        which is new, and published: that area is left, empty or not, for the caller to discard once a row has the
        object; so what a crash leaves is found by it. The file is only read, or becomes the object under a second name:
        it is read-only then and must never be written again. Raises `Damaged` if it has another size. If its bytes
        cannot be brought to the disk, it loses its name, as nobody knows what it holds.
        """
        ...

    def open(self, stored: StoredObject, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """Open a span for reading. Raises `BlobUnknown` if the key is gone, `Damaged` if its size is wrong.

        A span outside of the blob is the caller's mistake: ValueError.

        A reader that is open when the key is removed still reads to its end (filesystem, memory) or raises.
        """
        ...

    async def stat(self, key: str) -> StoredObject:
        """Look at one key; raises `BlobUnknown`, or `Damaged` where the size cannot be told."""
        ...

    async def remove(self, key: str) -> None:
        """Remove the object; absent is fine. Durable when it returns."""
        ...

    async def quarantine(self, key: str) -> None:
        """Put a damaged object aside, out of reach of readers and of `scan`, but keep its bytes for the operator.

        Raises `BlobUnknown`; repeating it is fine.
        """
        ...

    def scan(self) -> AbstractAsyncContextManager[AsyncIterator[StoredObject]]:
        """All objects in any order, one at a time; those made or removed meanwhile may be missed.

        Listed is not healthy: an object whose size cannot be told has `size_bytes` 0, and only reading finds the rest.
        """
        ...

    def scan_staging(self) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, int]]]:
        """All staging areas as (staging_id, last change in Unix seconds), for finding abandoned ones."""
        ...


def check_staging_id(staging_id: str) -> str:
    """Give back a well-formed id; ValueError for any other, which is a mistake of the caller and touches nothing."""
    if not _STAGING_ID.fullmatch(staging_id):
        raise ValueError(f"malformed staging id {staging_id[:80]!r}: expected 1 to 64 of [0-9a-z-]")
    return staging_id


def check_span(span: Span, *, size_bytes: int) -> None:
    """ValueError for a span that lies outside of the blob."""
    if not 0 <= span.start <= span.stop <= size_bytes:
        raise ValueError(f"span {span.start}-{span.stop} lies outside of {size_bytes} bytes")
