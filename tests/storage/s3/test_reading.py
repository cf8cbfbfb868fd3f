"""Reading a blob from a bucket: windows for who may leave, resumption after trouble, ranges side by side in order."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from storage.blobstore import CHUNK_BYTES, Span
from storage.digest import Digest
from storage.errors import BlobUnknown, Damaged, Unavailable
from storage.s3.bucket import Bucket
from storage.s3.bucket_data import OwnPlane
from storage.s3.keys import ObjectName
from storage.s3.reading import open_reader
from tests.faults.exchange import Exchange
from tests.faults.fault import Cut, Reset, Stall
from tests.faults.proxy import FaultProxy
from tests.faults.s3_requests import FORBIDDEN, SLOW_DOWN, asks
from tests.servers.bucket_server import S3Server
from tests.storage.s3.buckets import opened, settings_for

pytestmark = [pytest.mark.slow, pytest.mark.faults]
MIB = 1 << 20
BLOB = os.urandom(20 * MIB + 12345)
NAME = ObjectName(Digest("sha256", "0" * 64), "blob", len(BLOB), 0)
WHOLE = Span(0, len(BLOB))
OLD_CONNECTIONS = 4  # a request that finds its connection dead is sent again, and counted by the proxy


class Scene:
    """A bucket behind a proxy, with one blob in it."""

    def __init__(self, bucket: Bucket, proxy: FaultProxy) -> None:
        self.bucket = bucket
        self.proxy = proxy
        self.budget = trio.Semaphore(100)

    def open(self, span: Span = WHOLE, name: ObjectName = NAME) -> Any:
        """A reader of the blob."""
        return open_reader(self.bucket, name, span, self.budget)

    async def read(self, span: Span = WHOLE) -> bytes:
        """All bytes of the span."""
        parts = []
        async with self.open(span) as reader:
            async for chunk in reader.chunks():
                assert 1 <= len(chunk) <= CHUNK_BYTES
                parts.append(chunk)
        return b"".join(parts)

    def asked(self) -> list[tuple[int, int]]:
        """The spans that the service was asked for, in order."""
        return [span_of(exchange) for exchange in self.proxy.seen(asks("GetObject"))]

    def in_use(self) -> int:
        """Connections that carry something now."""
        plane = self.bucket._plane
        assert isinstance(plane, OwnPlane)
        return plane._client.statistics().in_use


def span_of(exchange: Exchange) -> tuple[int, int]:
    """The bytes that a GET asks for."""
    start, _, last = (exchange.head.field("range") or f"bytes=0-{len(BLOB) - 1}").removeprefix("bytes=").partition("-")
    return int(start), int(last) + 1


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket that has the blob, which no test changes."""
    name = radosgw.new_bucket()
    radosgw.overwrite(name, f"here/{NAME.blob}", BLOB)
    return name


@pytest.fixture
def proxy(radosgw: S3Server) -> Iterator[FaultProxy]:
    """What stands between the bucket and the service."""
    with FaultProxy(urlsplit(radosgw.endpoint).port or 0) as running:
        yield running


@asynccontextmanager
async def scene_of(server: S3Server, bucket: str, proxy: FaultProxy, **changes: Any) -> AsyncIterator[Scene]:
    """The blob with these settings."""
    settings = settings_for(server, bucket, prefix="here", endpoint_url=proxy.endpoint, **changes)
    async with opened(settings) as ready:
        proxy.forget()
        yield Scene(ready, proxy)


@pytest.fixture
async def scene(radosgw: S3Server, shared: str, proxy: FaultProxy) -> AsyncIterator[Scene]:
    """Read through one connection, with windows of 1 MiB."""
    async with scene_of(radosgw, shared, proxy, window_bytes=MIB) as made:
        yield made


@pytest.fixture
async def parallel(radosgw: S3Server, shared: str, proxy: FaultProxy) -> AsyncIterator[Scene]:
    """Read through four connections, in ranges of 1 MiB."""
    async with scene_of(radosgw, shared, proxy, parallel_get=4, parallel_range_bytes=MIB) as made:
        yield made


# --- windows --------------------------------------------------------------------------------------------------------


async def test_windows_grow(scene: Scene) -> None:
    """Who reads on to the end asks for as much again as was read, without a gap or an overlap."""
    assert await scene.read() == BLOB
    ends = [stop for _, stop in scene.asked()]
    assert ends == [MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, len(BLOB)]
    assert [start for start, _ in scene.asked()] == [0, *ends[:-1]]


async def test_tail_is_read_in_windows(scene: Scene) -> None:
    """A span from the middle to the end is as open-ended as the whole."""
    assert await scene.read(Span(5 * MIB + 3, len(BLOB))) == BLOB[5 * MIB + 3 :]
    assert scene.asked()[0] == (5 * MIB + 3, 6 * MIB + 3)


async def test_closed_span_is_one_request(scene: Scene) -> None:
    """Who said where to stop gets all of it at once, however long."""
    span = Span(7, len(BLOB) - 1)
    assert await scene.read(span) == BLOB[7:-1]
    assert scene.asked() == [(7, len(BLOB) - 1)]


async def test_abandoned_reader_costs_one_window(scene: Scene) -> None:
    """What is fetched for somebody who leaves at once is one window at most, and its connection is closed."""
    async with scene.open() as reader:
        first = await anext(reader.chunks())
        assert BLOB.startswith(first)
        assert scene.in_use() == 1
    assert scene.in_use() == 0
    assert scene.asked() == [(0, MIB)]


