"""A blob store in an S3 bucket. What lies where is `s3.keys`; why a commit copies nothing is docs/decisions/0012.

Any number of processes on any number of machines may use one bucket and one database; what uploads have come to is in
rows (`s3.staging`), so that another machine goes on where one died. Objects are written once, never changed, and never
compressed here. Knows no repositories.
"""

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from storage import durable
from storage.blobstore import BlobReader, Properties, Span, Staging, StoredObject, check_span
from storage.digest import Digest
from storage.errors import BlobUnknown, Damaged
from storage.s3.bucket import Bucket, ObjectInfo
from storage.s3.keys import BLOBS, MARKERS, PROBE, STAGING, ObjectName, marked, object_id_of, segment_of
from storage.s3.reading import BUDGET_BYTES, open_reader
from storage.s3.staging import hold
from storage.s3.stagings import TOKEN_CHARACTERS, Stagings
from storage.spool import Spool

_BATCH: Final = 500


class S3Store:
    """See `blobstore.BlobStore`. `prepare` before anything else, `aclose` at the end."""

    def __init__(
        self, bucket: Bucket, stagings: Stagings, *, spool: Spool, clock: Callable[[], float] = time.time
    ) -> None:
        self._bucket = bucket
        self._stagings = stagings
        self._spool = spool
        self._clock = clock
        self._budget = trio.Semaphore(max(1, BUDGET_BYTES // bucket.settings.parallel_range_bytes))

    @property
    def properties(self) -> Properties:
        """What uploads have come to survives machines; readers offer no descriptor."""
        return Properties("s3", has_files=False, durable_staging=True)

    async def prepare(self) -> None:
        """Open the bucket, learn what it can do, set its lifecycle rules where it takes any.

        Raises `Unavailable`, which says what to do. `bucket.abilities.notes` are worth a log line each afterwards.
        """
        await self._bucket.open()
        await self._bucket.put_lifecycle()
        await self._stagings.prepare()

    async def check(self) -> None:
        """For readiness: raises `Unavailable` unless the bucket answers and lets us in. One HEAD of nothing."""
        with suppress(BlobUnknown):
            await self._bucket.head(f"{PROBE}health")

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._bucket.aclose()

    # --- staging ----------------------------------------------------------------------------------------------------

    def stage(self, staging_id: str, *, create: bool) -> AbstractAsyncContextManager[Staging]:
        """See `blobstore.BlobStore.stage`; ValueError for a malformed id."""
        return hold(self._bucket, self._stagings, self._spool, staging_id, create=create)

    async def adopt(self, path: Path, digest: Digest, size_bytes: int, *, staging_id: str) -> StoredObject:
        """See `blobstore.BlobStore.adopt`: one PUT by sendfile, checked by the bucket; above 5 GiB in parts."""
        descriptor = await self._spool.run(_open_adopted, path, f"blob {digest}")
        try:
            async with hold(self._bucket, self._stagings, self._spool, staging_id, create=True) as staging:
                return await staging.adopt(descriptor, digest, size_bytes)
        finally:
            os.close(descriptor)

    def scan_staging(self) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, int]]]:
        """See `blobstore.BlobStore.scan_staging`; read from rows, the bucket is not listed."""
        return aclosing(self._stagings.areas())

    async def sweep_strays(self, older_than_s: float) -> int:
        """Remove what no staging area knows of: segments, and multipart uploads that were begun; how many they were.

        Lists `staging/` and unfinished uploads only. For a job that runs once at a time over all processes. What is
        younger than `older_than_s` stays: its row may be about to be written.
        """
        oldest = self._clock() - older_than_s
        areas = {staging_id async for staging_id, _ in self._stagings.areas()}
        holders = await self._stagings.holders()  # first: what a hold has begun is in its row before the hold ends
        uploads = await self._stagings.upload_ids()
        return await self._sweep_segments(oldest, areas) + await self._sweep_uploads(oldest, uploads, holders)

    async def _sweep_segments(self, oldest: float, areas: Container[str]) -> int:
        swept = 0
        strays: list[str] = []
        async with aclosing(self._bucket.list(STAGING)) as listed:
            async for found in listed:
                segment = segment_of(found.key)
                if segment is not None and segment[0] not in areas and found.modified_at <= oldest:
                    strays.append(found.key)
                    swept += 1
                if len(strays) >= _BATCH:
                    await self._bucket.delete(*strays)
                    strays = []
        await self._bucket.delete(*strays)
        return swept

    async def _sweep_uploads(self, oldest: float, uploads: Container[str], holders: Container[str]) -> int:
        swept = 0
        async with aclosing(self._bucket.list_uploads(BLOBS)) as listed:
            async for key, upload_id, begun_at in listed:
                object_id = object_id_of(key)
                if object_id is None or upload_id in uploads or object_id[:TOKEN_CHARACTERS] in holders:
                    continue
                if begun_at <= oldest:
                    swept += await self._bucket.abort(key, upload_id)
        return swept

    # --- objects ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """See `blobstore.BlobStore.open`; ValueError for a span outside of the blob."""
        check_span(span, size_bytes=stored.size_bytes)
        name = ObjectName.parse(stored.key)
        if name.size_bytes != stored.size_bytes:
            raise Damaged(f"object {stored.key} is not of {stored.size_bytes} bytes")
        async with open_reader(self._bucket, name, span, self._budget) as reader:
            yield reader

    async def stat(self, key: str) -> StoredObject:
        """See `blobstore.BlobStore.stat`: one HEAD. Raises `Damaged` if the object has another size than its key."""
        name = ObjectName.parse(key)
        found = await self._bucket.head(name.blob)
        if found.size_bytes != name.size_bytes:
            raise Damaged(f"object {key} has {found.size_bytes} bytes")
        return name.stored

    async def remove(self, key: str) -> None:
        """See `blobstore.BlobStore.remove`. The marker goes first: what is listed is there, or was a moment ago."""
        try:
            name = ObjectName.parse(key)
        except BlobUnknown:
            await trio.lowlevel.checkpoint()
            return
        await self._bucket.delete(name.marker)
        await self._bucket.delete(name.blob)

    async def quarantine(self, key: str) -> None:
        """See `blobstore.BlobStore.quarantine`; a copy within the store, since S3 renames nothing."""
        name = ObjectName.parse(key)
        try:
            await self._bucket.copy(name.blob, name.aside)
        except BlobUnknown:
            await self._bucket.head(name.aside)
        await self.remove(key)

    @asynccontextmanager
    async def scan(self) -> AsyncIterator[AsyncIterator[StoredObject]]:
        """See `blobstore.BlobStore.scan`: the markers, and so the sizes of what was published, not of what is there."""
        async with aclosing(self._bucket.list(MARKERS)) as listed, aclosing(_published(listed)) as objects:
            yield objects

    # --- redirects --------------------------------------------------------------------------------------------------

    async def redirect_url(self, stored: StoredObject) -> str:
        """An address from which a client may GET the blob for `redirect_lifetime_s`, at the public endpoint.

        Whether the object is there is not asked. Raises `BlobUnknown` for a key of another store.
        """
        settings = self._bucket.settings
        name = ObjectName.parse(stored.key)
        return await self._bucket.presign(
            name.blob, expires_s=settings.redirect_lifetime_s, endpoint=settings.public_endpoint_url
        )


def _open_adopted(path: Path, what: str) -> int:
    with durable.failures_of(what):
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


async def _published(listed: AsyncIterator[ObjectInfo]) -> AsyncGenerator[StoredObject, None]:
    async for found in listed:
        if (name := marked(found.key)) is not None:
            yield name.stored
