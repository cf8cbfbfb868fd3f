"""One fill, many readers: what they get, in whatever order they come, leave, and the origin fails."""

import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from storage import intake as intake_module
from storage.blobstore import CHUNK_BYTES, OpenFile, Span, StoredObject
from storage.errors import BlobUnknown, Damaged, StorageError, StorageFull, Unavailable
from storage.hotset import HotSet
from storage.hotset_files import Entry, GrowingFile
from storage.hotset_store import HotSetStore
from storage.intake import Intakes
from storage.intake_reading import FollowingReader
from tests.storage.hotset_place import MIB, OddStore, hot_set
from tests.storage.place import content_of, put, read

CONTENT = random.Random(4).randbytes(3 * MIB + 17)


@dataclass
class Front:
    """A hot set in front of an odd origin that has one blob."""

    origin: OddStore
    hotset: HotSet
    store: HotSetStore
    intakes: Intakes
    stored: StoredObject
    reported: list[StoredObject] = field(default_factory=list)

    async def report(self, stored: StoredObject) -> None:
        """What is called on damage."""
        self.reported.append(stored)

    async def pull(self) -> bytes:
        """The whole blob."""
        return await content_of(self.store, self.stored)

    async def pull_into(self, got: list[bytes]) -> None:
        """The same, chunk by chunk, so that what came before a failure is known."""
        async with self.store.open(self.stored, Span(0, len(CONTENT))) as reader:
            async for chunk in reader.chunks():
                got.append(chunk)

    async def idle(self) -> None:
        """Wait until no fill runs."""
        await self.intakes.wait_idle()

    @property
    def kept(self) -> int:
        """How many files are kept."""
        return len(list(self.hotset._layout.walk_kept()))

    @property
    def growing(self) -> list[int]:
        """The sizes of the growing files."""
        return [path.stat().st_size for path, _ in self.hotset._layout.walk_growing()]


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    """The origin has the blob; nothing is kept."""
    origin = OddStore()
    hotset = await hot_set(tmp_path / "hot")
    async with Intakes.open() as intakes:
        store = HotSetStore(origin, hotset, intakes)
        made = Front(origin, hotset, store, intakes, await put(origin, "one", CONTENT))
        store.on_damage = made.report
        yield made


async def test_a_warm_pull_costs_the_origin_nothing(front: Front) -> None:
    """The first pull fetches the blob once; the second is a file on this disk, whatever span it asks for."""
    assert await front.pull() == CONTENT
    await front.idle()
    fetched = list(front.origin.behaviour.opened)
    for span in (Span(0, len(CONTENT)), Span(5, 10)):
        async with front.store.open(front.stored, span) as reader:
            assert reader.file is not None
            assert os.pread(reader.file.descriptor, span.size_bytes, span.start) == CONTENT[span.start : span.stop]
            assert await read(reader) == CONTENT[span.start : span.stop]
    assert front.origin.behaviour.opened == fetched == [Span(0, len(CONTENT))]


