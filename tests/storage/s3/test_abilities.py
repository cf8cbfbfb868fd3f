"""Abilities are found out by trying, and a service that lacks one is used without it, aloud."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from storage.errors import Unavailable
from storage.s3.abilities import Abilities
from tests.faults.exchange import Exchange
from tests.faults.fault import Answer
from tests.faults.proxy import FaultProxy
from tests.faults.s3_requests import FORBIDDEN, SLOW_DOWN, asks, error
from tests.servers.bucket_server import S3Server
from tests.storage.s3.buckets import WAYS, opened, settings_for

pytestmark = [pytest.mark.slow, pytest.mark.faults]
STORED = Answer(200, b"", (("ETag", '"00000000000000000000000000000000"'),))


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture
def proxy(radosgw: S3Server) -> Iterator[FaultProxy]:
    """What makes the service a lesser one."""
    with FaultProxy(urlsplit(radosgw.endpoint).port or 0) as running:
        yield running


async def abilities(proxy: FaultProxy, server: S3Server, bucket: str, **changes: Any) -> Abilities:
    """What is found out through the proxy; afterwards the bucket must be of use."""
    async with opened(settings_for(server, bucket, endpoint_url=proxy.endpoint, **changes)) as ready:
        found = ready.abilities
        await ready.put_lifecycle()
        await ready.put("useful", b"yes", if_absent=True)
        assert (await ready.head("useful")).size_bytes in {0, 3}
        return Abilities(
            found.conditional_put,
            found.verifies_sha256,
            ready.abilities.lifecycle,
            found.batch_delete,
            ready.abilities.notes,
        )


def conditional(exchange: Exchange) -> bool:
    """A write with If-None-Match."""
    return bool(exchange.head.field("if-none-match"))


def signed(exchange: Exchange) -> bool:
    """A write whose signature carries a digest."""
    return exchange.method == "PUT" and exchange.head.field("x-amz-content-sha256") not in {"", "UNSIGNED-PAYLOAD"}


@pytest.mark.parametrize("way", WAYS)
async def test_radosgw(radosgw: S3Server, shared: str, way: str) -> None:
    """Ceph can do everything; boto3 cannot say a digest that it did not compute. Nothing is left behind."""
    settings = settings_for(radosgw, shared, way)
    async with opened(settings) as bucket:
        found = bucket.abilities
    verifies = way != "boto3"
    assert (found.conditional_put, found.verifies_sha256, found.batch_delete) == (True, verifies, True)
    assert len(found.notes) == (0 if verifies else 1)
    assert radosgw.objects(shared, settings.root) == {}


@pytest.mark.parametrize(
    "answer", [error(501, "NotImplemented"), error(400, "InvalidArgument"), STORED], ids=lambda each: str(each.status)
)
async def test_no_conditional_writes(radosgw: S3Server, shared: str, proxy: FaultProxy, answer: Answer) -> None:
    """Refused or ignored: the condition is not sent any more."""
    proxy.harm(answer, conditional)
    found = await abilities(proxy, radosgw, shared)
    assert not found.conditional_put
    assert "If-None-Match" in found.notes[0]
    assert len(proxy.seen(conditional)) == 1 + (answer is STORED)


async def test_no_verification(radosgw: S3Server, shared: str, proxy: FaultProxy) -> None:
    """A service that stores bytes under another digest is not trusted with one."""
    proxy.harm(STORED, signed)
    found = await abilities(proxy, radosgw, shared)
    assert not found.verifies_sha256
    assert "hashed here" in found.notes[0]


async def test_digests_are_refused(radosgw: S3Server, shared: str, proxy: FaultProxy) -> None:
    """A service that refuses right digests too does not verify."""
    proxy.harm(error(400, "XAmzContentSHA256Mismatch"), signed)
    assert not (await abilities(proxy, radosgw, shared)).verifies_sha256


async def test_no_batches(radosgw: S3Server, shared: str, proxy: FaultProxy) -> None:
    """Where many cannot be removed at once, they are removed one by one."""
    proxy.harm(error(501, "NotImplemented"), asks("DeleteObjects"))
    settings = settings_for(radosgw, shared, endpoint_url=proxy.endpoint)
    async with opened(settings) as bucket:
        assert not bucket.abilities.batch_delete
        assert len(bucket.abilities.notes) == 1
        await bucket.put("a", b"")
        await bucket.put("b", b"")
        await bucket.delete("a", "b")
    assert radosgw.objects(shared, settings.root) == {}


async def test_no_right_to_remove(radosgw: S3Server, shared: str, proxy: FaultProxy) -> None:
    """A bucket where nothing may be removed is of use, and the operator learns of it."""
    proxy.harm(FORBIDDEN, asks("DeleteObject", "DeleteObjects"))
    assert "cannot be removed" in (await abilities(proxy, radosgw, shared)).notes[0]


@pytest.mark.parametrize("answer", [error(400, "InvalidRequest"), FORBIDDEN], ids=lambda each: str(each.status))
@pytest.mark.parametrize("operation", ["GetLifecycle", "PutLifecycle"])
async def test_no_lifecycle(radosgw: S3Server, shared: str, proxy: FaultProxy, operation: str, answer: Answer) -> None:
    """Rules that may not be read are not written, and what is not accepted is noted."""
    proxy.harm(answer, asks(operation))
    found = await abilities(proxy, radosgw, shared)
    assert not found.lifecycle
    assert "lifecycle" in found.notes[0]
    assert operation == "PutLifecycle" or not proxy.seen(asks("PutLifecycle"))


async def test_overload_is_no_inability(radosgw: S3Server, shared: str, proxy: FaultProxy) -> None:
    """A service that is asked too much for a moment keeps its abilities."""
    proxy.harm(SLOW_DOWN, conditional, times=1)
    proxy.harm(SLOW_DOWN, signed, times=1)
    proxy.harm(SLOW_DOWN, asks("DeleteObjects"), times=1)
    found = await abilities(proxy, radosgw, shared)
    assert (found.conditional_put, found.verifies_sha256, found.batch_delete, found.notes) == (True, True, True, ())


async def test_no_right_to_write(radosgw: S3Server, shared: str, proxy: FaultProxy) -> None:
    """A bucket that cannot be written is refused, with what to look at."""
    proxy.harm(FORBIDDEN, asks("PutObject"))
    with pytest.raises(Unavailable, match="the bucket's policy"):
        await abilities(proxy, radosgw, shared)
