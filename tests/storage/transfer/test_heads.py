"""A head of an answer has one meaning or none, and a request's head cannot be made to hold two."""

import string

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.transfer import Broken, Origin
from storage.transfer.heads import HEAD_BYTES, Head, find_end, judge, request_head

ORIGIN = Origin("http", "s3.example", 9000)


def answer(*lines: str, start: str = "HTTP/1.1 200 OK", method: str = "GET") -> Head:
    """The meaning of a head with these fields."""
    return judge("".join(f"{line}\r\n" for line in (start, *lines, "")).encode("latin-1"), method)


def test_fields_are_kept_in_order_with_lower_names() -> None:
    """Repeated fields stay apart, and blanks around a value are not part of it."""
    head = answer("WWW-Authenticate: Basic", 'ETag:  "a b" \t', "www-authenticate: Bearer", "X-Empty:")
    assert head.headers == (
        ("www-authenticate", "Basic"),
        ("etag", '"a b"'),
        ("www-authenticate", "Bearer"),
        ("x-empty", ""),
    )


@pytest.mark.parametrize(
    ("lines", "framing"),
    [
        (["Content-Length: 7"], (7, False, True)),
        (["Content-Length: 0"], (0, False, True)),
        (["Content-Length: 7", "Connection: close"], (7, False, False)),
        (["Content-Length: 7", "Connection: x, Close"], (7, False, False)),
        (["Content-Length: 7", "Connection: keep-alive"], (7, False, True)),
        (["Transfer-Encoding: chunked"], (None, True, True)),
        (["Transfer-Encoding: Chunked", "Connection: close"], (None, True, False)),
        ([], (None, False, False)),
    ],
)
def test_framing_follows_the_fields(lines: list[str], framing: tuple[int | None, bool, bool]) -> None:
    """Length, chunks, or the end of the connection, in this order; without either it cannot serve again."""
    head = answer(*lines)
    assert (head.size_bytes, head.chunked, head.keeps) == framing


@pytest.mark.parametrize(
    ("start", "method"),
    [("HTTP/1.1 204 No Content", "GET"), ("HTTP/1.1 304 Not Modified", "GET"), ("HTTP/1.1 200 OK", "HEAD")],
)
@pytest.mark.parametrize("field", ["Content-Length: 7", "Transfer-Encoding: chunked", "X: y"])
def test_some_answers_have_no_body(start: str, method: str, field: str) -> None:
    """204, 304 and any answer to HEAD end with the head, whatever their fields say."""
    head = answer(field, start=start, method=method)
    assert (head.size_bytes, head.chunked, head.keeps) == (0, False, True)


def test_old_http_is_not_kept() -> None:
    """A server of HTTP/1.0 closes."""
    assert not answer("Content-Length: 7", start="HTTP/1.0 200 OK").keeps


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 4", "Transfer-Encoding: chunked"],
        ["Content-Length: 4", "Content-Length: 4"],
        ["Content-Length: 4", "Content-Length: 5"],
        ["Content-Length: 4, 4"],
        ["Content-Length: +4"],
        ["Content-Length: -4"],
        ["Content-Length: 0x4"],
        ["Content-Length: ٤".encode().decode("latin-1")],
        ["Content-Length: "],
        ["Content-Length: 1234567890123456789"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding : chunked"],
        ["X: y", " folded: z"],
        ["X: a\0b"],
        ["X: a\rb"],
        ["X: a\nb"],
        [": nameless"],
        ["no colon"],
    ],
)
def test_ambiguous_and_malformed_fields_are_refused(lines: list[str]) -> None:
    """What two readers could understand in two ways, or not at all, is no answer."""
    with pytest.raises(Broken):
        answer(*lines)


@pytest.mark.parametrize(
    "start",
    [
        "HTTP/1.1 200OK",
        "HTTP/2 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/1.1 020 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
    ],
)
def test_other_protocols_are_refused(start: str) -> None:
    """Status lines of something else, and of what nobody asked for."""
    with pytest.raises(Broken):
        answer(start=start)


@pytest.mark.parametrize("start", ["HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 599 Für Elise"])
def test_any_reason_phrase_will_do(start: str) -> None:
    """Servers omit it, or write what they like."""
    assert answer("Content-Length: 1", start=start).status in {200, 599}


class Witness:
    """What llhttp reads."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head's end."""
        self.complete = True


