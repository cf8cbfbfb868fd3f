"""One bucket below one prefix: objects and multipart uploads by key, with retries, in the words of `storage.errors`.

Two planes lie below: `s3.control` (boto3, in threads) for what is rare and small, and a `DataPlane` for bytes. Knows
nothing of blobs, digests of blobs, staging areas or rows: keys are text, relative to the prefix (`s3.keys`).

Every call may raise `Unavailable` (the store did not answer as it should, after bounded retries; or it refuses us,
which the message says) and `StorageFull` (quota) besides what it names.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final, Self, TypeVar

import trio

from storage.blobstore import Span
from storage.blocking import Pool
from storage.errors import BlobUnknown, Damaged, DigestMismatch, Unavailable, UploadUnknown
from storage.s3.abilities import Abilities, probe
from storage.s3.bucket_data import OwnPlane, own_client
from storage.s3.bucket_objects import DataPlane, Download, ObjectInfo, UploadPart
from storage.s3.bucket_threads import ThreadPlane
from storage.s3.control import BATCH, Control, certificates
from storage.s3.failures import WRONG_DIGEST, Refused, Trouble, Unreached, retried, storage_error
from storage.s3.lifecycle import with_ours
from storage.s3.requests import KeptCredentials, Requests
from storage.s3.settings import S3Settings
from storage.transfer.payload import Payload, is_repeatable, size_of

__all__ = ["Bucket", "Download", "ObjectInfo"]

T = TypeVar("T")

_PRECONDITION_FAILED: Final = "PreconditionFailed"
_INVALID_RANGE: Final = "InvalidRange"
_COPY_AT_ONCE_BYTES: Final = 5 << 30  # the most that S3 copies in one request
_COPY_PART_BYTES: Final = 512 << 20  # 5 TiB in 10,000 parts
_CLOSE_DEADLINE_S: Final = 5.0


class Bucket:
    """See the module docstring. For any number of tasks of one event loop; `open` before anything else."""

    def __init__(self, settings: S3Settings, *, pool: Pool) -> None:
        self.settings = settings
        self.abilities = Abilities()
        self._pool = pool
        self._control = Control(settings, connections=pool.statistics().size)
        self._credentials = KeptCredentials(self._control.credentials, pool=pool)
        self._requests: Requests | None = None
        self._plane: DataPlane | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find credentials, reach the bucket, learn its abilities (writes and removes small objects below `probe/`).

        `Unavailable` says what to do: no credentials, no such bucket, another region, no right to write, no
        connection. After that it may be called again. ValueError for an endpoint that is no address.
        """
        what = f"bucket {self.settings.bucket}"
        try:
            await self._pool.run(self._control.connect)
            await self._credentials.now()
            self._requests = Requests(
                self.settings, endpoint_url=self._control.endpoint_url, credentials=self._credentials
            )
            self._plane = await self._make_plane(self._requests)
            self.abilities = await probe(
                self._plane, delete_batch=self._delete_batch, delete=self._delete_one, root=self.settings.root
            )
        except Trouble as trouble:
            await self.aclose()
            raise self._error(trouble, what) from trouble

    async def _make_plane(self, requests: Requests) -> DataPlane:
        if self.settings.data_plane == "boto3":
            return ThreadPlane(self._control, pool=self._pool)
        try:
            client = await self._pool.run(
                own_client, certificates(self.settings), connections=self.settings.connections
            )
        except OSError as error:
            raise Unreached(f"the file of certificates cannot be used: {error}", passes=False) from error
        return OwnPlane(requests, client=client)

    async def aclose(self) -> None:
        """Close idle connections; safe at any time, and twice."""
        plane, self._plane = self._plane, None
        with trio.move_on_after(_CLOSE_DEADLINE_S, shield=True):
            if plane is not None:
                await plane.aclose()
            await self._pool.run(self._control.close)

    # --- objects ----------------------------------------------------------------------------------------------------

    async def put(self, key: str, payload: Payload, *, sha256: str | None = None, if_absent: bool = False) -> str:
        """Write one whole object (≤ 5 GiB) and give its ETag (without quotes); sent again after trouble if it can be.

        With `sha256` (hex) the signature carries the digest: where `abilities.verifies_sha256`, other bytes raise
        `DigestMismatch` and nothing is stored. With `if_absent` an existing object raises `Conflict`; only where
        `abilities.conditional_put`, elsewhere it is overwritten; one of the same size counts as written by this call,
        unless from a `Stream`. That is sent once: `Unavailable` then means that its bytes are gone, and what its
        source raises passes through.
        """
        conditional = if_absent and self.abilities.conditional_put
        can_repeat = is_repeatable(payload)
        try:
            return await retried(
                lambda: self._data.put(self._full(key), payload, sha256=sha256, if_absent=conditional),
                can_repeat=can_repeat,
            )
        except Refused as refused:
            if refused.code in WRONG_DIGEST and sha256 is not None:
                raise DigestMismatch(claimed=f"sha256:{sha256}", actual="another one") from refused
            if refused.code == _PRECONDITION_FAILED and can_repeat:
                found = await self.head(key)
                if found.size_bytes == size_of(payload):
                    return found.etag  # an attempt whose answer was lost has written it
            raise self._error(refused, key) from refused
        except Trouble as trouble:
            raise self._error(trouble, key) from trouble

    @asynccontextmanager
    async def get(self, key: str, span: Span | None = None) -> AsyncIterator[Download]:
        """Read an object or a span of it (not an empty one). Raises `BlobUnknown`.

        `Damaged` if the object ends before the span begins; one that ends within the span has a shorter `size_bytes`.
        Leaving the context before the end closes the connection at once.
        """
        async with AsyncExitStack() as stack:
            try:
                download = await retried(lambda: stack.enter_async_context(self._data.get(self._full(key), span)))
            except Refused as refused:
                if refused.code == _INVALID_RANGE:
                    raise Damaged(f"{key} ends before byte {span.start if span else 0}") from refused
                raise self._error(refused, key) from refused
            except Trouble as trouble:
                raise self._error(trouble, key) from trouble
            chunks = _Chunks(download.chunks(), lambda trouble: self._error(trouble, key))
            yield Download(chunks, size_bytes=download.size_bytes, total_bytes=download.total_bytes, etag=download.etag)

    async def head(self, key: str) -> ObjectInfo:
        """Look at an object. Raises `BlobUnknown`."""
        found = await self._attempt(lambda: self._data.head(self._full(key)), key)
        return replace(found, key=key)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket, on the store's side, whatever its size. Raises `BlobUnknown`."""
        size_bytes = (await self.head(source)).size_bytes
        if size_bytes <= _COPY_AT_ONCE_BYTES:
            await self._ask(source, self._control.copy, self._full(source), self._full(target))
            return
        upload_id = await self.create(target)
        parts = []
        for number, start in enumerate(range(0, size_bytes, _COPY_PART_BYTES), start=1):
            span = Span(start, min(start + _COPY_PART_BYTES, size_bytes))
            parts.append((number, await self.copy_part(target, upload_id, number, source=source, span=span)))
        await self.complete(target, upload_id, parts)

    async def delete(self, *keys: str) -> None:
        """Remove objects; absent ones are fine."""
        full = [self._full(key) for key in keys]
        if len(full) > 1 and self.abilities.batch_delete:
            for start in range(0, len(full), BATCH):
                batch = full[start : start + BATCH]
                await self._attempt(partial(self._delete_batch, batch), f"removal of {keys[start]}")
            return
        for key, whole in zip(keys, full, strict=True):
            await self._attempt(partial(self._delete_one, whole), f"removal of {key}")

    async def _delete_batch(self, full: Sequence[str]) -> None:
        await self._pool.run(self._control.delete_batch, full)

    async def _delete_one(self, full: str) -> None:
        await self._pool.run(self._control.delete, full)

    # --- multipart uploads ------------------------------------------------------------------------------------------

    async def create(self, key: str) -> str:
        """Begin a multipart upload and give its id; one that was begun and not told of is left for the sweeper."""
        return await self._ask(key, self._control.create, self._full(key))

    async def put_part(self, key: str, upload_id: str, number: int, payload: Payload) -> str:
        """Write part `number` (1 to 10,000; ≥ 5 MiB unless it is the last) and give its ETag. Raises `UploadUnknown`.

        Writing a number again replaces the part. See `put` about a `Stream`.
        """
        part = UploadPart(upload_id, number)
        can_repeat = is_repeatable(payload)
        return await self._attempt(
            lambda: self._data.put(self._full(key), payload, part=part),
            f"part {number} of {key}",
            can_repeat=can_repeat,
        )

    async def copy_part(self, key: str, upload_id: str, number: int, *, source: str, span: Span) -> str:
        """As `put_part`, with bytes of another object of this bucket. Raises `UploadUnknown` or `BlobUnknown`."""
        part, whole = UploadPart(upload_id, number), self._full(source)
        return await self._attempt(
            lambda: self._pool.run(self._control.copy_part, self._full(key), part, source=whole, span=span),
            f"part {number} of {key}",
        )

    async def complete(self, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> None:
        """Make the object of the parts (number, ETag; ascending); repeating it is fine.

        Raises `UploadUnknown` when the upload or a part is not there and neither is the object that they would make.
        """
        try:
            await self._ask(key, self._control.complete, self._full(key), upload_id, parts)
        except (UploadUnknown, Unavailable) as error:
            if await self._is_completed(key, len(parts)):
                return
            if isinstance(error, Unavailable):
                await self.list_parts(key, upload_id)  # radosgw 16 answers 500 where there is no such upload
            raise

    async def _is_completed(self, key: str, parts: int) -> bool:
        """Whether a completion whose answer was lost has made the object: its ETag tells of how many parts it is."""
        try:
            return (await self.head(key)).etag.endswith(f"-{parts}")
        except BlobUnknown:
            return False

    async def abort(self, key: str, upload_id: str) -> bool:
        """Drop an upload and its parts; False if there is no such upload (it was completed or aborted)."""
        try:
            await self._ask(key, self._control.abort, self._full(key), upload_id)
        except (UploadUnknown, BlobUnknown):
            return False
        return True

    async def list_parts(self, key: str, upload_id: str) -> list[tuple[int, int, str]]:
        """All parts as (number, size in bytes, ETag), ascending. Raises `UploadUnknown`."""
        parts: list[tuple[int, int, str]] = []
        after: int | None = 0
        while after is not None:
            try:
                page, after = await self._ask(key, self._control.list_parts, self._full(key), upload_id, after)
            except BlobUnknown as error:  # radosgw 16 says so of an upload that was aborted
                raise UploadUnknown(f"{key}: there is no upload {upload_id}") from error
            parts += page
        return parts

    # --- listings ---------------------------------------------------------------------------------------------------

    async def list(self, prefix: str, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """All objects whose keys begin so, ascending, those behind `after` only; read page by page."""
        start = self._full(after) if after else ""
        token: str | None = None
        while True:
            page, token = await self._ask(prefix, self._control.list_objects, self._full(prefix), start, token)
            for found in page:
                yield replace(found, key=found.key.removeprefix(self.settings.root))
            if token is None:
                return

    async def list_uploads(self, prefix: str) -> AsyncGenerator[tuple[str, str, int], None]:
        """Unfinished multipart uploads as (key, upload id, begun at in Unix seconds); read page by page."""
        after: tuple[str, str] | None = ("", "")
        while after is not None:
            page, after = await self._ask(prefix, self._control.list_uploads, self._full(prefix), after)
            for key, upload_id, begun_at in page:
                yield key.removeprefix(self.settings.root), upload_id, begun_at

    # --- the bucket -------------------------------------------------------------------------------------------------

    async def put_lifecycle(self) -> None:
        """Have the store itself drop abandoned staging after `lifecycle_days`, if it can; other rules stay.

        Where it cannot, or rules may not be read or set, `abilities.notes` says so.
        """
        try:
            await retried(lambda: self._pool.run(self._put_lifecycle))
        except Trouble as trouble:
            note = f"the store takes no lifecycle rules ({trouble}): abandoned uploads are dropped by the sweeper alone"
            self.abilities = replace(self.abilities, lifecycle=False, notes=(*self.abilities.notes, note))
        else:
            self.abilities = replace(self.abilities, lifecycle=True)

    def _put_lifecycle(self) -> None:
        root = self.settings.root
        rules = self._control.lifecycle()
        wanted = with_ours(rules, root=root, days=self.settings.lifecycle_days)
        if wanted != rules:
            self._control.put_lifecycle(wanted)

    async def presign(self, key: str, *, expires_s: int, endpoint: str | None = None) -> str:
        """An address that lets whoever has it GET the object for so long; by default at the bucket's own endpoint."""
        try:
            return await self._ready.presigned(self._full(key), expires_s=expires_s, endpoint_url=endpoint)
        except Trouble as trouble:
            raise self._error(trouble, key) from trouble

    # --- below ------------------------------------------------------------------------------------------------------

    @property
    def _data(self) -> DataPlane:
        if self._plane is None:
            raise Unreached(f"the bucket {self.settings.bucket} is not open", passes=False)
        return self._plane

    @property
    def _ready(self) -> Requests:
        if self._requests is None:
            raise Unreached(f"the bucket {self.settings.bucket} is not open", passes=False)
        return self._requests

    def _full(self, key: str) -> str:
        return self.settings.root + key

    async def _ask(self, what: str, call: "Callable[..., T]", *args: object) -> T:
        """One blocking call of the control plane, in a thread, tried again."""
        return await self._attempt(lambda: self._pool.run(call, *args), what)

    async def _attempt(self, call: Callable[[], Awaitable[T]], what: str, *, can_repeat: bool = True) -> T:
        try:
            return await retried(call, can_repeat=can_repeat)
        except Trouble as trouble:
            raise self._error(trouble, what) from trouble

    def _error(self, trouble: Trouble, what: str) -> Exception:
        return storage_error(trouble, what, bucket=self.settings.bucket, source=self._control.source)


class _Chunks:
    """The bytes of a download, with trouble as errors of storage."""

    __slots__ = ("_chunks", "_error")

    def __init__(self, chunks: AsyncIterator[bytes], error: Callable[[Trouble], Exception]) -> None:
        self._chunks = chunks
        self._error = error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except Trouble as trouble:
            raise self._error(trouble) from trouble
