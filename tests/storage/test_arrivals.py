"""Blobs from upstreams: one fetch for all, right or not at all, published once, and nothing left behind."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from storage import BlobUnknown, Damaged, Digest, Span, StorageError, Unavailable
from storage import arrivals as arrivals_module
from storage import intake as intake_module
from storage.arrivals_files import ArrivalsDirectory
from storage.blobstore import CHUNK_BYTES
from tests.storage import lease_rows
from tests.storage.arrivals_place import CONTENT, MIB, SIZE, Dock, Upstream, dock, sent, until
from tests.storage.directory import open_below
from tests.storage.place import areas_of, cancel_after, objects_of
from tests.storage.scene import Scene

pytestmark = pytest.mark.usefixtures("quick_arrivals")

# --- one fetch ------------------------------------------------------------------------------------------------------


async def test_two_hundred_readers_cost_one_fetch(docked: Dock) -> None:
    """Readers at random times, slow ones, ranges, and clients that are killed: one GET, each byte once, all right."""
    chance = random.Random(3)
    upstream = Upstream(CONTENT, chunk_bytes=64 * 1024)
    fetched = trio.Event()

    async def steadily(position: int) -> None:
        await trio.sleep(0.001)
        if position + upstream.chunk_bytes >= SIZE:
            fetched.set()

    upstream.before_chunk = steadily
    right = 0

    async def reader(number: int) -> None:
        nonlocal right
        for _ in range(chance.randrange(200)):
            await trio.lowlevel.checkpoint()
        start = chance.choice([0, 0, 0, chance.randrange(SIZE)])
        span = Span(start, chance.choice([SIZE, SIZE, chance.randrange(start, SIZE + 1)]))
        with trio.CancelScope() as scope:
            async with docked.open(upstream, f"image-{number % 7}", span=span) as given:
                got = bytearray()
                async for chunk in given.chunks():
                    got += chunk
                    if number % 5 == 1:
                        await trio.sleep(0.002)
                    if number % 5 == 2 and len(got) > SIZE // 3:
                        scope.cancel()
                assert bytes(got) == CONTENT[span.start : span.stop]
                right += 1

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(reader, number)
    await docked.idle()
    assert fetched.is_set()
    assert right >= 160
    assert (upstream.opened, upstream.given_bytes) == ([Span(0, SIZE)], SIZE)
    for number in range(7):
        assert await docked.stored(f"image-{number}") == CONTENT
    assert (docked.files(), docked.arrivals.statistics().published) == ([], 1)
    assert len(await objects_of(docked.scene.store)) == 1


async def test_bytes_are_given_while_they_come(docked: Dock) -> None:
    """A reader has what came, but for the last chunk, before the rest is here; a late one begins with what is there."""
    upstream, rest = Upstream(CONTENT), trio.Event()

    async def stall(position: int) -> None:
        if position >= 2 * MIB:
            await rest.wait()

    upstream.before_chunk = stall
    async with docked.open(upstream) as first, docked.open(upstream, "late", span=Span(5, MIB)) as late:
        chunks = first.chunks()
        got = bytearray()
        while len(got) < MIB:
            got += await anext(chunks)
        of_span, part = late.chunks(), bytearray()
        while len(part) < MIB - 5 - 1:
            part += await anext(of_span)
        rest.set()
        async for chunk in chunks:
            got += chunk
        async for chunk in of_span:
            part += chunk
    assert bytes(got) == CONTENT
    assert bytes(part) == CONTENT[5:MIB]
    assert upstream.opened == [Span(0, SIZE)]


@pytest.mark.parametrize("span", [Span(0, 1000), Span(MIB, 2 * MIB), Span(99, 100), Span(SIZE - 5, SIZE)])
@pytest.mark.parametrize("has_room", [True, False])
async def test_no_span_of_wrong_bytes_ends_well(
    docked: Dock, monkeypatch: pytest.MonkeyPatch, span: Span, *, has_room: bool
) -> None:
    """P3: a range of a blob whose bytes are wrong, in it or elsewhere, is broken off before its last byte."""
    monkeypatch.setattr(ArrivalsDirectory, "_free_bytes", lambda _self: 2 * SIZE if has_room else 0)
    upstream = Upstream(CONTENT, flips={100})
    chunks: list[bytes] = []

    with pytest.raises(Damaged):
        await docked.pull_into(chunks, upstream, span=span)

    assert len(b"".join(chunks)) < span.size_bytes


@pytest.mark.parametrize("span", [Span(0, 1000), Span(5, SIZE - 5), Span(99, 100), Span(SIZE - 5, SIZE)])
async def test_spans_without_room(docked: Dock, monkeypatch: pytest.MonkeyPatch, span: Span) -> None:
    """Who reads a range of a blob that finds no room gets exactly that."""
    monkeypatch.setattr(ArrivalsDirectory, "_free_bytes", lambda _self: 0)
    upstream = Upstream(CONTENT)

    assert await docked.pull(upstream, span=span) == CONTENT[span.start : span.stop]


async def test_a_wrong_size_is_not_served_from_the_right_blob(docked: Dock) -> None:
    """Who was told another size by a manifest does not get so many of the bytes that are here as if that were all."""
    await docked.pull(Upstream(CONTENT))
    await docked.idle()
    short = Upstream(CONTENT[:5])

    with pytest.raises(Damaged):
        await docked.pull(short, "other", digest=Digest.of(CONTENT))


async def test_only_so_many_at_once(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves at once does not make the process open files without end; who waits gets the blob in turn."""
    monkeypatch.setattr(arrivals_module, "MOST", 2)
    go_on, pulled = trio.Event(), 0

    async def stall(_position: int) -> None:
        await go_on.wait()

    blobs = [Upstream(CONTENT[number:], before_chunk=stall) for number in range(6)]

    async def pull(upstream: Upstream) -> None:
        nonlocal pulled
        assert await docked.pull(upstream) == upstream.content
        pulled += 1

    for upstream in blobs:
        with trio.move_on_after(0.05):
            await pull(upstream)
    assert len(docked.files()) == docked.intakes.statistics().intakes == 2
    async with trio.open_nursery() as nursery:
        for upstream in blobs:
            nursery.start_soon(pull, upstream)
        await trio.testing.wait_all_tasks_blocked()
        assert docked.intakes.statistics().intakes == 2
        go_on.set()
    assert pulled == len(blobs)
    assert [len(upstream.opened) for upstream in blobs] == [1] * len(blobs)


