"""What a bucket makes of a service that stumbles: bounded retries, nothing taken for absent, lost or doubled."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from urllib.parse import urlsplit

import pytest
import trio

from storage.blobstore import Span
from storage.blocking import Pool
from storage.errors import BlobUnknown, Conflict, StorageFull, Unavailable
from storage.s3.bucket import Bucket
from storage.s3.failures import ATTEMPTS
from storage.transfer import Stream
from tests.faults.fault import BEFORE, Answer, Cut, Fault, Reset
from tests.faults.proxy import FaultProxy
from tests.faults.s3_requests import (
    ERROR_IN_200,
    FORBIDDEN,
    INTERNAL,
    NO_SUCH_BUCKET,
    SLOW_DOWN,
    asks,
    error,
    operations,
)
from tests.servers.bucket_server import S3Server
from tests.storage.s3.buckets import opened, settings_for

pytestmark = [pytest.mark.slow, pytest.mark.faults]
MIB = 1 << 20
PASSING: dict[str, Fault] = {
    "slow down": SLOW_DOWN,
    "internal error": INTERNAL,
    "not S3": Answer(502, b"<html>Bad Gateway</html>"),
    "reset": Reset(),
    "closed": Cut(),
    "nothing arrives": Reset(BEFORE, "up"),
}

LASTING: dict[str, Fault] = {
    "slow down": SLOW_DOWN,
    "reset": Reset(),
    "forbidden": FORBIDDEN,
    "no such bucket": NO_SUCH_BUCKET,
}


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture
def proxy(radosgw: S3Server) -> Iterator[FaultProxy]:
    """What stands between the bucket and the service."""
    with FaultProxy(urlsplit(radosgw.endpoint).port or 0) as running:
        yield running


@pytest.fixture
async def bucket(radosgw: S3Server, shared: str, proxy: FaultProxy) -> AsyncIterator[Bucket]:
    """A bucket that is reached through the proxy, on which nothing was seen yet."""
    async with opened(settings_for(radosgw, shared, endpoint_url=proxy.endpoint)) as ready:
        proxy.forget()
        yield ready


async def read(bucket: Bucket, key: str) -> bytes:
    """All bytes."""
    async with bucket.get(key) as download:
        return b"".join([chunk async for chunk in download.chunks()])


async def keys(bucket: Bucket) -> list[str]:
    """The listing."""
    return [found.key async for found in bucket.list("")]


Call = Callable[[Bucket], Awaitable[object]]
CALLS: dict[str, tuple[str, Call]] = {
    "put": ("PutObject", lambda bucket: bucket.put("new", b"content")),
    "get": ("GetObject", lambda bucket: read(bucket, "old")),
    "head": ("HeadObject", lambda bucket: bucket.head("old")),
    "list": ("ListObjects", keys),
    "create": ("CreateMultipartUpload", lambda bucket: bucket.create("begun")),
    "delete": ("DeleteObject", lambda bucket: bucket.delete("old")),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("name", CALLS)
async def test_passing_trouble(bucket: Bucket, proxy: FaultProxy, name: str, fault: Fault) -> None:
    """What befalls a request twice is not seen by the caller."""
    await bucket.put("old", b"content")
    operation, call = CALLS[name]
    rule = proxy.harm(fault, asks(operation), times=2)
    await call(bucket)
    assert rule.hits == 2


@pytest.mark.parametrize("fault", LASTING.values(), ids=LASTING)
@pytest.mark.parametrize("name", CALLS)
async def test_lasting_trouble(bucket: Bucket, proxy: FaultProxy, name: str, fault: Fault) -> None:
    """Trouble that stays is `Unavailable` after a few attempts, and never an absent object."""
    await bucket.put("old", b"content")
    operation, call = CALLS[name]
    rule = proxy.harm(fault, asks(operation, *(["GetObject"] if name == "head" else [])))
    with pytest.raises(Unavailable):
        await call(bucket)
    assert rule.hits <= 2 * ATTEMPTS  # twice as often where a kept connection proves dead
    await Pool("proxy", 1).run(proxy.heal)
    if name != "delete":  # which happened each time that its answer was lost
        assert await read(bucket, "old") == b"content"


async def test_service_that_is_away(bucket: Bucket, proxy: FaultProxy) -> None:
    """When nobody listens, calls fail, and the first one after it is back succeeds."""
    await bucket.put("old", b"content")
    for act in (proxy.refuse, proxy.reset_all):
        await Pool("proxy", 1).run(act)
    with pytest.raises(Unavailable, match="refused"):
        await bucket.head("old")
    await Pool("proxy", 1).run(proxy.heal)
    assert (await bucket.head("old")).size_bytes == 7


async def test_quota(bucket: Bucket, proxy: FaultProxy) -> None:
    """A bucket over quota is full, which is said at once."""
    rule = proxy.harm(error(403, "QuotaExceeded"), asks("PutObject"))
    with pytest.raises(StorageFull):
        await bucket.put("new", b"content")
    assert rule.hits == 1


async def test_another_region(bucket: Bucket, proxy: FaultProxy) -> None:
    """A bucket that lies in another region names it."""
    proxy.harm(Answer(301, b"", (("x-amz-bucket-region", "eu-west-3"),)), asks("HeadObject", "GetObject"))
    with pytest.raises(Unavailable, match="eu-west-3; set region"):
        await bucket.head("old")


async def test_answer_of_an_absent_object_that_is_no_s3(bucket: Bucket, proxy: FaultProxy) -> None:
    """A 404 of whoever stands before the service is trouble: only S3's own word makes an object absent."""
    await bucket.put("old", b"content")
    proxy.harm(Answer(404, b"<html>no route</html>"), asks("HeadObject", "GetObject"))
    with pytest.raises(Unavailable, match="404"):
        await bucket.head("old")
    with pytest.raises(Unavailable, match="404"):
        await read(bucket, "old")


