"""Protocol rows BG-04 to BG-08 as properties: any text in Range and If-Range, against a model of RFC 9110 section 14.

The model is written from the RFC and from our rules where it leaves a choice (docs/protocol.md, "Deviations and
choices"): it shares no code with the gateway.
"""

import http.client
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.people import Login, make_token
from tests.protocol.upload_model import Piece
from tests.served import ADMIN, Reply, Served, send

pytestmark = pytest.mark.slow

NAME = "ranges/of/blobs"
SIZES = (0, 1, 10, 70_000)
MOST_RANGES = 64
OCTETS = "application/octet-stream"
Part = tuple[int, int]  # first byte, and the one behind the last


@dataclass(frozen=True)
class Shelf:
    """A served gateway with one blob of each size, and a connection that all examples share."""

    connection: http.client.HTTPConnection
    login: Login
    blobs: dict[int, tuple[str, bytes]] = field(repr=False)

    def ask(self, method: str, size: int, headers: dict[str, str]) -> Reply:
        """One request for the blob of that size."""
        path = f"/v2/{NAME}/blobs/{self.blobs[size][0]}"
        return send(self.connection, method, path, headers=headers, auth=self.login)


@pytest.fixture(scope="module")
def shelf(gateway: Served) -> Iterator[Shelf]:
    """See `Shelf`."""
    login = make_token(gateway, ADMIN)  # a password would cost 30 ms at each request
    contents = [Piece.of(size, size) for size in SIZES]
    blobs = {len(content): (gateway.push_blob(NAME, content, auth=login), bytes(content)) for content in contents}
    connection = gateway.connection()
    yield Shelf(connection, login, blobs)
    connection.close()


# --- the model ------------------------------------------------------------------------------------------------------


def asked(text: str) -> list[tuple[str, str]] | None:
    """The range-specs of a Range header as (first-pos, last-pos or suffix-length); None if it is not to be honoured."""
    unit, equals, listed = text.strip(" \t").partition("=")
    if not equals or not unit.isascii() or unit.lower() != "bytes":
        return None
    specs = []
    for element in listed.split(","):
        spec = element.strip(" \t")
        if not spec:
            continue  # a list may have empty elements (RFC 9110, 5.6.1)
        found = re.fullmatch("([0-9]+)-([0-9]*)|-([0-9]+)", spec)
        if found is None:
            return None
        specs.append((found[1] or "", found[2] if found[1] else found[3]))
    return specs or None


def part(spec: tuple[str, str], size: int) -> Part | None:
    """The bytes that a range-spec selects; None if it selects none or is reversed."""
    first, last = spec
    if not first:
        start, stop = max(0, size - whole_number(last)), size
    else:
        start, stop = whole_number(first), min(size, whole_number(last) + 1) if last else size
    return (start, stop) if start < stop else None


