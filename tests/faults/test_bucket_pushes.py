"""Faults on the way to S3 while blobs are pushed: nothing acknowledged is lost, tries are bounded, all heals."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.blobs import Pushed, pull, push
from tests.faults.conftest import Harmed, heals
from tests.faults.fault import (
    UP,
    AnsweredTwice,
    AskedTwice,
    Bandwidth,
    Cut,
    Fault,
    HalfClose,
    Latency,
    Reset,
    WrongByte,
)
from tests.faults.s3_requests import (
    ERROR_IN_200,
    FORBIDDEN,
    INTERNAL,
    NO_SUCH_BUCKET,
    SLOW_DOWN,
    TOO_MANY,
    asks,
    operations,
)
from tests.served import sha256

pytestmark = [pytest.mark.faults, pytest.mark.slow]

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"small": 300 * KIB, "large": 10 * MIB}
NAME = "team/harmed"
BASE = {"small": 2, "large": 5}
"""Requests without a fault: object and marker; create, two parts, complete and marker."""
MOST_TRIES = 16
"""Of one operation for one request of a client, while S3 does not get well: four times the bucket's own four."""
MISTAKEN = 6
"""Further requests where an answer was taken for that of the next request: the parts are looked for and sent again."""

OPERATIONS = {
    "small": ("PutObject",),
    "large": ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"),
}
ANYWHERE: dict[str, tuple[Fault, int]] = {
    "500": (INTERNAL, 1),
    "503 twice": (SLOW_DOWN, 2),
    "answer lost": (Reset(), 1),
    "asked twice": (AskedTwice(), 1),
}
WITH_BYTES: dict[str, tuple[Fault, int]] = {
    "429": (TOO_MANY, 1),
    "closed before the answer": (Cut(), 1),
    "answered twice": (AnsweredTwice(), 1),
    "late": (Latency(0.2), 1),
}
ONE_EACH = [(size, name, fault) for size, names in OPERATIONS.items() for name in names for fault in ANYWHERE]
ONE_EACH += [(size, OPERATIONS[size][-3 if size == "large" else 0], fault) for size in SIZES for fault in WITH_BYTES]
LASTING: dict[str, Fault] = {
    "500": INTERNAL,
    "503": SLOW_DOWN,
    "403": FORBIDDEN,
    "no bucket": NO_SUCH_BUCKET,
    "no answer": Reset(),
}
BREAKS: dict[str, Fault] = {
    "reset at once": Reset(0, UP),
    "reset late": Reset(5 * MIB, UP),
    "closed": Cut(1 * MIB, UP),
    "half closed": HalfClose(1 * MIB, UP),
}


def check(harmed: Harmed, content: bytes, pushed: Pushed, *, orphans: int = 0) -> None:
    """What was acknowledged is there, byte for byte, as one object, and nothing else is left of the push.

    `orphans`: how many unfinished uploads may be left, of which the gateway cannot know; the sweeper finds them.
    """
    assert pushed.acknowledged, (pushed.statuses, pushed.answers)
    pulled = pull(harmed.sound, NAME, pushed.digest)
    assert pulled.is_complete
    assert pulled.body == content
    hex_digest = pushed.digest.partition(":")[2]
    assert sum(f"/{hex_digest}/" in key for key in harmed.installation.markers()) == 1
    assert len(harmed.new_uploads()) <= orphans


def content_of(size: str) -> bytes:
    """Bytes that no other test has, of a length that no other blob has."""
    return os.urandom(SIZES[size] + int.from_bytes(os.urandom(2)))


@pytest.mark.parametrize(("chunk_bytes", "most"), [(None, 8), (MIB, 12)])
def test_a_push_without_faults_is_few_requests(harmed: Harmed, chunk_bytes: int | None, most: int) -> None:
    """30 MiB in one stream are at most 8 requests to S3, in chunks of 1 MiB at most 12 (docker-registry: 28, 342)."""
    content = os.urandom(30 * MIB)

    pushed = push(harmed.pusher, NAME, content, chunk_bytes=chunk_bytes, tries=1)

    assert len(harmed.proxies["pusher"].exchanges) <= most, operations(harmed.proxies["pusher"].exchanges)
    check(harmed, content, pushed)


@pytest.mark.parametrize(("size", "name", "fault"), ONE_EACH)
def test_one_request_goes_wrong(harmed: Harmed, size: str, name: str, fault: str) -> None:
    """A single fault at any operation is not seen by the client at all, and costs a request or two more."""
    proxy, content = harmed.proxies["pusher"], content_of(size)
    harm, times = {**ANYWHERE, **WITH_BYTES}[fault]
    is_unknown = name == "CreateMultipartUpload" and fault in {"answer lost", "asked twice"}
    rule = proxy.harm(harm, asks(name), times=times)

    pushed = push(harmed.pusher, NAME, content, tries=1)

    assert rule.hits == times
    further = MISTAKEN if fault == "answered twice" else 3
    assert len(proxy.exchanges) <= BASE[size] + times + further, operations(proxy.exchanges)
    check(harmed, content, pushed, orphans=int(is_unknown))


