"""One held upload session: its staging area, its running digest, and what is known of both after a restart.

The digest runs along with the writes, so that the closing request needs no second read of the bytes. Another worker,
or this one after a restart, either believes the digest that the session row carries (same boot, same offset) or
reads the staged bytes once. Where staging is durable (an object store), the area itself keeps a hasher with its bytes,
which goes on on any machine, and the row's digest holds whatever was booted since.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final
from uuid import uuid4

from storage.blobstore import BlockingWriter, Staging
from storage.digest import CANONICAL, Digest, Hasher
from storage.errors import DigestMismatch
from storage.records import UploadRecord

# Hashers kept between two requests of a session; about 0.5 KiB each. A session beyond them is read once more.
_KEPT_HASHERS: Final = 1024
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """Names this boot of the machine. Bytes that were written but not fsynced are certain only within one boot."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not Linux: believe nothing beyond this process
        return str(uuid4())


class HasherCache:
    """Hashers of sessions between two requests in this process; bounded, the least recently used goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Hasher] = OrderedDict()

    def take(self, upload_id: str, offset: int) -> Hasher | None:
        """The hasher of exactly the first `offset` bytes, if it is still here."""
        hasher = self._kept.pop(upload_id, None)
        if hasher is not None and hasher.size_bytes == offset:
            return hasher
        return Hasher() if offset == 0 else None

    def put(self, upload_id: str, hasher: Hasher | None) -> None:
        """Keep a hasher for the session's next request."""
        if hasher is None:
            return
        self._kept[upload_id] = hasher
        if len(self._kept) > _KEPT_HASHERS:
            self._kept.popitem(last=False)

    def forget(self, upload_id: str) -> None:
        """The session has ended."""
        self._kept.pop(upload_id, None)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a session to go back to."""

    offset: int
    hasher: Hasher | None


class Upload:
    """A session held by one request. Made by `Content.resume`; not for two tasks at once."""

    def __init__(
        self, record: UploadRecord, staging: Staging, *, hasher: Hasher | None, is_durable: bool = False
    ) -> None:
        self.record = record
        self.staging = staging
        self.hasher = hasher
        self._is_durable = is_durable
        self._received: Digest | None = None
        self.closed = False
        self.moved = False

    @property
    def offset(self) -> int:
        """Number of bytes held."""
        return self.staging.offset

    async def append(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes (1 byte to 4 MiB), all or nothing; see `Staging.write`."""
        hasher = await self._running()
        self.moved = True
        await self.staging.write(chunk, hasher)

    async def writer(self) -> BlockingWriter | None:
        """The way to take the next bytes in a thread; None: the store offers none, use `append`.

        Good until anything else is asked of the session.
        """
        hasher = await self._running()
        writer = await self.staging.writer(hasher)
        self.moved = self.moved or writer is not None
        return writer

    def verifies(self, digest: Digest, size_bytes: int) -> bool:
        """Whether the store itself can check the whole blob on its way in; see `Staging.verifies`."""
        return self.staging.verifies(digest, size_bytes)

    async def receive(self, digest: Digest, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Take the whole blob, checked by the store; see `Staging.receive`. Only where `verifies` said so."""
        await self.staging.receive(digest, size_bytes, chunks)
        self.hasher, self._received, self.moved = None, digest, True

    async def mark(self) -> Mark:
        """The present point, before a chunk that may have to be forgotten."""
        return Mark(self.offset, (await self._running()).copy())

    async def rollback(self, mark: Mark) -> None:
        """Forget everything after `mark`."""
        await self.staging.truncate(mark.offset)
        self.hasher = mark.hasher

    async def verify(self, claimed: Digest) -> Digest:
        """The sha256 of the bytes held, if they are what `claimed` (any algorithm) says; else `DigestMismatch`."""
        canonical = await self._canonical()
        actual = canonical
        if claimed.algorithm != CANONICAL:
            other = Hasher(claimed.algorithm)
            await self.staging.rehash(other)
            actual = other.digest()
        if actual != claimed:
            raise DigestMismatch(claimed=str(claimed), actual=str(actual))
        return canonical

    def digest_if_known(self) -> Digest | None:
        """The sha256 of the bytes held, as far as it is known without reading them."""
        if self._received is not None:
            return self._received
        if self.hasher is not None:
            return self.hasher.digest()
        record = self.record
        is_certain = self._is_durable or record.boot == boot_id()
        return record.digest_so_far if is_certain and record.offset_bytes == self.offset else None

    async def _canonical(self) -> Digest:
        known = self.digest_if_known()
        return known if known is not None else (await self._running()).digest()

    async def _running(self) -> Hasher:
        if self.hasher is None:
            hasher = Hasher.portable() if self._is_durable else Hasher()
            await self.staging.rehash(hasher)
            self.hasher, self._received = hasher, None
        return self.hasher
