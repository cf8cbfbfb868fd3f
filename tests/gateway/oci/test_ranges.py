"""Ranges: what is asked is what is served, by a model that looks at single bytes."""

import email
import email.policy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.oci.conditions import etag
from gateway.oci.errors import Code, RegistryError
from gateway.oci.ranges import (
    content_range,
    if_range,
    multipart_head,
    multipart_size,
    multipart_tail,
    parse_content_range,
    parse_range,
)
from storage import Digest, Span

SIZE = 100
OCTETS = "application/octet-stream"


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-9", [(0, 10)]),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=99-99", [(99, 100)]),
        ("bytes=10-", [(10, 100)]),
        ("bytes=-10", [(90, 100)]),
        ("bytes=-1000", [(0, 100)]),
        ("bytes=90-200", [(90, 100)]),
        ("bytes=0-99999999999999999999999999", [(0, 100)]),
        ("bytes=0-" + "9" * 5000, [(0, 100)]),
        ("bytes=" + "0" * 5000 + "5-6", [(5, 7)]),
        ("BYTES=0-9", [(0, 10)]),
        ("bytes= 0-9 , 20-29 ", [(0, 10), (20, 30)]),
        ("bytes=0-9,,20-29,", [(0, 10), (20, 30)]),
        ("bytes=20-29,0-9", [(20, 30), (0, 10)]),
        ("bytes=0-9,200-300", [(0, 10)]),
        ("bytes=0-9,-0", [(0, 10)]),
    ],
)
def test_bg_04_ranges_are_read_clipped_and_kept_in_order(header: str, spans: list[tuple[int, int]]) -> None:
    """Closed, open and suffix ranges, clipped to the blob; those outside are left out if others remain."""
    assert parse_range(header, SIZE) == tuple(Span(*span) for span in spans)


@pytest.mark.parametrize(
    "header", ["bytes=100-", "bytes=100-200", "bytes=500-0", "bytes=9-5", "bytes=-0", "bytes=" + "9" * 99 + "-"]
)
def test_bg_05_what_lies_outside_is_416_with_the_size(header: str) -> None:
    """A start behind the end, and a reversed range, are 416 with the size of the blob."""
    with pytest.raises(RegistryError) as caught:
        parse_range(header, SIZE)
    assert (caught.value.status, caught.value.code) == (416, Code.SIZE_INVALID)
    assert caught.value.headers == {"Content-Range": "bytes */100"}


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_bg_07_any_range_of_an_empty_blob_is_416(header: str) -> None:
    """An empty blob has no byte to give."""
    with pytest.raises(RegistryError) as caught:
        parse_range(header, 0)
    assert caught.value.headers == {"Content-Range": "bytes */0"}


@pytest.mark.parametrize(
    "header",
    [
        None,
        *("", "bytes", "bytes=", "bytes=,", "items=0-9", "bytes 0-9", "bytes=a-b", "bytes=-", "bytes=0", "bytes=0-9-"),
        *(
            "bytes=0-9,x",
            "bytes=--1",
            "bytes=0x1-2",
            "bytes=0-9;",
            "bytes=0 - 9",
            "bytes =0-9",
            "bytes=\u0661-\u0662",
            "0-9",
            "=0-9",
        ),
    ],
)
def test_bg_06_other_units_and_broken_ranges_are_ignored(header: str | None) -> None:
    """As RFC 9110 allows, what is not understood means the whole blob."""
    assert parse_range(header, SIZE) is None