# --- what may not happen twice ------------------------------------------------------------------------------------


async def chunks(content: bytes, calls: list[int]) -> AsyncIterator[bytes]:
    """A source that notes how often it was begun."""
    calls.append(1)
    await trio.lowlevel.checkpoint()
    yield content


@pytest.mark.parametrize("fault", [SLOW_DOWN, Reset()], ids=["slow down", "reset"])
async def test_stream_is_sent_once(bucket: Bucket, proxy: FaultProxy, fault: Fault) -> None:
    """A payload that can be read once is not pretended to be whole a second time."""
    proxy.harm(fault, asks("PutObject"), times=1)
    begun: list[int] = []
    with pytest.raises(Unavailable):
        await bucket.put("streamed", Stream(7, chunks(b"content", begun)))
    assert begun == [1]
    assert len(proxy.seen(asks("PutObject"))) == 1


class SourceFailed(Exception):
    """What a client that leaves makes its body raise."""


async def test_source_that_fails(bucket: Bucket) -> None:
    """What the source of a stream raises is the caller's own, and nothing is stored."""

    async def breaking() -> AsyncIterator[bytes]:
        yield b"con"
        await trio.lowlevel.checkpoint()
        raise SourceFailed

    with pytest.raises(SourceFailed):
        await bucket.put("streamed", Stream(7, breaking()))
    with pytest.raises(BlobUnknown):
        await bucket.head("streamed")


async def test_conditional_write_whose_answer_was_lost(bucket: Bucket, proxy: FaultProxy) -> None:
    """The second attempt finds the first one's object, and that is a success; other bytes are a conflict."""
    proxy.harm(Reset(), asks("PutObject"), times=1)
    etag = await bucket.put("once", b"content", if_absent=True)
    assert (await bucket.head("once")).etag == etag
    with pytest.raises(Conflict):
        await bucket.put("once", b"other bytes", if_absent=True)


async def two_parts(bucket: Bucket, key: str) -> tuple[str, list[tuple[int, str]]]:
    """An upload that is ready to be completed."""
    upload = await bucket.create(key)
    parts = [b"x" * (5 * MIB), b"the end"]
    return upload, [(number, await bucket.put_part(key, upload, number, part)) for number, part in enumerate(parts, 1)]


@pytest.mark.parametrize("fault", [Reset(), Cut(), SLOW_DOWN, ERROR_IN_200], ids=["lost", "closed", "slow", "in 200"])
async def test_completion_that_stumbles(bucket: Bucket, proxy: FaultProxy, fault: Fault) -> None:
    """Whether the service completed it or not, once it is asked again there is one whole object."""
    upload, parts = await two_parts(bucket, "made")
    proxy.harm(fault, asks("CompleteMultipartUpload"), times=1)
    await bucket.complete("made", upload, parts)
    assert (await bucket.head("made")).size_bytes == 5 * MIB + 7


async def test_completion_whose_answers_are_all_lost(bucket: Bucket, proxy: FaultProxy) -> None:
    """The object itself says that it was completed."""
    upload, parts = await two_parts(bucket, "made")
    proxy.harm(Reset(), asks("CompleteMultipartUpload"))
    await bucket.complete("made", upload, parts)
    assert operations(proxy.exchanges)["HeadObject"] == 1


async def test_completion_that_fails_within_200(bucket: Bucket, proxy: FaultProxy) -> None:
    """A success whose body is an error is none, and the upload is still there to be completed."""
    upload, parts = await two_parts(bucket, "made")
    proxy.harm(ERROR_IN_200, asks("CompleteMultipartUpload"))
    with pytest.raises(Unavailable):
        await bucket.complete("made", upload, parts)
    await Pool("proxy", 1).run(proxy.heal)
    with pytest.raises(BlobUnknown):
        await bucket.head("made")
    await bucket.complete("made", upload, parts)


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_bytes", [0, 1, 300_000])
@pytest.mark.parametrize("kind", [Cut, Reset])
async def test_answer_that_ends_early(
    bucket: Bucket, proxy: FaultProxy, kind: type[Cut | Reset], after_bytes: int
) -> None:
    """What came is right, and that more was to come is said: an answer never just ends."""
    content = bytes(range(256)) * 4096
    await bucket.put("old", content)
    proxy.harm(kind(after_bytes), asks("GetObject"))
    got = bytearray()

    async def gather() -> None:
        async with bucket.get("old", Span(0, len(content))) as download:
            async for chunk in download.chunks():
                got.extend(chunk)

    with pytest.raises(Unavailable):
        await gather()
    assert got == content[: len(got)]
    assert len(got) <= after_bytes