async def test_connection_that_breaks(docked: Dock) -> None:
    """A stream that breaks is gone on with by range, and no byte is fetched twice."""
    upstream = Upstream(CONTENT, breaks_at=[MIB + 3, 2 * MIB + 1])
    assert await docked.pull(upstream) == CONTENT
    assert upstream.opened == [Span(0, SIZE), Span(MIB + 3, SIZE), Span(2 * MIB + 1, SIZE)]
    assert upstream.given_bytes == SIZE


async def test_leaving_never_stops_the_fetch(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is missing when the only reader leaves, the blob is fetched to its end, and published."""
    monkeypatch.setattr(intake_module, "FINISH_BYTES", 0)
    monkeypatch.setattr(intake_module, "LINGER_S", 0.0)
    upstream = Upstream(CONTENT)
    async with docked.open(upstream) as reader:
        await anext(reader.chunks())
    await docked.idle()
    assert await docked.stored() == CONTENT


async def test_a_trickle_that_nobody_reads_is_put_off(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that gives next to nothing holds nothing for ever; what it gave is gone on with by who comes next."""
    monkeypatch.setattr(intake_module, "_CRAWL_S", 0.05)
    monkeypatch.setattr(intake_module, "CRAWL_BYTES_S", 1 << 40)
    upstream = Upstream(CONTENT)

    async def slowly(position: int) -> None:
        await trio.sleep(0.06 if position >= MIB else 0)

    upstream.before_chunk = slowly
    async with docked.open(upstream) as reader:
        assert await anext(reader.chunks())
    await docked.idle()
    assert upstream.given_bytes < SIZE
    assert len(docked.files()) == 1

    assert await docked.pull(upstream) == CONTENT
    assert upstream.opened[1].start > 0


async def test_whoever_comes_during_publishing(docked: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that asks while the blob is being published, or a moment later, gets its link too, and no second GET."""
    upstream, content = Upstream(CONTENT), docked.scene.content
    adopt, adopting, go_on = content.adopt, trio.Event(), trio.Event()

    async def slowly(*args: object, **kwargs: object) -> object:
        found = await adopt(*args, **kwargs)  # type: ignore[arg-type]
        adopting.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(content, "adopt", slowly)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(docked.pull, upstream, "first")
        await adopting.wait()
        nursery.start_soon(docked.pull, upstream, "second")
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    await docked.idle()
    for image in ("first", "second"):
        assert await docked.stored(image) == CONTENT
    assert upstream.opened == [Span(0, SIZE)]


async def test_published_meanwhile(docked: Dock) -> None:
    """Who asks for a blob that was published a moment before reads it from the store, and its image is linked."""
    upstream = Upstream(CONTENT)
    await docked.fetch(upstream, "first")
    assert await docked.pull(upstream, "second") == CONTENT
    assert await docked.stored("second") == CONTENT
    assert upstream.opened == [Span(0, SIZE)]
    assert docked.arrivals.statistics().spared == 1


async def test_other_repositories_fetch_for_themselves(docked: Dock) -> None:
    """A digest that one repository has, or is fetching, is asked of the other's own upstream: a claim gives nothing."""
    theirs, ours = Upstream(CONTENT), Upstream(CONTENT, error=BlobUnknown("no such blob"))
    await docked.fetch(theirs)
    with pytest.raises(BlobUnknown):
        await docked.pull(ours, repository=docked.scene.other)
    ours.error = None
    assert await docked.pull(ours, repository=docked.scene.other) == CONTENT
    await docked.idle()
    assert ours.given_bytes == SIZE
    assert len(await objects_of(docked.scene.store)) == 1


async def test_fetch_is_over_when_it_is_published(docked: Dock) -> None:
    """`fetch` returns with the blob stored and linked, together with a reader that came before."""
    upstream = Upstream(CONTENT)
    async with docked.open(upstream, "reader") as reader:
        await docked.fetch(upstream, "warmed")
        assert await docked.stored("warmed") == await docked.stored("reader") == CONTENT
        assert reader.file is not None
        assert sent(reader.file) == CONTENT
    assert upstream.given_bytes == SIZE


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1])
async def test_small_blobs(docked: Dock, size_bytes: int) -> None:
    """Blobs of no byte, of one, and around one chunk arrive as any other."""
    upstream = Upstream(CONTENT[:size_bytes])
    assert await docked.pull(upstream) == upstream.content
    await docked.idle()
    assert await docked.stored(digest=upstream.digest) == upstream.content