def test_bg_06_sixty_four_ranges_are_served_and_more_are_400() -> None:
    """The bound is on what the client asks, before anything is joined."""
    asked = [f"{2 * n}-{2 * n}" for n in range(65)]
    assert len(parse_range("bytes=" + ",".join(asked[:-1]), 1000) or ()) == 64
    for header in (",".join(asked), ",".join(["0-0"] * 65), ",".join(["0-"] * 100_000)):
        with pytest.raises(RegistryError) as caught:
            parse_range("bytes=" + header, 1000)
        assert (caught.value.status, caught.value.code) == (400, Code.UNSUPPORTED)


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-9,5-14", [(0, 15)]),
        ("bytes=50-59,0-9,5-55", [(0, 60)]),
        ("bytes=80-89,0-9,85-94", [(80, 95), (0, 10)]),
        ("bytes=0-,0-,0-", [(0, 100)]),
        ("bytes=20-29,0-9,0-4", [(20, 30), (0, 10)]),
    ],
)
def test_bg_06_overlapping_ranges_are_joined_where_the_first_stood(header: str, spans: list[tuple[int, int]]) -> None:
    """No byte is sent twice, and the parts keep the order of the request."""
    assert parse_range(header, SIZE) == tuple(Span(*span) for span in spans)


def test_bg_06_neighbours_stay_apart() -> None:
    """Clients like podman ask for neighbours and take exactly one part for each; joining them fails the pull."""
    assert parse_range("bytes=0-9,10-19,20-", SIZE) == (Span(0, 10), Span(10, 20), Span(20, 100))


_POSITIONS = st.integers(0, 30)
_SPECS = st.one_of(
    st.tuples(_POSITIONS, _POSITIONS).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    _POSITIONS.map(lambda first: f"{first}-"),
    _POSITIONS.map(lambda length: f"-{length}"),
)


def _asked(spec: str, size_bytes: int) -> set[int]:
    """The positions that one range means, by the words of RFC 9110 and byte by byte."""
    first, _, last = spec.partition("-")
    if not first:
        return {position for position in range(size_bytes) if position >= size_bytes - int(last)}
    return {position for position in range(size_bytes) if int(first) <= position <= (int(last) if last else size_bytes)}


@given(st.lists(_SPECS, min_size=1, max_size=6), st.integers(0, 25))
@example(["5-0"], 10)
def test_bg_04_bg_06_the_spans_are_the_bytes_asked_for(specs: list[str], size_bytes: int) -> None:
    """Against the model: every byte asked for is served once, no other is, and parts begin in the order asked."""
    expected = [_asked(spec, size_bytes) for spec in specs]
    if not any(expected):
        with pytest.raises(RegistryError):
            parse_range("bytes=" + ",".join(specs), size_bytes)
        return
    spans = parse_range("bytes=" + ",".join(specs), size_bytes)
    assert spans is not None
    served = [position for span in spans for position in range(span.start, span.stop)]
    assert sorted(served) == sorted(set().union(*expected))
    places = [
        next(place for place, asked in enumerate(expected) if asked and span.start <= min(asked) < span.stop)
        for span in spans
    ]
    assert places == sorted(places)


@given(st.text("bytes=0123456789-, \t*", max_size=40), st.integers(0, 50))
def test_any_header_gives_spans_inside_the_blob_or_an_error(header: str, size_bytes: int) -> None:
    """No text makes a span outside the blob, an empty one, or another exception."""
    try:
        spans = parse_range(header, size_bytes)
    except RegistryError:
        return
    assert all(0 <= span.start < span.stop <= size_bytes for span in spans or ())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("0-0", (0, 0)),
        ("0-4194303", (0, 4194303)),
        ("5-9", (5, 9)),
        (" 5-9 ", (5, 9)),
        ("bytes 5-9/*", (5, 9)),
        ("bytes 5-9/10", (5, 9)),
        ("bytes 5-9", (5, 9)),
        ("bytes=5-9", (5, 9)),
    ],
)
def test_up_08_up_10_content_ranges_are_read(header: str | None, expected: tuple[int, int] | None) -> None:
    """The spec's bare form and that of RFC 9110 are the same chunk; without a header there is none."""
    assert parse_content_range(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        *(
            "",
            "-",
            "5",
            "5-",
            "-5",
            "9-5",
            "0--1",
            "a-b",
            "bytes",
            "bytes */10",
            "bytes 5-9/9",
            "bytes 5-9/x",
            "5-9,10-11",
        ),
        *("5 - 9", "+5-9", "5-9\n6-7", "\u0665-\u0669", "0-" + "9" * 5000, "items 0-1/2"),
    ],
)
def test_up_09_other_content_ranges_are_400_size_invalid(header: str) -> None:
    """Unreadable and contradicting headers are 400, with a code that clients do not retry."""
    with pytest.raises(RegistryError) as caught:
        parse_content_range(header)
    assert (caught.value.status, caught.value.code) == (400, Code.SIZE_INVALID)


