"""Blobs on their way in from an upstream: fetched once, read by everybody who wants them, then published."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.blobstore import BlobReader, Span
from storage.blocking import Pool
from storage.content import Content
from storage.database import Database
from storage.digest import Digest
from storage.intake import Intakes
from storage.intake_source import Source
from storage.records import RepositoryRecord


@dataclass(frozen=True, slots=True)
class Place:
    """Who wants a blob: an image of a repository. It gets the link once the blob is published."""

    repository: RepositoryRecord
    image: str


class Arrivals:
    """All blobs that are on their way in to this process."""

    def __init__(
        self,
        directory: Path,
        *,
        content: Content,
        database: Database,
        intakes: Intakes,
        pool: Pool,
        is_shared: bool,
        reserve_bytes: int = 1 << 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        raise NotImplementedError

    async def prepare(self) -> None:
        """Make the directories, remove what killed processes left."""
        raise NotImplementedError

    @asynccontextmanager
    async def open(
        self, place: Place, digest: Digest, size_bytes: int, source: Source, span: Span
    ) -> AsyncIterator[BlobReader]:
        """Read along."""
        raise NotImplementedError
        yield

    async def fetch(self, place: Place, digest: Digest, size_bytes: int, source: Source) -> None:
        """Bring it in and publish it."""
        raise NotImplementedError

    async def upkeep(self) -> None:
        """One turn of what has to be done every minute or so."""
        raise NotImplementedError