async def test_empty_span_moves_no_bytes(scene: Scene) -> None:
    """Whether the object is there is asked, and nothing else."""
    assert await scene.read(Span(9, 9)) == b""
    assert scene.asked() == []


async def test_cancelled_reader_lets_go(scene: Scene) -> None:
    """A reader that waits for a service that fell silent is cancelled at once, and its connection with it."""
    scene.proxy.harm(Stall(100_000), asks("GetObject"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_stuck, nursery.cancel_scope)
        await scene.read()
    assert nursery.cancel_scope.cancelled_caught
    assert scene.in_use() == 0


async def _cancel_when_stuck(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked(0.1)
    scope.cancel()


# --- trouble --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Cut(300_000), Reset(300_000), SLOW_DOWN], ids=["cut", "reset", "slow down"])
async def test_reading_goes_on_after_trouble(scene: Scene, fault: Any) -> None:
    """An answer that breaks in the middle is asked for anew from where it broke, and every byte comes once."""
    rule = scene.proxy.harm(fault, asks("GetObject"), times=2, skip=1)
    assert await scene.read() == BLOB
    assert rule.hits == 2


async def test_trouble_that_stays(scene: Scene) -> None:
    """A service that never gets beyond the first bytes is given up after bounded attempts."""
    rule = scene.proxy.harm(Cut(0), asks("GetObject"))
    with pytest.raises(Unavailable):
        await scene.read()
    assert rule.hits <= 5 + OLD_CONNECTIONS


async def test_object_that_goes_meanwhile(scene: Scene, radosgw: S3Server, shared: str) -> None:
    """When the object is removed between two windows, the reader raises; it never just ends."""
    name = ObjectName(NAME.digest, "goes", 6 * MIB, 0)
    radosgw.overwrite(shared, f"here/{name.blob}", BLOB[: 6 * MIB])
    async with scene.open(Span(0, 6 * MIB), name) as reader:
        chunks = reader.chunks()
        await anext(chunks)
        radosgw.client().delete_object(Bucket=shared, Key=f"here/{name.blob}")
        with pytest.raises(BlobUnknown):
            [_ async for _ in chunks]


async def test_object_that_changes_meanwhile(scene: Scene, radosgw: S3Server, shared: str) -> None:
    """When another object of another size takes its place between two windows, that is damage."""
    name = ObjectName(NAME.digest, "changes", 6 * MIB, 0)
    radosgw.overwrite(shared, f"here/{name.blob}", BLOB[: 6 * MIB])
    async with scene.open(Span(0, 6 * MIB), name) as reader:
        chunks = reader.chunks()
        await anext(chunks)
        radosgw.overwrite(shared, f"here/{name.blob}", BLOB[: 5 * MIB])
        with pytest.raises(Damaged):
            [_ async for _ in chunks]


# --- ranges side by side --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", [WHOLE, Span(MIB - 5, 19 * MIB + 7)], ids=["whole", "middle"])
async def test_ranges_come_in_order(parallel: Scene, span: Span) -> None:
    """Several ranges are under way at once, and the bytes come in order."""
    async with parallel.open(span) as reader:
        chunks = reader.chunks()
        content = await anext(chunks)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(parallel.asked()) == 4
        content += b"".join([chunk async for chunk in chunks])
    assert content == BLOB[span.start : span.stop]
    assert parallel.budget.value == 100


async def test_small_span_is_not_divided(parallel: Scene) -> None:
    """What one connection does in no time is left to one."""
    assert await parallel.read(Span(0, 3 * MIB)) == BLOB[: 3 * MIB]
    assert parallel.asked() == [(0, 3 * MIB)]


async def test_no_budget_left(parallel: Scene) -> None:
    """When others have the whole budget, reading goes on through one connection."""
    parallel.budget = trio.Semaphore(0)
    async with parallel.open() as reader:
        content = b""
        async for chunk in reader.chunks():
            content += chunk
            assert parallel.in_use() <= 1
    assert content == BLOB


async def test_slow_reader_holds_what_is_its_own(parallel: Scene) -> None:
    """No more is fetched ahead than the ranges that were agreed on, however long the reader waits."""
    async with parallel.open() as reader:
        await anext(reader.chunks())
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert len(parallel.asked()) == 4
        assert parallel.budget.value == 97
    assert parallel.budget.value == 100
    assert parallel.in_use() == 0


async def test_trouble_in_a_range(parallel: Scene) -> None:
    """A range that breaks is fetched again; one that cannot be had fails the reader at its place, and only there."""
    parallel.proxy.harm(Reset(400_000), lambda exchange: span_of(exchange)[0] == 2 * MIB, times=1)
    assert await parallel.read() == BLOB
    parallel.proxy.harm(FORBIDDEN, lambda exchange: span_of(exchange)[0] == 3 * MIB)
    got = bytearray()

    async def gather() -> None:
        async with parallel.open() as reader:
            async for chunk in reader.chunks():
                got.extend(chunk)

    with pytest.raises(Unavailable):
        await gather()
    assert got == BLOB[: 3 * MIB]
    assert parallel.budget.value == 100
    assert parallel.in_use() == 0


class LeftEarly(Exception):
    """What the reader's user raises."""


async def test_errors_of_the_user_pass_as_they_are(parallel: Scene) -> None:
    """What is raised within the context comes out of it as it is, and so does an object that is not there."""
    with pytest.raises(LeftEarly):
        async with parallel.open():
            raise LeftEarly
    with pytest.raises(BlobUnknown):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(parallel.open(WHOLE, ObjectName(NAME.digest, "absent", len(BLOB), 0)))
    assert parallel.in_use() == 0
