"""Where an S3 store of a test lies: below a prefix of a bucket that tests share, with rows in a database of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from storage import Database
from storage.blocking import Pool
from storage.s3.bucket import Bucket
from storage.s3.keys import ObjectName
from storage.s3.settings import S3Settings
from storage.s3.stagings import Stagings
from storage.s3.store import S3Store
from storage.spool import Spool
from tests.servers.bucket_server import S3Server


class BucketPlace:
    """See `place.Place`. Stores that it opened are closed with it; `server` is how the bucket is seen from outside."""

    def __init__(self, server: S3Server, settings: S3Settings, database: Database, spool: Path) -> None:
        self.server = server
        self.settings = settings
        self.database = database
        self._spool = spool
        self._opened: list[tuple[S3Store, Spool]] = []

    async def open(self, settings: S3Settings | None = None) -> S3Store:
        """A new store, as another replica or after a restart."""
        bucket = Bucket(settings or self.settings, pool=Pool("s3", 8))
        spool = Spool(self._spool, budget_bytes=256 << 20, pool=Pool("spool", 4))
        await spool.prepare()
        store = S3Store(bucket, Stagings(self.database, "s3"), spool=spool)
        self._opened.append((store, spool))
        await store.prepare()
        return store

    async def aclose(self) -> None:
        """Close what was opened."""
        for store, spool in self._opened:
            await store.aclose()
            spool.close()

    async def cut(self, key: str, size_bytes: int) -> None:
        """Keep only the first bytes of the object."""
        where = self.settings.root + ObjectName.parse(key).blob
        content = self.server.content(self.settings.bucket, where)
        self.server.overwrite(self.settings.bucket, where, content[:size_bytes])

    def keys(self) -> dict[str, int]:
        """What lies below the prefix, by key, with its size in bytes."""
        found = self.server.objects(self.settings.bucket, self.settings.root)
        return {key.removeprefix(self.settings.root): size for key, size in found.items()}

    def uploads(self) -> list[tuple[str, str]]:
        """Multipart uploads below the prefix that are not finished: key and upload id."""
        root = self.settings.root
        found = self.server.uploads(self.settings.bucket)
        return [(key.removeprefix(root), upload) for key, upload in found if key.startswith(root)]


@asynccontextmanager
async def place_in(
    server: S3Server, settings: S3Settings, database: Database, folder: Path
) -> AsyncIterator[BucketPlace]:
    """A place that lasts for a test."""
    spool = folder / "spool"
    place = BucketPlace(server, settings, database, spool)
    try:
        yield place
    finally:
        await place.aclose()
