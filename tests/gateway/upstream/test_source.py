"""Tests of a blob of an upstream as an intake reads it (rows P3 and P4): what comes is only what was asked for."""

import random

import pytest

from gateway.upstream.errors import (
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnknown,
)
from storage import BlobUnknown, Damaged, Digest, Span, StorageError, Unavailable
from storage.intake_source import Source, deliver
from tests.gateway.upstream.known import APP, Maker, digest_of
from tests.upstream.script import (
    HTML,
    Busy,
    Chunked,
    Cut,
    Endless,
    Fault,
    Gzipped,
    IgnoresRange,
    Other,
    Redirect,
    Reset,
    Says,
    Stall,
    TooLong,
    Truncated,
    With,
    WrongLength,
    WrongRange,
    on,
    with_range,
)
from tests.upstream.scripted import ScriptedUpstream, send_blobs_to

CONTENT = random.Random(7).randbytes(600_000)
SIZE = len(CONTENT)
WHOLE = Span(0, SIZE)
REST = Span(200_000, SIZE)
MIDDLE = Span(100_000, 300_000)


@pytest.fixture
def held(upstream: ScriptedUpstream) -> Digest:
    """A blob that the upstream holds."""
    return digest_of(upstream.shelf.put_blob(APP, CONTENT))


async def read(source: Source, span: Span = WHOLE) -> bytes:
    """The span, in one go."""
    parts = []
    async with source.read(span) as chunks:
        async for chunk in chunks:
            assert 0 < len(chunk) <= 256 * 1024
            parts.append(chunk)
    return b"".join(parts)


@pytest.mark.parametrize("span", [WHOLE, REST, MIDDLE, Span(0, 1), Span(SIZE - 1, SIZE)], ids=str)
@pytest.mark.parametrize("fault", [None, Chunked(), IgnoresRange()], ids=str)
async def test_a_span_is_exactly_that(
    known: Maker, upstream: ScriptedUpstream, held: Digest, span: Span, fault: Fault | None
) -> None:
    """Also from an upstream that names no length, and from one that knows no ranges and gives everything."""
    if fault:
        upstream.script(fault, on("blobs"))
    assert await read(known(upstream).registry.blob(APP, held, SIZE), span) == CONTENT[span.start : span.stop]


async def test_a_whole_blob_is_asked_for_without_a_range(
    known: Maker, upstream: ScriptedUpstream, held: Digest
) -> None:
    """So that stores and proxies in between answer 200."""
    await read(known(upstream).registry.blob(APP, held, SIZE))
    assert not upstream.seen(with_range)


async def test_an_empty_span_ends_at_once(known: Maker, upstream: ScriptedUpstream, held: Digest) -> None:
    """Nothing is asked for nothing."""
    assert await read(known(upstream).registry.blob(APP, held, SIZE), Span(5, 5)) == b""
    assert not upstream.requests


async def test_a_span_outside_of_the_blob_is_a_mistake(known: Maker, upstream: ScriptedUpstream, held: Digest) -> None:
    """Of the caller, told before anything is asked."""
    with pytest.raises(ValueError, match="outside"):
        await read(known(upstream).registry.blob(APP, held, SIZE), Span(0, SIZE + 1))


WRONG: list[tuple[Fault, tuple[type[StorageError], type[UpstreamError]]]] = [
    (Says(404), (BlobUnknown, UpstreamUnknown)),
    (Says(403), (BlobUnknown, UpstreamDenied)),
    (Says(500), (Unavailable, UpstreamFailed)),
    (Says(504), (Unavailable, UpstreamSlow)),
    (Busy(30), (Unavailable, UpstreamBusy)),
    (Redirect("file:///etc/passwd"), (Unavailable, UpstreamRefused)),
    (Reset(), (Unavailable, UpstreamFailed)),
    (Reset(300_000), (Unavailable, UpstreamFailed)),
    (Cut(300_000), (Unavailable, UpstreamFailed)),
    (WrongLength(-5), (Damaged, UpstreamFailed)),
    (WrongLength(5), (Damaged, UpstreamFailed)),
    (Truncated(1), (Damaged, UpstreamFailed)),
    (TooLong(), (Damaged, UpstreamFailed)),
    (HTML, (Damaged, UpstreamFailed)),
    (Other(b"another object"), (Damaged, UpstreamFailed)),
    (Gzipped(), (Unavailable, UpstreamFailed)),
    (Gzipped(is_named=False), (Damaged, UpstreamFailed)),
    (Endless(), (Damaged, UpstreamFailed)),
    (Says(206, CONTENT), (Unavailable, UpstreamFailed)),
    (Says(204), (Unavailable, UpstreamRefused)),
    (With({"Content-Encoding": "br"}), (Unavailable, UpstreamFailed)),
]