@given(st.integers(0, 2**53), st.integers(0, 2**40))
def test_up_08_a_written_chunk_is_read_back(first: int, length: int) -> None:
    """Both ends are inclusive, as the spec writes them."""
    assert parse_content_range(f"{first}-{first + length}") == (first, first + length)


def test_bg_04_content_range_names_inclusive_ends() -> None:
    """The stop of a span is exclusive, the header's is not."""
    assert content_range(Span(0, 10), 100) == "bytes 0-9/100"


@settings(max_examples=40)
@given(
    st.text("0123456789", min_size=1, max_size=60).map(str.encode),
    st.lists(st.tuples(st.integers(0, 59), st.integers(1, 20)), min_size=2, max_size=5),
)
def test_bg_06_a_multipart_answer_has_the_length_announced_and_reads_as_mime(
    blob: bytes, places: list[tuple[int, int]]
) -> None:
    """A standard reader finds each part with its range and bytes, and the length is exact."""
    starts = [(start % len(blob), length) for start, length in places]
    spans = [Span(start, min(start + length, len(blob))) for start, length in starts]
    boundary = "f00dfeed"
    body = b"".join(multipart_head(boundary, span, len(blob), OCTETS) + blob[span.start : span.stop] for span in spans)
    body += multipart_tail(boundary)
    assert len(body) == multipart_size(boundary, spans, len(blob), OCTETS)
    message = email.message_from_bytes(
        f"Content-Type: multipart/byteranges; boundary={boundary}\r\n".encode() + body, policy=email.policy.HTTP
    )
    _, *parts = message.walk()
    assert [part["Content-Range"] for part in parts] == [content_range(span, len(blob)) for span in spans]
    assert {part["Content-Type"] for part in parts} == {OCTETS}
    assert [part.get_payload(decode=True) for part in parts] == [blob[span.start : span.stop] for span in spans]


def test_bg_08_if_range_counts_only_for_the_same_content() -> None:
    """Without the header or with our strong tag the range counts; with anything else the whole is served."""
    digest = Digest.of(b"x")
    assert [if_range(header, digest) for header in (None, etag(digest), f" {etag(digest)} ")] == [True] * 3
    others = (f"W/{etag(digest)}", str(digest), etag(Digest.of(b"y")), "Wed, 21 Oct 2026 07:28:00 GMT", "*", "")
    assert not any(if_range(header, digest) for header in others)


@given(st.from_regex(r"[0-9]{1,18}", fullmatch=True), st.from_regex(r"[0-9]{1,18}", fullmatch=True), st.integers(0, 99))
@example("0", "0", 1)
@example("007", "12", 10)
@example("5", "4", 10)
def test_the_short_way_for_one_range_comes_to_the_same(first: str, last: str, size_bytes: int) -> None:
    """A lone `a-b` is read without the grammar of lists, and gives what the grammar gives (here reached by a blank)."""

    def read(header: str) -> object:
        try:
            return parse_range(header, size_bytes)
        except RegistryError as error:
            return error.status

    assert read(f"bytes={first}-{last}") == read(f"bytes= {first}-{last}")


def test_thousands_of_empty_elements_are_not_looked_at() -> None:
    """A header of commas costs a look, not thousands of matches."""
    with pytest.raises(RegistryError) as refused:
        parse_range("bytes=" + "," * 2000 + "0-1", 10)
    assert refused.value.status == 400
    assert parse_range("bytes=" + "," * 900 + "0-1", 10) == (Span(0, 2),)