async def test_asked_for_by_sha512(docked: Dock) -> None:
    """A blob that a manifest names by sha512 is checked by that, and readable under it."""
    digest = Digest.of(CONTENT, "sha512")
    upstream = Upstream(CONTENT)
    assert await docked.pull(upstream, digest=digest) == CONTENT
    await docked.idle()
    assert await docked.stored(digest=digest) == CONTENT
    upstream.flips = {7}
    with pytest.raises(Damaged):
        await docked.pull(upstream, repository=docked.scene.other, digest=digest)


# --- wrong bytes and other trouble of the upstream ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flip", "flip at the end", "surplus"])
async def test_wrong_bytes(docked: Dock, how: str) -> None:
    """Every reader gets `Damaged` before the last chunk, nothing is published, and the next good fetch succeeds."""
    upstream = Upstream(CONTENT)
    upstream.flips = {"flip": {5}, "flip at the end": {SIZE - 1}, "surplus": set()}[how]
    upstream.surplus = b"more" if how == "surplus" else b""
    got: list[int] = []

    async def reader(start: int) -> None:
        chunks: list[bytes] = []
        with pytest.raises(Damaged):
            await docked.pull_into(chunks, upstream, span=Span(start, SIZE))
        got.append(start + sum(map(len, chunks)))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(reader, number * 1000)
    await docked.idle()
    assert max(got) <= SIZE - CHUNK_BYTES
    assert (await objects_of(docked.scene.store), docked.files()) == ({}, [])
    with pytest.raises(BlobUnknown):
        await docked.stored()
    upstream.flips, upstream.surplus = set(), b""
    assert await docked.pull(upstream) == CONTENT
    await docked.idle()
    assert await docked.stored() == CONTENT


async def test_another_size(docked: Dock) -> None:
    """Who claims another size fails alone: it is another arrival."""
    upstream, short = Upstream(CONTENT), Upstream(CONTENT[:-5])
    with pytest.raises(Damaged):
        await docked.pull(short, digest=upstream.digest)
    assert await docked.pull(upstream) == CONTENT


class Teapot(Exception):
    """What the gateway's own kind of trouble is to storage: unknown."""