@pytest.mark.parametrize(("fault", "kinds"), WRONG, ids=lambda value: str(value)[:60])
async def test_row_p3_a_whole_blob_that_is_wrong_is_not_taken_for_one(
    known: Maker,
    upstream: ScriptedUpstream,
    held: Digest,
    fault: Fault,
    kinds: tuple[type[StorageError], type[UpstreamError]],
) -> None:
    """Each kind of wrong is raised as what an intake understands, from what the gateway does; the next try is good."""
    kind, cause = kinds
    upstream.script(fault, on("blobs"))
    made = known(upstream)
    source = made.registry.blob(APP, held, SIZE)
    with pytest.raises(kind) as caught:
        await read(source)
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, cause)
    upstream.heal()
    made.clock.now += 30  # that long a 429 wants to be heeded
    assert await read(source) == CONTENT


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (WrongRange(10), Unavailable),
        (WrongRange(-10), Unavailable),
        (With({"Content-Range": ""}), Unavailable),
        (With({"Content-Range": "bytes 200000-599999"}), Unavailable),
        (With({"Content-Range": "bytes 200000-599999/600001"}), Damaged),
        (With({"Content-Range": "items 200000-599999/600000"}), Unavailable),
        (Says(416), Damaged),
        (Says(200, CONTENT[REST.start :]), Damaged),
        (TooLong(), Unavailable),
        (Truncated(1), Unavailable),
    ],
    ids=str,
)
async def test_row_p3_a_range_that_is_wrong_is_not_gone_on_with(
    known: Maker, upstream: ScriptedUpstream, held: Digest, fault: Fault, kind: type[StorageError]
) -> None:
    """Bytes from elsewhere in the blob, of another blob, or too many or few of them."""
    upstream.script(fault, with_range)
    with pytest.raises(kind) as caught:
        await read(known(upstream).registry.blob(APP, held, SIZE), REST)
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, UpstreamError)


async def test_a_range_of_a_blob_of_unnamed_size_is_taken(
    known: Maker, upstream: ScriptedUpstream, held: Digest
) -> None:
    """`bytes 200000-599999/*` says what it has to."""
    upstream.script(With({"Content-Range": f"bytes {REST.start}-{SIZE - 1}/*"}), with_range)
    assert await read(known(upstream).registry.blob(APP, held, SIZE), REST) == CONTENT[REST.start :]


async def test_row_p4_a_blob_that_ends_early_without_a_length_is_not_whole(
    known: Maker, upstream: ScriptedUpstream, held: Digest
) -> None:
    """Ended in order, in chunks, and yet too short: the intake hears that it has to go on."""
    upstream.script(Truncated(1000), on("blobs"))
    upstream.script(Chunked(), on("blobs"))
    with pytest.raises(Unavailable, match="ended after 599000 bytes"):
        await read(known(upstream).registry.blob(APP, held, SIZE))


async def test_a_silent_body_is_given_up(known: Maker, upstream: ScriptedUpstream, held: Digest) -> None:
    """After the idle time, however much has come; the time between chunks counts and not the whole."""
    upstream.script(Stall(300_000), on("blobs"))
    with pytest.raises(Unavailable) as caught:
        await read(known(upstream, idle_s=0.1).registry.blob(APP, held, SIZE))
    assert isinstance(caught.value.__cause__, UpstreamSlow)


