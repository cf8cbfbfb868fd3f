"""Workers over one bucket and one database that die, or are told of a failure, at the very step that a test chose.

A step is anything that somebody else could see: a call of the bucket or a transaction. A dead worker does nothing any
more, whatever its code still tries: neither does it settle nor let go.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from copy import copy
from pathlib import Path
from typing import Any, Final, TypeVar

from storage import Database, Pool, StorageError
from storage.blobstore import Span
from storage.s3.bucket import Bucket
from storage.s3.bucket_objects import Download
from storage.s3.settings import S3Settings
from storage.s3.stagings import LIFETIME_S, Stagings
from storage.s3.store import S3Store
from storage.spool import Spool
from tests.servers.bucket_server import S3Server
from tests.storage.failing import FailingDatabase, Faults
from tests.storage.s3.bucket_place import BucketPlace
from tests.storage.scene import Clock, Scene

T = TypeVar("T")
PART_BYTES: Final = 5 << 20
LAPSE_S: Final = LIFETIME_S + 1


class Died(BaseException):
    """The process is no more."""


class Life(Faults):
    """The steps of one worker. It dies at step `last` or at the first called `name`.

    With `error` it is told of one failure there and lives on.
    """

    def __init__(self, last: int | None = None, *, name: str | None = None, error: StorageError | None = None) -> None:
        super().__init__()
        self._last = last
        self._name = name
        self._failure = error
        self.is_over = False
        self.was_reached = False

    def point(self, name: str) -> None:
        """Live through a step, or not."""
        if self.is_over:
            raise Died
        self.passed.append(name)
        is_last = self._last is not None and len(self.passed) == self._last + 1
        if not self.was_reached and (is_last or name == self._name):
            self.was_reached = True
            self.failed_at = name
            if self._failure is not None:
                raise self._failure
            self.is_over = True
            raise Died


class MortalBucket(Bucket):
    """A bucket whose calls are steps."""

    def __init__(self, settings: S3Settings, life: Life) -> None:
        super().__init__(settings, pool=Pool("s3", 8))
        self.life = life
        self.before: dict[str, Callable[[], Awaitable[object]]] = {}
        """What happens just before the next call of that name, once."""

    async def _step(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if (action := self.before.pop(name, None)) is not None:
            await action()
        return await self.life.around(name, call)

    async def put(self, *args: Any, **kwargs: Any) -> str:
        """A step."""
        return await self._step("put", lambda: super(MortalBucket, self).put(*args, **kwargs))

    async def put_part(self, *args: Any, **kwargs: Any) -> str:
        """A step."""
        return await self._step("put_part", lambda: super(MortalBucket, self).put_part(*args, **kwargs))

    async def copy_part(self, *args: Any, **kwargs: Any) -> str:
        """A step."""
        return await self._step("copy_part", lambda: super(MortalBucket, self).copy_part(*args, **kwargs))

    async def create(self, key: str) -> str:
        """A step."""
        return await self._step("create", lambda: super(MortalBucket, self).create(key))

    async def complete(self, *args: Any, **kwargs: Any) -> None:
        """A step."""
        await self._step("complete", lambda: super(MortalBucket, self).complete(*args, **kwargs))

    async def abort(self, *args: Any, **kwargs: Any) -> bool:
        """A step."""
        return await self._step("abort", lambda: super(MortalBucket, self).abort(*args, **kwargs))

    async def delete(self, *keys: str) -> None:
        """A step."""
        await self._step("delete", lambda: super(MortalBucket, self).delete(*keys))

    @asynccontextmanager
    async def get(self, key: str, span: Span | None = None) -> AsyncIterator[Download]:
        """A step before anything comes."""
        self.life.point("before get")
        async with super().get(key, span) as download:
            yield download


class Workers:
    """Workers of one installation: `store` gives the store of one more process, `clock` is that of all.

    They share connections to the bucket, since opening it is no part of what is tested.
    """

    def __init__(self, server: S3Server, settings: S3Settings, database: Database, folder: Path) -> None:
        self.place = BucketPlace(server, settings, database, folder / "spool")
        self.clock = Clock()
        self._folder = folder
        self._first: MortalBucket | None = None
        self._spools: list[Spool] = []

    async def store(self, life: Life | None = None, *, clock: Clock | None = None) -> S3Store:
        """A store of a new process, which lives as `life` says from when it is ready."""
        own = life or Life()
        bucket = copy(await self._bucket())
        database = self.place.database if life is None else FailingDatabase(self.place.database, own)
        spool = Spool(self._folder / "spool", budget_bytes=128 << 20, pool=Pool("spool", 4))
        await spool.prepare()
        stagings = Stagings(self.place.database, "main", clock=clock or self.clock)
        store = S3Store(bucket, stagings, spool=spool, clock=clock or self.clock)
        await stagings.prepare()
        vars(stagings)["_database"] = database
        bucket.life, bucket.before = own, {}
        self._spools.append(spool)
        return store

    async def _bucket(self) -> MortalBucket:
        if self._first is None:
            self._first = MortalBucket(self.place.settings, Life())
            await self._first.open()
        return self._first

    async def aclose(self) -> None:
        """Close all that was opened, by the dead too."""
        for spool in self._spools:
            spool.close()
        if self._first is not None:
            await self._first.aclose()

    async def scene(self) -> Scene:
        """An installation whose first worker lives."""
        return await Scene(self.place.database, await self.store(), self.clock).prepare()

    async def rows(self) -> list[str]:
        """The ids of all staging areas."""
        store = await self.store()
        async with store.scan_staging() as areas:
            return [staging_id async for staging_id, _ in areas]


@asynccontextmanager
async def workers_in(
    server: S3Server, settings: S3Settings, database: Database, folder: Path
) -> AsyncIterator[Workers]:
    """Workers that last for a test."""
    workers = Workers(server, settings, database, folder)
    try:
        yield workers
    finally:
        await workers.aclose()


async def until_death(call: Callable[[], Awaitable[object]]) -> bool:
    """Run what a worker does; whether it died of it. Errors of storage are what its client is told: not ours here."""
    try:
        await call()
    except StorageError:
        return False
    except BaseException as error:  # noqa: ASYNC103 - the death of a worker, told as a value
        if not _is_death(error):
            raise
        return True  # noqa: ASYNC104 - as above
    return False


def _is_death(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_death, error.exceptions))
    return isinstance(error, Died)