@pytest.mark.parametrize("kind", [BlobUnknown, Damaged, Unavailable])
async def test_what_the_upstream_says(docked: Dock, kind: type[StorageError]) -> None:
    """Every reader gets the source's own error, before anything was given, with the cause it came from."""
    upstream, cause = Upstream(CONTENT), Teapot("429")
    upstream.error = kind("the upstream said so")
    upstream.error.__cause__ = cause
    seen = []

    async def reader() -> None:
        with pytest.raises(kind, match="said so") as caught:
            async with docked.open(upstream):
                pytest.fail("it was opened")
        seen.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(reader)
    assert all(each.__cause__ is cause for each in seen)
    assert len({id(each) for each in seen}) == 3
    await docked.idle()
    upstream.error = None
    assert await docked.pull(upstream) == CONTENT


@pytest.mark.parametrize("kind", [BlobUnknown, Unavailable, Teapot])
async def test_upstream_that_fails_once(docked: Dock, kind: type[Exception]) -> None:
    """When the upstream fails before the first byte, one reader's process takes over for all who wait in another."""
    upstream, go_on = Upstream(CONTENT), trio.Event()
    others = Upstream(CONTENT)
    original = upstream.read

    @asynccontextmanager
    async def fail(span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        await go_on.wait()
        upstream.error = kind("just now")
        async with original(span) as chunks:
            yield chunks

    upstream.read = fail  # type: ignore[method-assign]

    async def wait_in_vain(another: Dock) -> None:
        with pytest.raises((BlobUnknown, Unavailable)):
            await another.pull(upstream)

    async with dock(docked.scene, docked.root) as another:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_in_vain, another)
            await until(lambda: len(docked.files()) == 1)
            for number in range(12):
                nursery.start_soon(docked.pull, others, f"image-{number}")
            await until(lambda: docked.intakes.statistics().readers == 12)
            go_on.set()
        await docked.idle()
    assert (len(upstream.opened), others.opened) == (1, [Span(0, SIZE)])
    assert await docked.stored("image-11") == CONTENT
    assert docked.files() == []


async def test_error_of_another_family(docked: Dock) -> None:
    """An exception that storage does not know is trouble of this blob, with its cause, and not of the service."""
    upstream = Upstream(CONTENT, error=Teapot("a defect"))
    with pytest.raises(Unavailable, match="Teapot") as caught:
        await docked.pull(upstream)
    assert caught.value.__cause__ is upstream.error
    upstream.error = None
    assert await docked.pull(upstream) == CONTENT


async def test_upstream_that_dies_midway(docked: Dock) -> None:
    """Readers are told when it does not come back, and what came is not fetched again the next time."""
    upstream = Upstream(CONTENT, breaks_at=[2 * MIB + number for number in range(6)])
    with pytest.raises(Unavailable):
        await docked.pull(upstream)
    await docked.idle()
    assert [path.stat().st_size for path in docked.files()] == [2 * MIB + 5]
    assert await docked.pull(upstream) == CONTENT
    await docked.idle()
    assert upstream.given_bytes == SIZE
    assert docked.files() == []


# --- cancellation, stops, leftovers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [*range(12), 20, 40, 80])
async def test_cancelled_reader(docked: Dock, turns: int) -> None:
    """However late a reader is cancelled, the blob arrives for the others, and nothing stays open."""
    upstream = Upstream(CONTENT)
    await cancel_after(turns, lambda: docked.pull(upstream, "cancelled"))
    assert await docked.pull(upstream) == CONTENT
    await docked.idle()
    assert await docked.stored() == CONTENT
    assert upstream.given_bytes == SIZE
    assert docked.files() == []


@pytest.mark.parametrize("turns", [*range(0, 40, 3), 60, 90, 150])
async def test_stopped_service(directory_scene: Scene, tmp_path: Path, turns: int) -> None:
    """Stopped at any moment, a service leaves no descriptor, lock, lease or staging area; the next one goes on."""
    scene, upstream = directory_scene, Upstream(CONTENT)

    async def serve() -> None:
        async with dock(scene, tmp_path / "arrivals", is_shared=True) as docked:
            await docked.fetch(upstream)

    await cancel_after(turns, serve)
    assert open_below(tmp_path / "arrivals") == open_below(tmp_path / "blobs") == []
    assert await scene.database.read(lease_rows.names) == []
    assert await areas_of(scene.store) == {}
    for path in (tmp_path / "arrivals" / "main").glob("*"):
        assert path.stat().st_size <= SIZE
    async with dock(scene, tmp_path / "arrivals", is_shared=True) as docked:
        assert await docked.pull(upstream) == CONTENT
        await docked.idle()
        assert await docked.stored() == CONTENT
        assert docked.files() == []
    assert upstream.given_bytes <= 2 * SIZE
    await scene.sweep().run()
    assert len(await objects_of(scene.store)) == 1
