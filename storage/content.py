"""Content: bytes in, once, under their digest; bytes out, through a link. The only writer of blob rows.

Order of every commit: bytes durable in the store, then one transaction (blob row, link, session closed), then the
answer. A store makes a fresh key per publish, so a push can never lose its bytes to a sweep that runs beside it: either
the row that the sweep would remove is locked and revived, or the push brings its own copy.
Knows repositories as ids, images as names; no HTTP, no manifests, no permissions.
"""

import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from storage.adoption import Adoption, link_into
from storage.blobstore import BlobReader, BlobStore, Span, Staging, StoredObject
from storage.database import Database, Transaction
from storage.digest import CANONICAL, Digest
from storage.errors import BlobUnknown, Busy, Damaged, DigestMismatch, StorageError, Unavailable, UploadUnknown
from storage.metadata import blobs, garbage, images, moving, sharing, storages, uploads
from storage.records import BlobRecord, RepositoryRecord, UploadRecord
from storage.upload import HasherCache, Upload, boot_id

# How often a commit may find that the copy it relied on went away. Each time means that a sweep ran in between.
_SETTLE_ATTEMPTS: Final = 5
# A cancelled request still writes down how far it came and frees what it held: one small transaction, one unlink.
_TIDY_DEADLINE_S: Final = 5.0
# Links that clients were told of and whose grace period is to be renewed; 100 bytes each, flushed every few seconds.
_TOUCH_BOUND: Final = 10_000
# Links renewed in one transaction: some milliseconds of the one write lock.
_TOUCH_BATCH: Final = 100


class TooManyUploads(Busy):
    """The account has as many open upload sessions as it may; finishing or cancelling one helps."""


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """A blob that an image may read."""

    record: BlobRecord
    storage: str
    image_id: int
    linked_at: int
    """When the image's link was made or last renewed, in Unix seconds."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the blob as the client sent it."""
        return self.record.stored.size_bytes