@pytest.mark.parametrize("name", BREAKS)
def test_a_part_breaks_in_its_middle(harmed: Harmed, name: str) -> None:
    """A part whose connection ends while it is sent is sent again; the client sees nothing of it."""
    content = content_of("large")
    rule = harmed.proxies["pusher"].harm(BREAKS[name], asks("UploadPart"), times=1)

    pushed = push(harmed.pusher, NAME, content, tries=1)

    assert rule.hits == 1
    check(harmed, content, pushed)


def test_completion_fails_in_its_answer(harmed: Harmed) -> None:
    """CompleteMultipartUpload may say 200 and then that it failed: that is tried again, and counts as no success."""
    content = content_of("large")
    rule = harmed.proxies["pusher"].harm(ERROR_IN_200, asks("CompleteMultipartUpload"), times=1)

    pushed = push(harmed.pusher, NAME, content, tries=1)

    assert rule.hits == 1
    check(harmed, content, pushed)


@pytest.mark.parametrize("name", ["UploadPart", "PutObject"])
def test_one_byte_is_changed_on_the_way(harmed: Harmed, name: str) -> None:
    """What the bucket got wrong is refused at the push, or the first pull breaks off; the next push heals it."""
    content = content_of("large" if name == "UploadPart" else "small")
    harmed.proxies["pusher"].harm(WrongByte(1000, UP), asks(name), times=1)

    pushed = push(harmed.pusher, NAME, content, tries=1)

    first = pull(harmed.hot, NAME, pushed.digest)
    assert first.body == content if first.is_complete else first.status != 404 or not pushed.acknowledged
    harmed.heal()
    assert heals(harmed, harmed.pusher, NAME, content)


@pytest.mark.parametrize("name", LASTING)
def test_the_bucket_does_not_get_well(harmed: Harmed, name: str) -> None:
    """While S3 fails the client is told 503 with Retry-After after a bounded number of tries; then the push goes on."""
    proxy, content = harmed.proxies["pusher"], content_of("large")
    proxy.harm(LASTING[name])
    began = time.monotonic()

    pushed = push(harmed.pusher, NAME, content, tries=1)

    assert not pushed.acknowledged
    assert set(pushed.statuses) <= {0, 202, 503}, (pushed.statuses, pushed.answers)
    assert 503 in pushed.statuses or 0 in pushed.statuses
    assert max(operations(proxy.exchanges).values()) <= MOST_TRIES, operations(proxy.exchanges)
    assert time.monotonic() - began < 60
    harmed.heal()
    check(harmed, content, push(harmed.pusher, NAME, content), orphans=MOST_TRIES)


def test_nobody_listens(harmed: Harmed) -> None:
    """A service that refuses connections is 503; sessions begun before go on where they were when it is back."""
    content = content_of("large")
    begun = harmed.pusher.admin("POST", f"/v2/{NAME}/blobs/uploads/", b"")
    first = harmed.pusher.admin("PATCH", begun.headers["location"], content[: 9 * MIB])
    assert first.status == 202
    proxy = harmed.proxies["pusher"]
    proxy.refuse()
    proxy.reset_all()

    failed = harmed.pusher.admin("PATCH", first.headers["location"], content[9 * MIB : 9 * MIB + KIB])

    if failed.status != 202:  # so little may have been settled in the database alone
        assert (failed.status, bool(failed.headers.get("retry-after"))) == (503, True)
    proxy.heal()
    status = harmed.pusher.admin("GET", first.headers["location"])
    assert status.status == 204
    offset = int(status.headers["range"].partition("-")[2]) + 1
    assert offset >= 9 * MIB
    rest = harmed.pusher.admin("PATCH", status.headers["location"], content[offset:])
    assert rest.status == 202, rest
    put = harmed.pusher.admin("PUT", f"{rest.headers['location']}?digest={sha256(content)}", b"")
    assert put.status == 201, put
    check(harmed, content, Pushed(sha256(content), acknowledged=True))


def test_a_narrow_way_holds_pushers_back(harmed: Harmed) -> None:
    """At 8 MiB/s for each connection to S3 four large pushes side by side all succeed."""
    harmed.proxies["pusher"].harm(Bandwidth(8 * MIB, UP), asks("UploadPart"))
    contents = [content_of("large") for _ in range(4)]

    pushes = push_all(harmed, contents)

    for content, pushed in zip(contents, pushes, strict=True):
        check(harmed, content, pushed)


def push_all(harmed: Harmed, contents: list[bytes]) -> list[Pushed]:
    """Push them side by side, each tried once."""
    with ThreadPoolExecutor(len(contents)) as pool:
        return list(pool.map(lambda content: push(harmed.pusher, NAME, content, tries=1), contents))
