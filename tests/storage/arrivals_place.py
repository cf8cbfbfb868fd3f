"""An installation with blobs on their way in, and an upstream that counts, breaks, stalls and lies."""

import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from storage import (
    Arrivals,
    BlobReader,
    Content,
    Database,
    Digest,
    Intakes,
    Place,
    Pool,
    RepositoryRecord,
    Span,
    Unavailable,
)
from storage.blobstore import CHUNK_BYTES, OpenFile
from storage.intake_reading import FollowingReader
from tests.storage.place import read
from tests.storage.scene import Scene

MIB = 1 << 20
CONTENT = random.Random(9).randbytes(3 * MIB + 17)
SIZE = len(CONTENT)


@dataclass
class Upstream:
    """One blob of an upstream, as a `Source`. `breaks_at`: offsets where its stream breaks, each once."""

    content: bytes
    error: Exception | None = None
    breaks_at: list[int] = field(default_factory=list)
    flips: set[int] = field(default_factory=set)
    surplus: bytes = b""
    before_chunk: Callable[[int], Awaitable[object]] | None = None
    chunk_bytes: int = CHUNK_BYTES
    opened: list[Span] = field(default_factory=list)
    given_bytes: int = 0

    @property
    def name(self) -> str:
        """For messages."""
        return "blob of registry.example"

    @property
    def digest(self) -> Digest:
        """What it should have."""
        return Digest.of(self.content)

    @asynccontextmanager
    async def read(self, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        """One GET; with a scope inside, as a network client has one: it must be left in its turn."""
        with trio.CancelScope():
            self.opened.append(span)
            if self.error is not None:
                raise self.error
            async with aclosing(self._give(span)) as chunks:
                yield chunks

    async def _give(self, span: Span) -> AsyncGenerator[bytes, None]:
        data = bytearray(self.content)
        for wrong in self.flips:
            data[wrong] ^= 1
        position = span.start
        while position < span.stop:
            if self.before_chunk is not None:
                await self.before_chunk(position)
            else:
                await trio.lowlevel.checkpoint()
            stop = min(position + self.chunk_bytes, span.stop)
            broken = next((each for each in self.breaks_at if position <= each < stop), None)
            if broken is not None:
                self.breaks_at.remove(broken)
                stop = broken
            if stop > position:
                self.given_bytes += stop - position
                yield bytes(data[position:stop])
            position = stop
            if broken is not None:
                raise Unavailable("the connection broke")
        if self.surplus:
            yield self.surplus


@dataclass
class Dock:
    """Where blobs arrive: the arrivals of one process, and what they lie between."""

    scene: Scene
    root: Path
    intakes: Intakes
    arrivals: Arrivals

    async def pull(
        self,
        upstream: Upstream,
        image: str = "app",
        *,
        span: Span | None = None,
        repository: RepositoryRecord | None = None,
        digest: Digest | None = None,
    ) -> bytes:
        """What a client gets that pulls it through: all pieces, as the gateway would send them."""
        size_bytes = len(upstream.content)
        got = bytearray()
        async with self.open(upstream, image, span=span, repository=repository, digest=digest) as reader:
            if not isinstance(reader, FollowingReader):
                return await read(reader)
            async for piece in reader.pieces():
                got += piece if isinstance(piece, bytes) else sent(piece)
        assert len(got) == (span.size_bytes if span else size_bytes)
        return bytes(got)

    async def pull_into(self, chunks: list[bytes], upstream: Upstream, *, span: Span) -> None:
        """The same chunk by chunk, so that what came before a failure is known."""
        async with self.open(upstream, span=span) as reader:
            async for chunk in reader.chunks():
                chunks.append(chunk)

    def open(
        self,
        upstream: Upstream,
        image: str = "app",
        *,
        span: Span | None = None,
        repository: RepositoryRecord | None = None,
        digest: Digest | None = None,
    ) -> AbstractAsyncContextManager[BlobReader]:
        """`Arrivals.open` of that blob."""
        place = Place(repository or self.scene.repository, image)
        size_bytes = len(upstream.content)
        return self.arrivals.open(place, digest or upstream.digest, size_bytes, upstream, span or Span(0, size_bytes))

    async def fetch(self, upstream: Upstream, image: str = "app") -> None:
        """Bring it in."""
        place = Place(self.scene.repository, image)
        await self.arrivals.fetch(place, upstream.digest, len(upstream.content), upstream)

    async def idle(self) -> None:
        """Wait until nothing is fetched or published any more."""
        await self.intakes.wait_idle()
        await trio.testing.wait_all_tasks_blocked()

    async def stored(self, image: str = "app", digest: Digest | None = None) -> bytes:
        """What the image has by now of `CONTENT`, or under that digest, without any upstream."""
        return await self.scene.pull(digest or Digest.of(CONTENT), image)

    def files(self) -> list[Path]:
        """The growing files."""
        return sorted((self.root / "main").iterdir())


def sent(piece: OpenFile) -> bytes:
    """What sendfile would give to the client."""
    return os.pread(piece.descriptor, piece.stop - piece.start, piece.start)


@asynccontextmanager
async def dock(
    scene: Scene,
    root: Path,
    *,
    content: Content | None = None,
    database: Database | None = None,
    is_shared: bool = False,
) -> AsyncIterator[Dock]:
    """A process' arrivals below `root`; without a reserve, as the disks of tests may be full."""
    async with Intakes.open() as intakes:
        arrivals = Arrivals(
            root,
            content=content or scene.content,
            database=database or scene.database,
            intakes=intakes,
            pool=Pool("arrivals", 4),
            is_shared=is_shared,
            reserve_bytes=0,
            clock=scene.clock,
        )
        await arrivals.prepare()
        yield Dock(scene, root, intakes, arrivals)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what threads and files do, which tell nobody; short pauses leave them the processor."""
    while not condition():  # noqa: ASYNC110 - see above
        await trio.sleep(0.002)


async def quietly_fetch(docked: Dock, upstream: Upstream) -> None:
    """A fetch whose service is stopped."""
    with pytest.raises(Unavailable):
        await docked.fetch(upstream)