class Content:
    """All blobs of all named storages. One per process; safe for any number of tasks."""

    def __init__(
        self,
        database: Database,
        stores: Mapping[str, BlobStore],
        *,
        grace_s: int = 86400,
        uploads_per_account: int = 1000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._stores = dict(stores)
        self._names: dict[int, str] = {}
        self._grace_s = grace_s
        self._uploads_per_account = uploads_per_account
        self._clock = clock
        self._hashers = HasherCache()
        self._touched: set[tuple[int, Digest]] = set()

    async def prepare(self) -> None:
        """Give every named storage its row; call once before anything else.

        Raises `Conflict` while a move to this installation has not ended.
        """

        def ensure(tx: Transaction) -> dict[int, str]:
            moving.require_whole(tx)
            return {storages.ensure(tx, name): name for name in self._stores}

        self._names = await self._database.transaction(ensure)

    def now(self) -> int:
        """Unix seconds of the clock that all rows are written with."""
        return int(self._clock())

    def storage_id(self, name: str) -> int:
        """The row id of a configured storage; `KeyError` if there is none of that name."""
        return {known: identity for identity, known in self._names.items()}[name]

    def storage_names(self) -> Mapping[int, str]:
        """Configured storages by row id."""
        return self._names

    def store(self, storage_id: int) -> BlobStore:
        """The store of a storage row; `Unavailable` if it is no longer configured."""
        name = self._names.get(storage_id)
        if name is None:
            raise Unavailable(f"storage {storage_id} is not configured: restore its section under storage.storages")
        return self._stores[name]

    # --- uploads ------------------------------------------------------------------------------------------------

    async def begin(
        self, repository: RepositoryRecord, image: str, *, account_id: int, algorithm: str = CANONICAL
    ) -> UploadRecord:
        """Open an upload session; nothing is stored for it yet. Raises `TooManyUploads`."""
        now = self.now()
        record = UploadRecord(
            id=str(uuid.uuid4()),
            repository_id=repository.id,
            image=image,
            storage_id=repository.storage_id,
            account_id=account_id,
            algorithm=algorithm,
            offset_bytes=0,
            digest_so_far=None,
            boot=boot_id(),
            created_at=now,
            touched_at=now,
        )

        def insert(tx: Transaction) -> None:
            if uploads.count(tx, account_id) >= self._uploads_per_account:
                raise TooManyUploads(f"{self._uploads_per_account} upload sessions are open: finish or cancel some")
            uploads.insert(tx, record)

        await self._database.transaction(insert)
        return record

    async def session(self, upload_id: str, *, repository_id: int, image: str, account_id: int) -> UploadRecord:
        """The open session, if it belongs to exactly this image and account; else `UploadUnknown`."""
        record = await self._database.read(uploads.find, upload_id)
        owner = (repository_id, image, account_id)
        if record is None or (record.repository_id, record.image, record.account_id) != owner:
            raise UploadUnknown("no such upload session")
        return record

    @asynccontextmanager
    async def resume(self, record: UploadRecord, *, keep: bool = True) -> AsyncIterator[Upload]:
        """Hold the session for one request; `Busy` while another request holds it, `UploadUnknown` if it has ended.

        On leaving, however that happens, what arrived stays with the session unless it was finished or cancelled. It
        is also written down, so that the next request need not read the bytes; should that fail, nothing is lost.
        Without `keep` a session that was not finished is cancelled: nobody can come back to it.
        """
        async with self._staged(record) as staging:
            current = await self._database.read(uploads.find, record.id)
            if current is None:  # ended between the caller's look and our hold; the sweep frees what may be left of it
                raise UploadUnknown("no such upload session")
            # Of what another machine may have written, only the area itself knows the digest.
            is_durable = self.store(record.storage_id).properties.durable_staging
            hasher = staging.hasher() if is_durable else self._hashers.take(record.id, staging.offset)
            upload = Upload(current, staging, hasher=hasher, is_durable=is_durable)
            try:
                yield upload
            finally:
                if not upload.closed:  # what fails or takes too long here, the next request or the sweep makes up for
                    with trio.move_on_after(_TIDY_DEADLINE_S, shield=True), suppress(StorageError):
                        await (self._keep(upload) if keep else self.cancel(upload))

    @asynccontextmanager
    async def _staged(self, record: UploadRecord) -> AsyncIterator[Staging]:
        """The session's staging area, made when its first bytes arrive."""
        store = self.store(record.storage_id)
        async with AsyncExitStack() as stack:
            try:
                staging = await stack.enter_async_context(store.stage(record.id, create=False))
            except UploadUnknown:
                if record.offset_bytes:
                    raise
                staging = await stack.enter_async_context(store.stage(record.id, create=True))
            yield staging

    async def save(self, upload: Upload) -> None:
        """Write down how far the session came; call it before that is acknowledged to the client.

        Raises `UploadUnknown` if the session has ended meanwhile, as its account or repository was deleted.
        """
        self._hashers.put(upload.record.id, upload.hasher)
        await upload.staging.settle(upload.hasher)
        saved = await self._database.transaction(
            uploads.save,
            upload.record.id,
            offset_bytes=upload.offset,
            digest=upload.digest_if_known(),
            boot=boot_id(),
            now=self.now(),
        )
        upload.moved = False
        if not saved:
            raise UploadUnknown("the upload session has ended")

    async def _keep(self, upload: Upload) -> None:
        self._hashers.put(upload.record.id, upload.hasher)
        if upload.moved:
            await self.save(upload)

    async def receive(self, upload: Upload, digest: Digest, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Take the whole blob in one go, where `upload.verifies` said so; see `Staging.receive`.

        Raises `DigestMismatch` (the session is closed then, as by `commit`).
        """
        try:
            await upload.receive(digest, size_bytes, chunks)
        except DigestMismatch:
            await self.cancel(upload)
            raise

    async def cancel(self, upload: Upload) -> None:
        """Close the session and free its bytes; safe after anything."""
        upload.closed = True
        self._hashers.forget(upload.record.id)
        await self._database.transaction(uploads.delete, upload.record.id)
        await self._free_quietly(upload)

    async def free(self, storage_id: int, staging: Staging) -> None:
        """Drop a held staging area that nobody will come back for.

        With it goes the object that a crash left between publish and its row. It is put among the removals first, so
        that it is not forgotten if we die here.
        """
        stored = await staging.published()
        if stored is not None:
            await self._database.transaction(garbage.remove_orphan, storage_id, stored, now=self.now())
        await staging.discard()

    async def _free_quietly(self, upload: Upload) -> None:
        """As `free`, at the end of a session. The outcome stands already; what cannot be freed now, the sweep frees."""
        with trio.move_on_after(_TIDY_DEADLINE_S, shield=True), suppress(StorageError):
            await self.free(upload.record.storage_id, upload.staging)

    async def commit(
        self,
        upload: Upload,
        digest: Digest,
        *,
        repository: RepositoryRecord,
        confirm: Callable[[Transaction], None] | None = None,
    ) -> BlobRecord:
        """Store the session's bytes as `digest`, link them in its image, and close the session.

        Raises `DigestMismatch` (the session is closed then: its bytes are not what the client meant). When it returns,
        the blob survives power loss and may be acknowledged. If it is interrupted, the session is still open and the
        same commit can be repeated; `UploadUnknown` if it was interrupted too long ago for that, or if the session's
        account or repository was deleted. `confirm` is called first in the committing transaction; what it raises
        refuses the commit and leaves the session as it is.
        """
        try:
            canonical = await upload.verify(digest)
            blob = await self._settle(upload, canonical, digest, repository, confirm)
        except (DigestMismatch, UploadUnknown):
            await self.cancel(upload)
            raise
        upload.closed = True
        self._hashers.forget(upload.record.id)
        with trio.move_on_after(_TIDY_DEADLINE_S, shield=True), suppress(StorageError):
            await upload.staging.discard()
        return blob

    async def _settle(
        self,
        upload: Upload,
        canonical: Digest,
        digest: Digest,
        repository: RepositoryRecord,
        confirm: Callable[[Transaction], None] | None,
    ) -> BlobRecord:
        record = upload.record
        stored: StoredObject | None = None
        broken: str | None = None
        left = await upload.staging.published()  # by a commit of this session that was interrupted

        def settle(tx: Transaction) -> BlobRecord | None:
            if confirm is not None:
                confirm(tx)
            now = self.now()
            blob_id = blobs.settle(tx, record.storage_id, canonical, stored, broken=broken, now=now)
            if blob_id is None:
                return None
            if not uploads.delete(tx, record.id):  # its account or repository was deleted meanwhile
                raise UploadUnknown("the upload session has ended")
            if digest != canonical:
                blobs.name_also(tx, record.storage_id, digest, blob_id)
            image = images.ensure(tx, repository, record.image, now=now)
            blobs.link(tx, image.id, digest, blob_id, now=now)
            if left is not None:
                garbage.remove_orphan(tx, record.storage_id, left, now=now)
            return blobs.find(tx, record.storage_id, canonical)

        for _ in range(_SETTLE_ATTEMPTS):
            found = await self._database.read(blobs.find, record.storage_id, canonical)
            broken = await self._broken_key(found)
            # Without the last condition the time of a push would tell whether others have these bytes.
            may_rely = found is not None and broken is None
            if not (may_rely and await self._database.read(_is_linked, repository.id, record.image, digest)):
                stored = await upload.staging.publish(canonical)
            if (blob := await self._database.transaction(settle)) is not None:
                await self._drop_superfluous(blob, stored)
                return blob
        raise Unavailable(f"blob {canonical} is being removed over and over: look at the garbage collection settings")

    async def _drop_superfluous(self, blob: BlobRecord, stored: StoredObject | None) -> None:
        """Free our own copy at once if the row has another: it is among the removals, and no row can have its key."""
        if stored is None or stored.key == blob.stored.key:
            return
        with trio.move_on_after(_TIDY_DEADLINE_S, shield=True), suppress(StorageError):  # else the sweep does it
            await self.store(blob.storage_id).remove(stored.key)

    async def is_whole(self, blob: BlobRecord) -> bool:
        """Whether the store has an object of the right size for the row, as far as it can be told without reading."""
        return await self._broken_key(blob) is None

    async def _broken_key(self, found: BlobRecord | None) -> str | None:
        """The row's key if nobody can rely on what lies under it: bytes are never dropped for a copy not looked at."""
        if found is None:
            return None
        key = found.stored.key
        if found.damaged_at is not None:
            return key
        try:
            there = await self.store(found.storage_id).stat(key)
        except (BlobUnknown, Damaged, Unavailable):
            return key
        return None if there.size_bytes == found.stored.size_bytes else key

    # --- files --------------------------------------------------------------------------------------------------

    async def adopt(
        self,
        path: Path,
        digest: Digest,
        size_bytes: int,
        *,
        repository: RepositoryRecord,
        image_names: Collection[str],
        also: Digest | None = None,
    ) -> BlobRecord:
        """Store a whole local file whose sha256 is `digest`, as the caller has found, and link it into these images.

        `also`: another digest of the same bytes (sha512), under which they were asked for; the links are made under
        it then. Manifests of the images that name the blob and were stored before it came need it from now on. When
        this returns the blob survives power loss. On an error nothing is linked; the file stays, unless its bytes could
        not be brought to the disk (see `BlobStore.adopt`), and adopting it again may help.
        """
        adoption = Adoption(repository, digest, also or digest, image_names)
        staging_id = str(uuid.uuid4())
        stored: StoredObject | None = None
        is_settled = False
        try:
            for _ in range(_SETTLE_ATTEMPTS):
                found = await self._database.read(blobs.find, repository.storage_id, digest)
                broken = await self._broken_key(found)
                if stored is None and (found is None or broken is not None):
                    store = self.store(repository.storage_id)
                    stored = await store.adopt(path, digest, size_bytes, staging_id=staging_id)
                blob = await self._database.transaction(adoption.settle, stored, broken=broken, now=self.now())
                if blob is not None:
                    is_settled = True
                    await self._drop_superfluous(blob, stored)
                    return blob
        finally:
            with trio.move_on_after(_TIDY_DEADLINE_S, shield=True):
                await self._end_adoption(repository.storage_id, staging_id, is_settled=is_settled)
        raise Unavailable(f"blob {digest} is being removed over and over: look at the garbage collection settings")

    async def _end_adoption(self, storage_id: int, staging_id: str, *, is_settled: bool) -> None:
        """Free what is left of it; the outcome stands already, and what cannot be freed now, the sweep frees."""
        with suppress(StorageError):
            async with self.store(storage_id).stage(staging_id, create=False) as staging:
                await (staging.discard() if is_settled else self.free(storage_id, staging))

    # --- links --------------------------------------------------------------------------------------------------

    async def mount(
        self, digest: Digest, *, source_repository_id: int, source_image: str, repository: RepositoryRecord, image: str
    ) -> bool:
        """Link a blob of one image into another, if it may be read there and lies in the same storage."""

        def mount(tx: Transaction) -> bool:
            source = images.find(tx, source_repository_id, source_image)
            found = blobs.linked(tx, source.id, digest) if source else None
            if found is None or found[0].storage_id != repository.storage_id:
                return False
            now = self.now()
            target = images.ensure(tx, repository, image, now=now)
            blobs.link(tx, target.id, digest, found[0].id, now=now)
            return True

        return await self._database.transaction(mount)

    async def share(
        self,
        digest: Digest,
        *,
        repository: RepositoryRecord,
        image: str,
        may_read: Callable[[Transaction, RepositoryRecord], bool],
    ) -> FoundBlob | None:
        """Link a stored blob into the image, if this repository holds it in any image, or one that may be read does.

        None otherwise, after the same work whether or not others hold it (row A6). `may_read` is asked in the same
        snapshot, about a bounded number of repositories (`metadata.sharing`), and may be asked again.
        """
        if await self._database.read(sharing.shared, digest, repository, may_read) is None:
            return None

        def link(tx: Transaction) -> FoundBlob | None:
            found = sharing.shared(tx, digest, repository, may_read)
            if found is None:
                return None
            now = self.now()
            image_id = link_into(tx, repository, image, digest, found.id, now=now)
            return FoundBlob(found, self._names.get(found.storage_id, ""), image_id, now)

        return await self._database.transaction(link)

    async def find(self, image_id: int, digest: Digest) -> FoundBlob:
        """The blob that this image may read under `digest`; `BlobUnknown` whether or not others have it."""
        found = await self._database.read(blobs.linked, image_id, digest)
        if found is None:
            raise BlobUnknown(f"blob {digest} is unknown")
        record, linked_at = found
        if self.renew_nowait(image_id, digest, linked_at=linked_at) is None:
            await self.flush_touches()  # never dropped: who filled it waits until there is room
        return FoundBlob(record, self._names.get(record.storage_id, ""), image_id, linked_at)

    def renew_nowait(self, image_id: int, digest: Digest, *, linked_at: int) -> int | None:
        """Note that a client is told of a linked blob; gives the time from which the link's grace period counts now.

        Who hears that a blob is there will not send it. If no manifest needs it yet, its time starts again, so that
        the sweep cannot take it between this answer and the manifest (row UP-27). None when so many renewals wait that
        `flush_touches` has to be called before the client is told.
        """
        now = self.now()
        if linked_at >= now - self._grace_s // 2:
            return linked_at
        self._touched.add((image_id, digest))
        return now if len(self._touched) < _TOUCH_BOUND else None

    @asynccontextmanager
    async def open(self, found: FoundBlob, span: Span) -> AsyncIterator[BlobReader]:
        """Open a span of a found blob; see `BlobStore.open`.

        A blob that is on record while its store has no such object is `Damaged`, never `BlobUnknown`.
        """
        async with AsyncExitStack() as stack:
            try:
                store = self.store(found.record.storage_id)
                reader = await stack.enter_async_context(store.open(found.record.stored, span))
            except BlobUnknown as error:
                raise await self._absent(found.record) from error
            yield reader

    async def _absent(self, blob: BlobRecord) -> StorageError:
        """What it means that a store does not have an object that a row named a moment ago."""
        digest = blob.stored.digest
        current = await self._database.read(blobs.find, blob.storage_id, digest)
        if current is None or current.damaged_at is not None:
            return BlobUnknown(f"blob {digest} has just been removed")
        if current.stored.key != blob.stored.key:
            return Unavailable(f"blob {digest} has just been stored anew: retry")
        return Damaged(f"blob {digest} is on record, but its store does not have it: run `sluice fsck`")

    async def flush_touches(self) -> None:
        """Write the renewed links down; the jobs call it every few seconds and at the end.

        Raises `Unavailable` or `StorageFull`; what was not written then is written the next time.
        """
        waiting = sorted(self._touched)
        for start in range(0, len(waiting), _TOUCH_BATCH):
            batch = waiting[start : start + _TOUCH_BATCH]
            await self._database.transaction(blobs.touch, batch, now=self.now())
            self._touched.difference_update(batch)


def _is_linked(tx: Transaction, repository_id: int, image_name: str, digest: Digest) -> bool:
    image = images.find(tx, repository_id, image_name)
    return image is not None and blobs.linked(tx, image.id, digest) is not None