@pytest.mark.slow
async def test_row_p7_an_intake_resumes_where_the_connection_broke(
    known: Maker, upstream: ScriptedUpstream, held: Digest
) -> None:
    """By range: no byte comes twice and none is missing."""
    upstream.script(Reset(250_000), on("blobs"), times=1)
    upstream.script(Cut(150_000), on("blobs"), times=1, skip=1)
    received = bytearray()

    async def take(chunk: bytes) -> None:
        received.extend(chunk)

    await deliver(known(upstream).registry.blob(APP, held, SIZE), WHOLE, take)
    assert bytes(received) == CONTENT
    assert upstream.gets(str(held)) == 3
    assert len(upstream.seen(with_range)) == 2


async def test_an_intake_resumes_at_another_address(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream, held: Digest
) -> None:
    """The one that broke is asked last from then on."""
    elsewhere.shelf.put_blob(APP, CONTENT)
    upstream.script(Reset(250_000), on("blobs"))
    received = bytearray()

    async def take(chunk: bytes) -> None:
        received.extend(chunk)

    await deliver(known(upstream, elsewhere).registry.blob(APP, held, SIZE), WHOLE, take)
    assert bytes(received) == CONTENT
    assert (upstream.gets(str(held)), elsewhere.gets(str(held))) == (1, 1)


async def test_a_mirror_without_the_blob_does_not_end_a_resumption(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream, held: Digest
) -> None:
    """The address that broke is asked again then."""
    upstream.script(Reset(250_000), on("blobs"), times=1)
    received = bytearray()

    async def take(chunk: bytes) -> None:
        received.extend(chunk)

    await deliver(known(upstream, elsewhere).registry.blob(APP, held, SIZE), WHOLE, take)
    assert bytes(received) == CONTENT
    assert (upstream.gets(str(held)), elsewhere.gets(str(held))) == (2, 1)


@pytest.mark.parametrize("fault", [HTML, Gzipped(), TooLong(), Says(503), Busy(30)], ids=lambda value: str(value)[:30])
async def test_another_address_may_be_better(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream, held: Digest, fault: Fault
) -> None:
    """What the head of an answer shows to be wrong is no reason to fail as long as there is another address."""
    elsewhere.shelf.put_blob(APP, CONTENT)
    upstream.script(fault, on("blobs"))
    assert await read(known(upstream, elsewhere).registry.blob(APP, held, SIZE)) == CONTENT


async def test_bodies_that_break_say_nothing_against_the_registry(
    known: Maker, upstream: ScriptedUpstream, held: Digest
) -> None:
    """The store behind it may be in trouble while manifests are fine."""
    made = known(upstream)
    upstream.script(Reset(10), on("blobs"))
    for _ in range(6):
        with pytest.raises(Unavailable):
            await read(made.registry.blob(APP, held, SIZE))
    assert not made.registry.is_troubled()


async def test_an_upstream_that_is_dead_is_found_out_at_once(
    known: Maker, upstream: ScriptedUpstream, held: Digest
) -> None:
    """After some troubles a blob is not asked for either."""
    made = known(upstream)
    upstream.script(Says(503))
    for _ in range(5):
        with pytest.raises(Unavailable):
            await read(made.registry.blob(APP, held, SIZE))
    with pytest.raises(Unavailable, match="not asked"):
        await read(made.registry.blob(APP, held, SIZE))
    assert len(upstream.requests) == 5


async def test_blobs_come_from_the_store_behind_a_registry(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream, held: Digest
) -> None:
    """Redirected with a signed address, ranges too."""
    send_blobs_to(upstream, elsewhere)
    source = known(upstream).registry.blob(APP, held, SIZE)
    assert await read(source) == CONTENT
    assert await read(source, REST) == CONTENT[REST.start :]


async def test_leaving_early_is_no_trouble_of_the_upstream(
    known: Maker, upstream: ScriptedUpstream, held: Digest
) -> None:
    """A reader that goes does not open the breaker."""
    made = known(upstream)
    for _ in range(6):
        async with made.registry.blob(APP, held, SIZE).read(WHOLE) as chunks:
            assert await anext(chunks)
    assert not made.registry.is_troubled()


async def test_its_name_is_for_people(known: Maker, upstream: ScriptedUpstream, held: Digest) -> None:
    """Image and digest, and no address that could be signed."""
    assert known(upstream).registry.blob(APP, held, SIZE).name == f"blob {held} of {APP}"