@pytest.mark.slow
async def test_two_hundred_readers_at_random_times(front: Front, autojump_clock: trio.testing.MockClock) -> None:
    """However they come and go, and wherever the stream breaks, the origin gives each byte once."""
    chance = random.Random(5)
    front.origin.behaviour.breaks_at = [100_000, 1_500_000, len(CONTENT) - 1]
    done = 0

    async def slowly(_position: int) -> None:
        await trio.sleep(0.01)

    front.origin.behaviour.before_chunk = slowly

    async def reader(delay: float, quits_after: int, pause: float) -> None:
        nonlocal done
        await trio.sleep(delay)
        start = chance.choice([0, 0, 0, len(CONTENT) // 2])
        async with front.store.open(front.stored, Span(start, len(CONTENT))) as reader:
            got = bytearray()
            async for chunk in reader.chunks():
                got += chunk
                if len(got) >= quits_after:
                    return
                await trio.sleep(pause)
        assert bytes(got) == CONTENT[start:]
        done += 1

    async with trio.open_nursery() as nursery:
        for number in range(200):
            quits = chance.choice([1, 500_000, 1 << 40, 1 << 40])
            nursery.start_soon(reader, chance.random() * 0.3, quits, 0.0 if number % 3 else chance.random() * 0.02)
    assert done > 50
    await front.idle()
    assert front.origin.behaviour.given_bytes == len(CONTENT)
    assert front.intakes.statistics().source_bytes == len(CONTENT)
    assert await front.pull() == CONTENT
    assert front.origin.behaviour.given_bytes == len(CONTENT)


async def test_wrong_bytes_reach_nobody_to_the_end(front: Front) -> None:
    """Every reader gets `Damaged` before its last byte, nothing is kept, and it is reported once."""
    front.origin.behaviour.flips = {len(CONTENT) // 2}
    outcomes: list[int] = []

    async def reader() -> None:
        got: list[bytes] = []
        with pytest.raises(Damaged):
            await front.pull_into(got)
        outcomes.append(len(b"".join(got)))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(reader)
    await front.idle()
    assert len(outcomes) == 10
    assert max(outcomes) <= len(CONTENT) - CHUNK_BYTES
    assert (front.kept, front.growing, front.reported) == (0, [], [front.stored])


async def test_small_blob_is_verified_before_its_first_byte(front: Front) -> None:
    """Of a blob of one chunk nothing at all is given before it is known to be right."""
    small = await put(front.origin, "small", b"x" * CHUNK_BYTES)
    front.origin.behaviour.flips = {5}
    with pytest.raises(Damaged):
        async with front.store.open(small, Span(0, small.size_bytes)):
            pytest.fail("it was opened")


async def test_last_chunk_waits_for_the_end(front: Front) -> None:
    """While the last byte is not here, a reader has everything but the last chunk; not less."""
    arrives = trio.Event()

    async def wait_at_the_end(position: int) -> None:
        if position + CHUNK_BYTES > len(CONTENT):
            await arrives.wait()

    front.origin.behaviour.before_chunk = wait_at_the_end
    front.origin.behaviour.breaks_at = []
    async with front.store.open(front.stored, Span(0, len(CONTENT))) as reader:
        assert isinstance(reader, FollowingReader)
        pieces = reader.pieces()
        position = 0
        while position < len(CONTENT) - 4 * CHUNK_BYTES:
            piece = await anext(pieces)
            assert isinstance(piece, OpenFile)
            position = piece.stop
        await trio.testing.wait_all_tasks_blocked()
        running = front.intakes.find(front.hotset, front.stored.key)
        assert running is not None
        assert position <= running.released_bytes <= len(CONTENT) - CHUNK_BYTES
        arrives.set()
    assert await front.pull() == CONTENT


async def test_stream_that_breaks_too_often(front: Front, autojump_clock: trio.testing.MockClock) -> None:
    """It is given up after some resumptions, readers are told to retry, and the next pull goes on where it broke."""
    front.origin.behaviour.breaks_at = [1_000_000 + number for number in range(6)]
    with pytest.raises(Unavailable):
        await front.pull()
    await front.idle()
    assert front.growing == [1_000_005]
    assert await front.pull() == CONTENT
    assert front.origin.behaviour.given_bytes == len(CONTENT)


async def test_leaving_does_not_stop_the_fill(front: Front) -> None:
    """A blob whose only reader left early is fetched to its end and kept."""
    async with front.store.open(front.stored, Span(0, len(CONTENT))) as reader:
        await anext(reader.chunks())
    await front.idle()
    assert (front.kept, front.origin.behaviour.given_bytes) == (1, len(CONTENT))


async def test_abandoned_large_fill_stops(
    front: Front, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """With much missing and nobody back after a while it stops; whoever comes then goes on with what is there."""
    monkeypatch.setattr(intake_module, "FINISH_BYTES", MIB)

    async def slowly(_position: int) -> None:
        await trio.sleep(intake_module.LINGER_S / 3)

    front.origin.behaviour.before_chunk = slowly
    async with front.store.open(front.stored, Span(0, len(CONTENT))) as reader:
        await anext(reader.chunks())
    await front.idle()
    left = front.growing[0]
    assert 0 < left < len(CONTENT) - MIB
    assert await front.pull() == CONTENT
    assert front.origin.behaviour.opened[-1] == Span(left, len(CONTENT))
    assert front.reported == []


async def test_small_span_of_a_cold_blob(front: Front) -> None:
    """Less than half of a blob that is not here comes from the origin, as it is, and nothing else is fetched."""
    span = Span(100, 100 + CHUNK_BYTES)
    assert await content_of(front.store, front.stored, span) == CONTENT[100 : 100 + CHUNK_BYTES]
    assert front.origin.behaviour.opened == [span]
    assert front.intakes.statistics().intakes == 0


async def test_small_span_of_a_blob_on_its_way(front: Front) -> None:
    """What has come in already is read from there; what has not is asked of the origin."""
    arrives = trio.Event()

    async def wait_in_the_middle(position: int) -> None:
        if position == 2 * MIB:
            await arrives.wait()

    front.origin.behaviour.before_chunk = wait_in_the_middle
    async with front.store.open(front.stored, Span(0, len(CONTENT))) as first:
        chunks = first.chunks()
        for _ in range(4):
            await anext(chunks)
        assert await content_of(front.store, front.stored, Span(10, 20)) == CONTENT[10:20]
        assert front.origin.behaviour.opened == [Span(0, len(CONTENT))]
        late = Span(len(CONTENT) - 10, len(CONTENT))
        assert await content_of(front.store, front.stored, late) == CONTENT[-10:]
        assert front.origin.behaviour.opened[1:] == [late]
        arrives.set()


async def test_disk_full_midway(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of a blob that the disk takes no more of go on at the origin, each by itself, and get the right bytes."""
    monkeypatch.setattr(GrowingFile, "append", _full_after(MIB))
    got: list[bytes] = []

    async def reader(span: Span) -> None:
        got.append(await content_of(front.store, front.stored, span))

    async with trio.open_nursery() as nursery:
        for start in (0, 0, len(CONTENT) // 3):
            nursery.start_soon(reader, Span(start, len(CONTENT)))
    assert sorted(got, key=len) == [CONTENT[len(CONTENT) // 3 :], CONTENT, CONTENT]
    assert (front.kept, front.growing, front.reported) == (0, [], [])


async def test_wrong_bytes_after_the_disk_was_full(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that goes on by itself checks the whole digest, over what it got from the file too."""
    monkeypatch.setattr(GrowingFile, "append", _full_after(MIB))
    front.origin.behaviour.flips = {5}
    got: list[bytes] = []
    with pytest.raises(Damaged):
        await front.pull_into(got)
    assert MIB // 2 < len(b"".join(got)) < len(CONTENT)
    await trio.testing.wait_all_tasks_blocked()
    assert front.reported == [front.stored]


def _full_after(size_bytes: int) -> object:
    append = GrowingFile.append

    def appending(self: GrowingFile, parts: list[bytes], position: int) -> int:
        if position >= size_bytes:
            raise OSError(28, "No space left on device")
        return append(self, parts, position)

    return appending


@pytest.mark.parametrize("error", [BlobUnknown("gone"), Damaged("cut"), Unavailable("down"), StorageFull("odd")])
async def test_origin_that_refuses(
    front: Front, error: StorageError, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """What the origin says when it is opened is what every reader gets, each its own; nothing is left."""

    def refuse(*_: object) -> object:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(front.origin, "open", refuse)
        seen = []
        for _ in range(2):
            with pytest.raises(type(error), match=str(error)) as caught:
                await front.pull()
            seen.append(caught.value)
            await front.idle()
    assert seen[0] is not seen[1]
    await front.idle()
    assert (front.kept, front.growing) == (0, [])
    assert front.reported == ([front.stored] * 2 if isinstance(error, Damaged) else [])
    assert await front.pull() == CONTENT


async def test_source_with_errors_of_its_own(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that storage does not know fails this blob's readers, and neither the others nor the service."""

    def explode(*_: object) -> object:
        raise LookupError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(front.origin, "open", explode)
        with pytest.raises(Unavailable, match="LookupError"):
            await front.pull()
    assert await front.pull() == CONTENT


async def test_stopping_the_service(tmp_path: Path) -> None:
    """Readers of a fill that is stopped are told to retry, and what came stays for another process."""
    origin, hotset = OddStore(), await hot_set(tmp_path / "hot")
    stored = await put(origin, "one", CONTENT)
    stalled = trio.Event()

    async def stall(position: int) -> None:
        if position >= 2 * MIB:
            stalled.set()
            await trio.sleep_forever()

    origin.behaviour.before_chunk = stall
    stop = trio.Event()

    async def serve(task_status: trio.TaskStatus[Intakes]) -> None:
        async with Intakes.open() as intakes:
            task_status.started(intakes)
            await stop.wait()

    async with trio.open_nursery() as nursery:
        intakes = await nursery.start(serve)
        async with HotSetStore(origin, hotset, intakes).open(stored, Span(0, len(CONTENT))) as reader:
            chunks = reader.chunks()
            await anext(chunks)
            await stalled.wait()
            stop.set()
            with pytest.raises(Unavailable, match="stopped"):
                async for _ in chunks:
                    pass
    origin.behaviour.before_chunk = None
    async with Intakes.open() as intakes:
        assert await content_of(HotSetStore(origin, hotset, intakes), stored) == CONTENT
    assert origin.behaviour.opened[-1].start >= MIB


async def test_filler_that_hangs(front: Front, autojump_clock: trio.testing.MockClock) -> None:
    """Who follows a process that lives and does nothing waits for a while, and goes on at the origin by itself."""
    entry = Entry(front.stored.key, front.stored.digest, front.stored.size_bytes)
    hanging = await front.hotset.claim(entry)
    assert isinstance(hanging, GrowingFile)
    front.hotset.append(hanging, [CONTENT[:MIB]], 0)
    assert await front.pull() == CONTENT
    assert 45 < trio.current_time() < 60
    assert front.origin.behaviour.opened == [Span(MIB, len(CONTENT))]
    hanging.close()


async def test_removed_on_its_way(front: Front) -> None:
    """A blob that is removed while it comes in is read to its end by who reads it, and is not kept."""
    async with front.store.open(front.stored, Span(0, len(CONTENT))) as reader:
        chunks = reader.chunks()
        got = await anext(chunks)
        await front.store.remove(front.stored.key)
        async for chunk in chunks:
            got += chunk
    assert got == CONTENT
    await front.idle()
    with pytest.raises(BlobUnknown):
        await front.pull()
    assert front.kept == 0


async def test_statistics(front: Front) -> None:
    """What runs and who reads is counted, and nothing stays open afterwards."""
    async with front.store.open(front.stored, Span(0, len(CONTENT))) as reader:
        await anext(reader.chunks())
        assert front.intakes.statistics().readers == 1
    await front.idle()
    now = front.intakes.statistics()
    assert (now.intakes, now.readers, now.source_bytes, now.followed) == (0, 0, len(CONTENT), 0)
    assert (front.hotset.statistics().misses, front.hotset.statistics().kept) == (1, 1)
