"""A hot set in front of a store, as the tests see both; and origins that count, break, stall and lie."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from storage.blobstore import BlobReader, BlobStore, OpenFile, Span, StoredObject
from storage.blocking import Pool
from storage.digest import Digest
from storage.errors import Unavailable
from storage.hotset import HotSet
from storage.hotset_store import HotSetStore
from storage.intake import Intakes
from storage.memory import MemoryStore
from tests.storage.place import Place

MIB = 1 << 20


async def hot_set(
    directory: Path,
    *,
    capacity_bytes: int = 64 * MIB,
    reserve_bytes: int = 0,
    recheck_s: float = 1000.0,
    clock: Callable[[], float] = time.time,
) -> HotSet:
    """A hot set that is ready for use; without a reserve, as the disks of tests may be full."""
    hotset = HotSet(
        directory,
        capacity_bytes=capacity_bytes,
        pool=Pool("hot", 4),
        reserve_bytes=reserve_bytes,
        recheck_s=recheck_s,
        clock=clock,
    )
    await hotset.prepare()
    return hotset


class HotSetPlace:
    """A hot set over another place."""

    def __init__(self, origin: Place, directory: Path, intakes: Intakes) -> None:
        self.origin = origin
        self.directory = directory
        self.intakes = intakes

    async def open(self) -> BlobStore:
        """A new store over both, as after a restart."""
        return HotSetStore(await self.origin.open(), await hot_set(self.directory), self.intakes)

    async def cut(self, key: str, size_bytes: int) -> None:
        """Damage the origin's object."""
        await self.origin.cut(key, size_bytes)


@dataclass
class Behaviour:
    """How an origin behaves. `breaks_at`: offsets where its stream breaks, each once; `flips`: bytes it gets wrong."""

    breaks_at: list[int] = field(default_factory=list)
    flips: set[int] = field(default_factory=set)
    flips_once: bool = False
    flips_of: Digest | None = None
    before_chunk: Callable[[int], Awaitable[None]] | None = None
    opened: list[Span] = field(default_factory=list)
    given_bytes: int = 0


class OddStore(MemoryStore):
    """A memory store whose readers behave as told, and count what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.behaviour = Behaviour()

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """As the memory store, with a scope inside, as a network client may have: it must be left in its turn."""
        async with super().open(stored, span) as reader:
            with trio.CancelScope():
                self.behaviour.opened.append(span)
                odd = _OddReader(reader, span, stored.digest, self.behaviour)
                try:
                    yield odd
                finally:
                    await odd.aclose()


class _OddReader:
    def __init__(self, reader: BlobReader, span: Span, digest: Digest, behaviour: Behaviour) -> None:
        self._reader = reader
        self._span = span
        self._digest = digest
        self._behaviour = behaviour
        self._chunks: AsyncGenerator[bytes, None] | None = None

    @property
    def file(self) -> OpenFile | None:
        return None

    def chunks(self) -> AsyncIterator[bytes]:
        self._chunks = self._give()
        return aiter(self._chunks)

    async def aclose(self) -> None:
        if self._chunks is not None:
            await self._chunks.aclose()

    async def _give(self) -> AsyncGenerator[bytes, None]:
        position, how = self._span.start, self._behaviour
        async for right in self._reader.chunks():
            chunk = right
            if how.before_chunk is not None:
                await how.before_chunk(position)
            for wrong in sorted(how.flips if how.flips_of in {None, self._digest} else ()):
                if position <= wrong < position + len(chunk):
                    at = wrong - position
                    chunk = chunk[:at] + bytes([chunk[at] ^ 1]) + chunk[at + 1 :]
                    if how.flips_once:
                        how.flips.discard(wrong)
            broken = next((each for each in how.breaks_at if position <= each < position + len(chunk)), None)
            if broken is not None:
                how.breaks_at.remove(broken)
                if part := chunk[: broken - position]:
                    how.given_bytes += len(part)
                    yield part
                raise Unavailable("the stream broke")
            position += len(chunk)
            how.given_bytes += len(chunk)
            yield chunk
