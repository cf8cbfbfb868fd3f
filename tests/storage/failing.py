"""A store and a database that do what real ones do, and fail at the very point that a test chose.

Every call passes two points: one before anything has happened, one after it has happened but before the caller learns
of it, as when a connection breaks under an answer. `Faults` counts them, so that a test can fail each in turn.
The store passes the contract suite while nothing is armed (`test_failing.py`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from storage import (
    BlobReader,
    BlobStore,
    Database,
    Digest,
    Hasher,
    Properties,
    Span,
    Staging,
    StorageError,
    StoredObject,
)

T = TypeVar("T")


class Faults:
    """Which points were passed, and which one fails: only that one, once."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self._fuse: int | None = None
        self._error: StorageError | None = None
        self.failed_at: str | None = None

    def arm(self, points: int, error: StorageError) -> None:
        """Let `points` more points pass and fail the next one with `error`."""
        self._fuse, self._error, self.failed_at = points, error, None
        self.passed.clear()

    def disarm(self) -> None:
        """Fail no more."""
        self._fuse = None

    def point(self, name: str) -> None:
        """Pass a point, or fail there."""
        self.passed.append(name)
        if self._fuse is None or self._error is None:
            return
        if self._fuse == 0:
            self._fuse, self.failed_at = None, name
            raise self._error
        self._fuse -= 1

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """One call between its two points."""
        self.point(f"before {name}")
        result = await call()
        self.point(f"after {name}")
        return result


class FailingStore:
    """See `storage.blobstore.BlobStore`."""

    def __init__(self, inner: BlobStore, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    @property
    def properties(self) -> Properties:
        """The inner store's."""
        return self._inner.properties

    @asynccontextmanager
    async def stage(self, staging_id: str, *, create: bool) -> AsyncIterator[Staging]:
        """A staging area whose calls may fail too."""
        self._faults.point("before stage")
        async with self._inner.stage(staging_id, create=create) as staging:
            self._faults.point("after stage")
            yield FailingStaging(staging, self._faults)

    async def drop_staging(self, staging_id: str) -> str | None:
        """Passed on."""
        return await self._faults.around("drop_staging", lambda: self._inner.drop_staging(staging_id))

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """Passed on."""
        self._faults.point("before open")
        async with self._inner.open(stored, span) as reader:
            self._faults.point("after open")
            yield reader

    async def stat(self, key: str) -> StoredObject:
        """Passed on."""
        return await self._faults.around("stat", lambda: self._inner.stat(key))

    async def remove(self, key: str) -> None:
        """Passed on."""
        await self._faults.around("remove", lambda: self._inner.remove(key))

    async def quarantine(self, key: str) -> None:
        """Passed on."""
        await self._faults.around("quarantine", lambda: self._inner.quarantine(key))

    def scan(self) -> AbstractAsyncContextManager[AsyncIterator[StoredObject]]:
        """Passed on."""
        self._faults.point("before scan")
        return self._inner.scan()

    def scan_staging(self) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, int]]]:
        """Passed on."""
        self._faults.point("before scan_staging")
        return self._inner.scan_staging()


class FailingStaging:
    """See `storage.blobstore.Staging`."""

    def __init__(self, inner: Staging, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    @property
    def staging_id(self) -> str:
        """The inner area's."""
        return self._inner.staging_id

    @property
    def offset(self) -> int:
        """The inner area's."""
        return self._inner.offset

    async def write(self, chunk: bytes | bytearray | memoryview, hasher: Hasher) -> None:
        """All or nothing, so it can only fail before."""
        self._faults.point("before write")
        await self._inner.write(chunk, hasher)

    async def rehash(self, hasher: Hasher) -> None:
        """Passed on."""
        await self._faults.around("rehash", lambda: self._inner.rehash(hasher))

    async def truncate(self, size_bytes: int) -> None:
        """Passed on."""
        await self._faults.around("truncate", lambda: self._inner.truncate(size_bytes))

    async def publish(self, digest: Digest) -> StoredObject:
        """Passed on."""
        return await self._faults.around("publish", lambda: self._inner.publish(digest))

    async def published(self) -> StoredObject | None:
        """Passed on."""
        return await self._faults.around("published", self._inner.published)

    async def discard(self) -> None:
        """Passed on."""
        await self._faults.around("discard", self._inner.discard)


class FailingDatabase(Database):
    """An open database, seen through points: `after transaction` means committed, and nobody knows it."""

    def __init__(self, inner: Database, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    async def read(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Passed on."""
        return await self._faults.around("read", lambda: self._inner.read(work, *args, **kwargs))

    async def survey(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Passed on."""
        return await self._faults.around("survey", lambda: self._inner.survey(work, *args, **kwargs))

    async def transaction(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Passed on."""
        return await self._faults.around("transaction", lambda: self._inner.transaction(work, *args, **kwargs))
