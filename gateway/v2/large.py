"""Large manifests: the only bodies that are held whole, so their number in memory is bounded.

Nearly all manifests are a few KiB and pass without asking. One of up to 4 MiB, sent slowly or read slowly, would
otherwise be held once per connection: three hundred stalled readers took 1.2 GiB.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio
from quart import Response

from gateway.edge.streams import CHUNK_BYTES, blob_response
from gateway.oci.errors import unavailable
from gateway.repositories.contract import Repository
from storage import Digest, Document

LARGE_BYTES: Final = 64 * 1024
"""From here on a manifest counts: ten thousand below it are what the connections themselves may take."""

_AT_ONCE: Final = 32  # of 4 MiB each: 128 MiB
_PATIENCE_S: Final = 30.0  # clients wait longer than this for a manifest, and a stalled reader is dropped after 60 s
_RETRY_AFTER_S: Final = 5


class LargeManifests:
    """One per process: lets so many large manifests be in memory, and the others wait a while, then 503."""

    def __init__(self, *, at_once: int = _AT_ONCE, patience_s: float = _PATIENCE_S) -> None:
        self._slots = trio.Semaphore(at_once)
        self._patience_s = patience_s

    @asynccontextmanager
    async def room(self, size_bytes: int | None) -> AsyncIterator[None]:
        """Hold room for one manifest of this size (None: not known yet); small ones need none."""
        if size_bytes is not None and size_bytes < LARGE_BYTES:
            yield
            return
        with trio.move_on_after(self._patience_s) as waiting:
            await self._slots.acquire()
        if waiting.cancelled_caught:
            raise unavailable("too many large manifests are on their way: retry shortly", _RETRY_AFTER_S)
        try:
            yield
        finally:
            self._slots.release()

    def answer(self, repository: Repository, image: str, document: Document, headers: dict[str, str]) -> Response:
        """An answer that holds the bytes only while it is sent; they are read again when there is room."""
        source = self._source(repository, image, document.digest, document.size_bytes)
        return blob_response(source, size_bytes=document.size_bytes, content_type=document.media_type, headers=headers)

    @asynccontextmanager
    async def _source(
        self, repository: Repository, image: str, digest: Digest, size_bytes: int
    ) -> AsyncIterator["_Whole"]:
        async with self.room(size_bytes):
            yield _Whole((await repository.manifest(image, digest)).document.content)


@dataclass(frozen=True, slots=True)
class _Whole:
    """Bytes in memory as a source of chunks."""

    content: bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order."""
        for start in range(0, len(self.content), CHUNK_BYTES):
            yield self.content[start : start + CHUNK_BYTES]
