"""Faults on the way from S3 while blobs are pulled: no wrong body is ever completed, tries are bounded, all heals."""

import os
import time
from collections.abc import Iterable

import pytest

from tests.faults.blobs import Pulled, pull, push
from tests.faults.conftest import Harmed, heals
from tests.faults.fault import AnsweredTwice, Cut, Fault, HalfClose, Latency, Reset, WrongByte
from tests.faults.s3_requests import FORBIDDEN, INTERNAL, NO_SUCH_BUCKET, SLOW_DOWN, TOO_MANY, asks, operations
from tests.served import Served

pytestmark = [pytest.mark.faults, pytest.mark.slow]

MIB = 1 << 20
NAME = "team/pulled"
SIZE = 3 * MIB
MOST_TRIES = 32
"""Reads of an object for one request of a client, while S3 does not get well: by the fill, and again for the client."""
is_get = asks("GetObject")

UNSEEN: dict[str, tuple[Fault, int]] = {
    "500": (INTERNAL, 1),
    "503 twice": (SLOW_DOWN, 2),
    "429": (TOO_MANY, 1),
    "no answer": (Reset(), 1),
    "closed": (Cut(), 1),
    "answered twice": (AnsweredTwice(), 1),
    "late": (Latency(0.2), 1),
}
BREAKS: dict[str, Fault] = {
    "reset": Reset(1 * MIB),
    "closed": Cut(1 * MIB),
    "closed at the last byte": Cut(SIZE - 1),
    "half closed": HalfClose(2 * MIB),
}
LASTING: dict[str, Fault] = {
    "500": INTERNAL,
    "503": SLOW_DOWN,
    "403": FORBIDDEN,
    "no bucket": NO_SUCH_BUCKET,
    "no answer": Reset(),
    "always cut": Cut(100_000),
}
WAYS = ("hot", "cold")
"""With a hot set on local disk, and without."""
FEW = {"500", "no answer", "answered twice", "reset", "half closed", "always cut"}
"""What is tried without a hot set, too."""


def each(faults: Iterable[str]) -> list[tuple[str, str]]:
    """The ways with their faults."""
    return [(way, fault) for fault in faults for way in WAYS if way == "hot" or fault in FEW]


def new_blob(harmed: Harmed) -> tuple[str, bytes]:
    """Digest and bytes of a blob that lies in the bucket and in no hot set, and was pulled by nobody."""
    content = os.urandom(SIZE)
    pushed = push(harmed.sound, NAME, content)
    assert pushed.acknowledged
    return pushed.digest, content


def gateway_of(harmed: Harmed, way: str) -> Served:
    """The gateway that reads in this way."""
    return harmed.hot if way == "hot" else harmed.cold


def is_true(pulled: Pulled, content: bytes) -> bool:
    """Whether a client that takes complete answers only has the blob or nothing, and was not told that it is absent."""
    return pulled.body == content if pulled.is_complete else pulled.status != 404


@pytest.mark.parametrize(("way", "fault"), each(UNSEEN))
def test_one_request_goes_wrong(harmed: Harmed, way: str, fault: str) -> None:
    """A single fault before the first byte is not seen by the client at all."""
    digest, content = new_blob(harmed)
    harm, times = UNSEEN[fault]
    rule = harmed.proxies[way].harm(harm, is_get, times=times)

    pulled = pull(gateway_of(harmed, way), NAME, digest)

    assert rule.hits == times
    assert (pulled.status, pulled.is_complete) == (200, True)
    assert pulled.body == content
    assert operations(harmed.proxies[way].exchanges)["GetObject"] <= times + 2


@pytest.mark.parametrize(("way", "fault"), each(BREAKS))
def test_an_object_breaks_off(harmed: Harmed, way: str, fault: str) -> None:
    """A pull whose object ends too early is whole, or is broken as well; the next one is whole."""
    digest, content = new_blob(harmed)
    rule = harmed.proxies[way].harm(BREAKS[fault], is_get, times=1)

    pulled = pull(gateway_of(harmed, way), NAME, digest)

    assert rule.hits == 1
    assert is_true(pulled, content)
    again = pull(gateway_of(harmed, way), NAME, digest)
    assert again.is_complete
    assert again.body == content


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [0, SIZE // 2, SIZE - 1])
def test_one_byte_is_wrong(harmed: Harmed, way: str, at: int) -> None:
    """A wrong byte never reaches a client in a complete answer; after the next push the blob is pulled as it is."""
    digest, content = new_blob(harmed)
    rule = harmed.proxies[way].harm(WrongByte(at), is_get)

    for _ in range(2):
        pulled = pull(gateway_of(harmed, way), NAME, digest)
        assert not pulled.is_complete or pulled.body == content

    assert rule.hits >= 1
    harmed.heal()
    assert heals(harmed, harmed.sound, NAME, content)


@pytest.mark.parametrize(("way", "name"), each(LASTING))
def test_the_bucket_does_not_get_well(harmed: Harmed, way: str, name: str) -> None:
    """While S3 fails, clients are told 503 with Retry-After or see their answer break; then all is as it was."""
    digest, content = new_blob(harmed)
    proxy, gateway = harmed.proxies[way], gateway_of(harmed, way)
    proxy.harm(LASTING[name], is_get)
    began = time.monotonic()

    pulled = pull(gateway, NAME, digest)

    assert not pulled.is_complete
    assert pulled.status in {0, 200, 503}
    assert pulled.status != 200 or name == "always cut"
    assert operations(proxy.exchanges)["GetObject"] <= MOST_TRIES
    assert time.monotonic() - began < 60
    harmed.heal()
    again = pull(gateway, NAME, digest)
    assert again.is_complete
    assert again.body == content


def test_nobody_listens(harmed: Harmed) -> None:
    """Without a bucket what is warm is served, what is cold is 503 with Retry-After; both are whole when it is back."""
    warm, cold = new_blob(harmed), new_blob(harmed)
    assert pull(harmed.hot, NAME, warm[0]).body == warm[1]
    proxy = harmed.proxies["hot"]
    proxy.refuse()
    proxy.reset_all()

    refused = harmed.hot.admin("GET", f"/v2/{NAME}/blobs/{cold[0]}")

    assert pull(harmed.hot, NAME, warm[0]).body == warm[1]
    assert (refused.status, bool(refused.headers.get("retry-after"))) == (503, True)
    proxy.heal()
    assert pull(harmed.hot, NAME, cold[0]).body == cold[1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["shorter", "other bytes", "gone"])
def test_the_object_is_another_one(harmed: Harmed, way: str, kind: str) -> None:
    """An object that somebody cut, changed or deleted is never given out whole; the next push heals it."""
    digest, content = new_blob(harmed)
    s3, bucket = harmed.installation.s3, harmed.installation.bucket
    (marker,) = [key for key in harmed.installation.markers() if digest.partition(":")[2] in key]
    storage_id = marker.rpartition("/")[2].partition(".")[0]
    key = f"blobs/{storage_id[:2]}/{storage_id}"
    assert s3.content(bucket, key) == content
    if kind == "gone":
        s3.client().delete_object(Bucket=bucket, Key=key)
    else:
        s3.overwrite(bucket, key, content[:-1] if kind == "shorter" else content[:-1] + bytes([content[-1] ^ 1]))

    first = pull(gateway_of(harmed, way), NAME, digest)

    assert not first.is_complete
    assert first.status != 404
    assert not pull(gateway_of(harmed, way), NAME, digest).is_complete
    assert heals(harmed, harmed.sound, NAME, content)
