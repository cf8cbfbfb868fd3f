"""A store and a database that do what real ones do, and fail at the very point that a test chose.

Every call passes two points: one before anything has happened, one after it has happened but before the caller learns
of it, as when a connection breaks under an answer. `Faults` counts them, so that a test can fail each in turn.
The store passes the contract suite while nothing is armed (`test_failing.py`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from storage import (
    BlobReader,
    BlobStore,
    Changes,
    Content,
    Database,
    Digest,
    Hasher,
    Properties,
    Span,
    Staging,
    StorageError,
    StoredObject,
    UploadRecord,
)
from storage.blobstore import BlockingWriter
from storage.database import DatabaseStatistics
from tests.storage.scene import Scene

T = TypeVar("T")


class Faults:
    """Which points were passed, and which one fails: only that one, once."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed_at: str | None = None
        self._is_due: Callable[[str], bool] | None = None
        self._error: StorageError = StorageError("nothing is armed")

    def arm(self, points: int, error: StorageError) -> None:
        """Let `points` more points pass and fail the next one with `error`."""
        self._arm(lambda _: len(self.passed) > points, error)

    def arm_at(self, name: str, error: StorageError) -> None:
        """Fail the next point of this name with `error`."""
        self._arm(lambda point: point == name, error)

    def _arm(self, is_due: Callable[[str], bool], error: StorageError) -> None:
        self.passed.clear()
        self.failed_at, self._is_due, self._error = None, is_due, error

    def disarm(self) -> None:
        """Fail no more."""
        self._is_due = None

    def point(self, name: str) -> None:
        """Pass a point, or fail there."""
        self.passed.append(name)
        if self._is_due is not None and self._is_due(name):
            self._is_due, self.failed_at = None, name
            raise self._error

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

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """Passed on."""
        self._faults.point("before open")
        async with self._inner.open(stored, span) as reader:
            self._faults.point("after open")
            yield reader

    async def adopt(self, path: Path, digest: Digest, size_bytes: int, *, staging_id: str) -> StoredObject:
        """Passed on."""
        return await self._faults.around(
            "adopt", lambda: self._inner.adopt(path, digest, size_bytes, staging_id=staging_id)
        )

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


class FailingWriter:
    """See `storage.blobstore.BlockingWriter`."""

    def __init__(self, inner: BlockingWriter, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    @property
    def is_full(self) -> bool:
        """The inner writer's."""
        return self._inner.is_full

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """All or nothing, so it can only fail before."""
        self._faults.point("before write")
        self._inner.write(parts)

    async def room(self) -> None:
        """Passed on."""
        await self._faults.around("room", self._inner.room)


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

    async def writer(self, hasher: Hasher) -> BlockingWriter | None:
        """Its writes fail at the same point as the others."""
        await trio.lowlevel.checkpoint()
        inner = await self._inner.writer(hasher)
        return None if inner is None else FailingWriter(inner, self._faults)

    def hasher(self) -> Hasher | None:
        """The inner area's."""
        return self._inner.hasher()

    async def settle(self, hasher: Hasher | None) -> None:
        """Passed on."""
        await self._faults.around("settle", lambda: self._inner.settle(hasher))

    def verifies(self, digest: Digest, size_bytes: int) -> bool:
        """The inner area's."""
        return self._inner.verifies(digest, size_bytes)

    async def receive(self, digest: Digest, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Passed on."""
        await self._faults.around("receive", lambda: self._inner.receive(digest, size_bytes, chunks))

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

    async def open(self) -> None:
        """Passed on, as all below is: without points."""
        await self._inner.open()

    async def aclose(self) -> None:
        """Passed on."""
        await self._inner.aclose()

    def changes(self) -> Changes:
        """The inner database's."""
        return self._inner.changes()

    async def migrate(self) -> None:
        """Passed on."""
        await self._inner.migrate()

    async def head(self) -> str:
        """Passed on."""
        return await self._inner.head()

    async def check(self) -> None:
        """Passed on."""
        await self._inner.check()

    def statistics(self) -> DatabaseStatistics:
        """The inner database's."""
        return self._inner.statistics()


class InterruptedDatabase(FailingDatabase):
    """A database on which something else happens just before one of its transactions, after what led to it was read."""

    def __init__(self, inner: Database, action: Callable[[], Awaitable[object]], *, before: int = 0) -> None:
        """`before`: how many transactions come first."""
        super().__init__(inner, Faults())
        self._action = action
        self._before = before
        self.is_done = False

    async def transaction(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Passed on, after the action if it is its turn."""
        if self._before == 0 and not self.is_done:
            self.is_done = True
            await self._action()
        self._before -= 1
        return await super().transaction(work, *args, **kwargs)


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when its task has run so many steps: at each of its checkpoints in turn."""

    def __init__(self, scope: trio.CancelScope, *, steps: int) -> None:
        self._scope = scope
        self._task = trio.lowlevel.current_task()
        self._left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """One more step."""
        if task is self._task:
            if self._left == 0:
                self._scope.cancel()
            self._left -= 1


async def cancelled_at(steps: int, call: Callable[[], Awaitable[object]]) -> bool:
    """Run the call and cancel it after so many steps; whether it was cancelled before it had ended."""
    with trio.CancelScope() as scope:
        await trio.lowlevel.checkpoint()
        instrument = CancelAtStep(scope, steps=steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancel_called


async def publish_only(scene: Scene, data: bytes) -> UploadRecord:
    """A session whose process died after its bytes were published and before they had a row."""
    record = await scene.begin()
    async with scene.content.resume(record) as upload:
        if data:
            await upload.append(data)
        await upload.staging.publish(Digest.of(data))
    return record


async def commit(worker: Content, scene: Scene, record: UploadRecord, data: bytes) -> None:
    """A closing PUT, with the bytes that are not there yet."""
    async with worker.resume(record) as upload:
        if upload.offset < len(data):
            await upload.append(data[upload.offset :])
        await worker.commit(upload, Digest.of(data), repository=scene.repository)