def whole_number(digits: str) -> int:
    """The number, or one that is larger than any blob: Python does not convert thousands of digits."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 20 else 10**20


def without_overlap(parts: list[Part]) -> list[Part]:
    """Parts that share a byte become one, at the place of the first of them; neighbours stay apart."""
    for here, (start, stop) in enumerate(parts):
        for there in range(here + 1, len(parts)):
            if start < parts[there][1] and parts[there][0] < stop:
                joined = min(start, parts[there][0]), max(stop, parts[there][1])
                return without_overlap([*parts[:here], joined, *parts[here + 1 : there], *parts[there + 1 :]])
    return parts


# --- what is asked --------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(0, 12).map(str),
    st.integers(69_990, 70_010).map(str),
    st.sampled_from(["00", "007", "9" * 18, "9" * 19, "9" * 30, "0" * 200 + "1", "18446744073709551615"]),
)
SPECS = st.one_of(st.builds("{}-{}".format, NUMBERS, NUMBERS), NUMBERS.map("{}-".format), NUMBERS.map("-{}".format))
BROKEN = st.sampled_from(["-", "5", "a-b", "1-2-3", "0x1-2", "1 -2", "1- 2", "--1", "+1-2", "\xb2-\xb3", "1-2;", "*"])
SPACE = st.sampled_from(["", "", "", " ", "\t", "  "])
ELEMENTS = st.one_of(SPECS, SPECS, SPECS, SPECS, BROKEN, st.just(""))
PADDED = st.builds("{}{}{}".format, SPACE, st.one_of(SPECS, SPECS, ELEMENTS), SPACE)
UNITS = st.sampled_from(
    ["bytes="] * 12 + ["Bytes=", "BYTES=", "bytes =", "\xa0bytes=", "items=", "bytes", "byte=", "="]
)
FREE_TEXT = st.text(alphabet=string.ascii_letters + string.digits + "-=, \t*/;\"'\xa0\xb2\xff", max_size=30)
HEADERS = st.one_of(
    st.builds(lambda unit, elements: unit + ",".join(elements), UNITS, st.lists(PADDED, min_size=1, max_size=6)),
    st.lists(SPECS, min_size=60, max_size=70).map(lambda specs: "bytes=" + ",".join(specs)),
    FREE_TEXT,
    FREE_TEXT.map("bytes={}".format),
)
CONDITIONS = st.sampled_from(
    [None, None, None, "right", "weak", '"sha256:other"', "Sat, 29 Oct 1994 19:43:31 GMT", "*", ""]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=HEADERS, condition=CONDITIONS, size=st.sampled_from(SIZES))
@example(text="bytes=0-4,5-9", condition=None, size=10)
@example(text="bytes=8-9,0-1,9-9,1-3", condition="right", size=10)
@example(text="bytes=500-0", condition=None, size=10)
@example(text="bytes=0-", condition=None, size=0)
@example(text="bytes =0-4", condition=None, size=10)
def test_bg_04_05_06_07_08_any_range_is_answered_as_the_rfc_says(
    shelf: Shelf, text: str, condition: str | None, size: int
) -> None:
    """The whole blob, the parts asked for, 416 or 400: what the model says, byte by byte, with exact lengths."""
    digest, content = shelf.blobs[size]
    known = {"right": f'"{digest}"', "weak": f'W/"{digest}"'}
    headers = {"Range": text} | ({} if condition is None else {"If-Range": known.get(condition, condition)})
    reply = shelf.ask("GET", size, headers)

    assert reply.headers["content-length"] == str(len(reply.body))
    specs = asked(text) if condition in {None, "right"} else None
    parts = without_overlap([found for spec in specs or [] if (found := part(spec, size))])
    if specs is None:
        assert (reply.status, "content-range" in reply.headers) == (200, False)
        assert reply.body == content
    elif len(specs) > MOST_RANGES:
        assert (reply.status, reply.codes()) == (400, ["UNSUPPORTED"])
    elif not parts:
        assert (reply.status, reply.codes()) == (416, ["SIZE_INVALID"])
        assert reply.headers["content-range"] == f"bytes */{size}"
    else:
        assert reply.status == 206
        assert list(_parts(reply)) == [(f"bytes {a}-{b - 1}/{size}", content[a:b]) for a, b in parts]
        assert reply.headers["docker-content-digest"] == digest


def _parts(reply: Reply) -> Iterator[tuple[str, bytes]]:
    """Content-Range and bytes of each part of a 206; one part comes by itself, several as multipart/byteranges."""
    boundary = re.fullmatch("multipart/byteranges; boundary=([0-9a-f]{32})", reply.headers["content-type"])
    if boundary is None:
        assert reply.headers["content-type"] == OCTETS
        yield reply.headers["content-range"], reply.body
        return
    assert "content-range" not in reply.headers
    before, *pieces, after = reply.body.split(f"\r\n--{boundary[1]}".encode())
    assert (before, after) == (b"", b"--\r\n")
    assert len(pieces) > 1
    for piece in pieces:
        head, _, body = piece.partition(b"\r\n\r\n")
        nothing, kind, place = head.decode().split("\r\n")
        assert (nothing, kind) == ("", f"Content-Type: {OCTETS}")
        yield place.removeprefix("Content-Range: "), body


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=HEADERS, size=st.sampled_from(SIZES))
def test_bg_04_ranges_are_for_get_alone(shelf: Shelf, text: str, size: int) -> None:
    """HEAD describes the whole blob, whatever Range says (RFC 9110, 14.2)."""
    reply = shelf.ask("HEAD", size, {"Range": text})

    assert (reply.status, reply.headers["content-length"], reply.body) == (200, str(size), b"")
    assert reply.headers["accept-ranges"] == "bytes"
    assert "content-range" not in reply.headers