PIECES = st.sampled_from(
    [
        "HTTP/1.1 200 OK",
        "Content-Length: 3",
        "X: y",
        " z",
        "\r\n",
        "\n",
        "\r",
        ":",
        "\0",
        "Transfer-Encoding: chunked",
        "é",
    ]
) | st.text(string.ascii_letters + ": \t", max_size=6)


@given(st.lists(PIECES, max_size=10))
def test_what_passes_means_the_same_to_llhttp(pieces: list[str]) -> None:
    """No head is let through that llhttp refuses or reads as other fields."""
    raw = ("HTTP/1.1 200 OK\r\n" + "".join(pieces) + "\r\n\r\n").encode("latin-1")
    raw = raw[: raw.index(b"\r\n\r\n") + 4]
    try:
        head = judge(raw, "GET")
    except Broken:
        return
    witness = Witness()
    parser = httptools.HttpResponseParser(witness)
    parser.feed_data(raw)
    assert witness.complete
    assert parser.get_status_code() == head.status
    assert witness.fields == [(name.encode(), value.encode("latin-1")) for name, value in head.headers]


@given(st.data())
def test_end_is_found_however_the_bytes_come(data: st.DataObject) -> None:
    """Any way to cut the bytes finds the same end."""
    raw = b"HTTP/1.1 200 OK\r\nX: \r\n\r\nbody\r\n\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw)))) | {len(raw)})
    searched = 0
    for cut in cuts:
        end = find_end(raw[:cut], searched=searched)
        searched = cut
        if end is not None:
            assert end == 24
            return
    pytest.fail("no end was found")


@pytest.mark.parametrize("start", [b"\x16\x03\x01", b"HTTQ", b"\r\nHTTP/1.1", b"SSH-2.0"])
def test_what_is_not_http_is_seen_at_once(start: bytes) -> None:
    """Nobody waits for the end of a head that cannot be one."""
    with pytest.raises(Broken, match="not HTTP"):
        find_end(start, searched=0)


def test_endless_head_is_refused() -> None:
    """A head that has no end within its bound never gets one."""
    line = b"HTTP/1.1 200 OK\r\n"
    assert find_end(line + b"a" * (HEAD_BYTES - len(line)), searched=0) is None
    with pytest.raises(Broken, match="larger"):
        find_end(line + b"a" * HEAD_BYTES, searched=0)
    with pytest.raises(Broken, match="larger"):
        find_end(line + b"a" * HEAD_BYTES + b"\r\n\r\n", searched=0)


def test_request_has_host_and_length() -> None:
    """Host is first where the caller gave none; an empty body is said aloud where one is expected."""
    assert request_head("GET", ORIGIN, "/a?b", [("X", "y")], size_bytes=0) == (
        b"GET /a?b HTTP/1.1\r\nHost: s3.example:9000\r\nX: y\r\n\r\n"
    )
    assert request_head("PUT", ORIGIN, "/", [("host", "other")], size_bytes=0) == (
        b"PUT / HTTP/1.1\r\nhost: other\r\nContent-Length: 0\r\n\r\n"
    )
    assert b"Content-Length: 7\r\n" in request_head("DELETE", ORIGIN, "/", [], size_bytes=7)


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("get", "/", []),
        ("GET /", "/", []),
        ("GET", "relative", []),
        ("GET", "", []),
        ("GET", "/a b", []),
        ("GET", "/a\r\nX: y", []),
        ("GET", "/ü", []),
        ("GET", "/", [("X", "a\r\nY: b")]),
        ("GET", "/", [("X", "a\nb")]),
        ("GET", "/", [("X", "snow ☃")]),
        ("GET", "/", [("X:", "a")]),
        ("GET", "/", [("", "a")]),
        ("PUT", "/", [("Content-Length", "5")]),
        ("PUT", "/", [("Transfer-Encoding", "chunked")]),
        ("PUT", "/", [("Connection", "upgrade")]),
    ],
)
def test_request_cannot_be_split(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    """Neither target nor field can smuggle a second request, and framing is not the caller's."""
    with pytest.raises(ValueError, match=r"request line|header field|itself sets"):
        request_head(method, ORIGIN, target, headers, size_bytes=0)


def test_refused_field_does_not_show_its_value() -> None:
    """It may be a token."""
    with pytest.raises(ValueError, match="Authorization") as caught:
        request_head("GET", ORIGIN, "/", [("Authorization", "secret\n")], size_bytes=0)
    assert "secret" not in str(caught.value)
