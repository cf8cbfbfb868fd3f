"""Raw heads: what has one meaning passes, everything else is refused before a parser sees it."""

import h11
import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.wire.heads import Head, find_end, judge
from gateway.wire.refusals import Refused

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


def end_of(raw: bytes, *, searched: int = 0, limit: int = 1000) -> int | None:
    """Where the head ends."""
    return find_end(raw, searched=searched, limit=limit)


def judged(raw: bytes) -> Head:
    """What the head means."""
    return judge(raw, max_fields=16)


def test_the_end_of_a_head_is_behind_its_empty_line() -> None:
    """What follows the empty line belongs to the body, whatever it contains."""
    assert end_of(GET + b"\r\nbody\n\n") == len(GET) + 2


@pytest.mark.parametrize("cut", range(1, len(GET) + 2))
def test_an_unfinished_head_needs_more(cut: int) -> None:
    """A head cut anywhere is unfinished, and continues to be judged right from there."""
    raw = GET + b"\r\n"
    assert end_of(raw[:cut]) is None
    assert end_of(raw, searched=cut) == len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="gen_23_tls_hello"),
        pytest.param(b"\x16", id="gen_23_first_byte_of_a_tls_hello"),
        pytest.param(b"\x00", id="nul"),
        pytest.param(b" GET", id="leading_space"),
        pytest.param(b"\nGET", id="leading_lf"),
        pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", id="bare_lf"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\n", id="bare_lf_in_one_line"),
        pytest.param(b"GET / HTTP/1.1\rHost: x\r\n", id="bare_cr"),
        pytest.param(GET + b"a: \r\r\n\r\n", id="doubled_cr"),
    ],
)
def test_what_cannot_become_a_head_is_refused_at_once(raw: bytes) -> None:
    """No waiting for an end that would not make it better: 400 with what came so far."""
    with pytest.raises(Refused) as refused:
        judged(raw[: end_of(raw)])

    assert refused.value.status == 400


def test_a_head_over_the_limit_is_431() -> None:
    """The limit counts the request line and all fields together, with or without their end."""
    for end in (b"", b"\r\n\r\n"):
        with pytest.raises(Refused) as refused:
            end_of(GET + b"a: " + b"b" * 1000 + end)
        assert refused.value.status == 431


REFUSED_LINES = {
    "no_version": b"GET /",
    "http_0_9": b"GET / HTTP/0.9",
    "http_1_9": b"GET / HTTP/1.9",
    "http_2": b"GET / HTTP/2.0",
    "h2_preface": b"PRI * HTTP/2.0",
    "two_spaces": b"GET  / HTTP/1.1",
    "space_in_target": b"GET /a b HTTP/1.1",
    "trailing_space": b"GET / HTTP/1.1 ",
    "no_method": b"/ HTTP/1.1",
    "long_method": b"G" * 33 + b" / HTTP/1.1",
    "connect": b"CONNECT x:1 HTTP/1.1",
    "connect_path": b"CONNECT / HTTP/1.1",
    "trace": b"TRACE / HTTP/1.1",
    "lower_case_method": b"delete / HTTP/1.1",
    "mixed_case_method": b"Get / HTTP/1.1",
    "method_of_digits": b"123 / HTTP/1.1",
    "options_star": b"OPTIONS * HTTP/1.1",
    "h18_query_only": b"GET ?x HTTP/1.1",
    "h18_broken_url": b"GET http://[ HTTP/1.1",
    "absolute": b"GET http://x/ HTTP/1.1",
    "fragment": b"GET /a#b HTTP/1.1",
    "high_byte": b"GET /\xff HTTP/1.1",
    "nul": b"GET /\x00 HTTP/1.1",
}


@pytest.mark.parametrize("line", REFUSED_LINES.values(), ids=REFUSED_LINES.keys())
def test_a_strange_request_line_is_refused(line: bytes) -> None:
    """Other protocols, other versions, other targets than a path: 400."""
    with pytest.raises(Refused) as refused:
        judged(line + b"\r\nHost: x\r\n\r\n")

    assert refused.value.status == 400


REFUSED_FIELDS = {
    "obs_fold": b"a: b\r\n c",
    "obs_fold_tab": b"a: b\r\n\tc",
    "space_before_colon": b"a : b",
    "no_colon": b"a",
    "no_name": b": b",
    "nul": b"a: \x00",
    "control": b"a: \x0b",
    "del": b"a: \x7f",
    "two_hosts": b"Host: x",
    "two_lengths": b"Content-Length: 4\r\nContent-Length: 4",
    "two_different_lengths": b"Content-Length: 4\r\ncontent-length: 5",
    "length_list": b"Content-Length: 4, 4",
    "length_sign": b"Content-Length: +4",
    "length_negative": b"Content-Length: -1",
    "length_hex": b"Content-Length: 0x4",
    "length_empty": b"Content-Length:",
    "length_huge": b"Content-Length: 9999999999999999999",
    "length_arabic": "Content-Length: ٤".encode(),
    "length_and_coding": b"Content-Length: 4\r\nTransfer-Encoding: chunked",
    "coding_and_length": b"Transfer-Encoding: chunked\r\nContent-Length: 4",
    "two_codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "other_coding": b"Transfer-Encoding: gzip, chunked",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunked_identity": b"Transfer-Encoding: chunked, identity",
    "h1_websocket": b"Connection: Upgrade\r\nUpgrade: websocket",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "two_expects": b"Expect: 100-continue\r\nExpect: 100-continue",
}


@pytest.mark.parametrize("fields", REFUSED_FIELDS.values(), ids=REFUSED_FIELDS.keys())
def test_an_ambiguous_field_is_refused(fields: bytes) -> None:
    """Whatever two readers could understand differently: 400."""
    with pytest.raises(Refused) as refused:
        judged(GET + fields + b"\r\n\r\n")

    assert refused.value.status == 400


@pytest.mark.parametrize(
    "host",
    [
        b"a, b",
        b"user@x",
        b"a b",
        b"x/y",
        b"x:port",
        b"[",
        b"[::1",
        b"x\xff",
        b"<x>",
        b'"x"',
        b"a..b",
        b"a" * 64,
        b"a,b",
    ],
)
def test_t6_a_malformed_host_is_refused(host: bytes) -> None:
    """Host is one host with an optional port, by form."""
    with pytest.raises(Refused):
        judged(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")


def test_a_missing_host_is_refused_in_http_1_1_only() -> None:
    """HTTP/1.0 had no Host."""
    with pytest.raises(Refused):
        judged(b"GET / HTTP/1.1\r\n\r\n")

    assert judged(b"GET / HTTP/1.0\r\n\r\n").version == b"1.0"


def test_chunked_is_refused_in_http_1_0() -> None:
    """HTTP/1.0 has no transfer codings (RFC 9112, 6.1)."""
    with pytest.raises(Refused):
        judged(b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_too_many_fields_are_431() -> None:
    """Each field costs a parse, so their number is bounded."""
    with pytest.raises(Refused) as refused:
        judged(GET + b"a: b\r\n" * 16 + b"\r\n")

    assert refused.value.status == 431


@pytest.mark.parametrize(
    ("fields", "body_bytes", "expects"),
    [
        (b"", 0, False),
        (b"Content-Length: 0\r\n", 0, False),
        (b"content-length:  17 \r\n", 17, False),
        (b"Transfer-Encoding: Chunked\r\n", None, False),
        (b"Expect: 100-Continue\r\nContent-Length: 5\r\n", 5, True),
        (b"Expect: cake\r\n", 0, False),
    ],
)
def test_the_framing_is_understood(fields: bytes, body_bytes: int | None, *, expects: bool) -> None:
    """Length, chunked or none, and whether the client waits for 100."""
    head = judged(GET + fields + b"\r\n")

    assert (head.body_bytes, head.expects_continue) == (body_bytes, expects)


def test_lm_02_a_long_query_passes() -> None:
    """Ten tags of 128 characters fit (row LM-02)."""
    target = b"/v2/a/manifests/x?" + b"&".join(b"tag=" + b"t" * 128 for _ in range(10))

    assert judged(b"PUT " + target + b" HTTP/1.1\r\nHost: x:5000\r\n\r\n").target == target


def test_a_long_run_of_spaces_is_judged_in_linear_time() -> None:
    """A header of 30,000 spaces costs no more than any other of its length."""
    raw = GET + b"a: b" + b" " * 30_000 + b"c\r\n\r\n"

    assert end_of(raw, limit=32768) == len(raw)
    assert judged(raw).method == b"GET"


LINES = st.lists(
    st.sampled_from(
        [b"GET / HTTP/1.1", b"Host: x", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"a: b", b" c", b"a\t:b"]
    )
    | st.binary(max_size=12),
    max_size=6,
)
STARTS = [b"GET / HTTP/1.1", b"PUT /a%20b?c=d HTTP/1.1", b"DELETE /x HTTP/1.0", b"FROB / HTTP/1.1"]
FIELDS = st.lists(
    st.sampled_from(
        [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"a: b", b" c", b"a\t:b", b"Connection: close"]
    )
    | st.tuples(st.sampled_from([b"a", b"X-b"]), st.binary(max_size=8)).map(b": ".join)
    | st.tuples(st.binary(min_size=1, max_size=4), st.just(b"d")).map(b":".join),
    max_size=4,
)
HEADS = LINES | st.tuples(st.sampled_from(STARTS), FIELDS).map(lambda head: [head[0], b"Host: x", *head[1]])
"""Nonsense, and what is nearly right: every eighth or so passes."""


@given(HEADS, st.sampled_from([b"\r\n", b"\n", b"\r"]))
@example([b"GET / HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked"], b"\r\n")
@example([b"GET / HTTP/1.1", b"Host: x", b"Content-Length: 5"], b"\r\n")
def test_what_passes_means_the_same_to_h11(lines: list[bytes], line_end: bytes) -> None:
    """A head that is let through is no error for h11, and has the same method, target and framing there."""
    raw = line_end.join(lines) + b"\r\n\r\n"
    try:
        end = end_of(raw)
        head = judged(raw[:end])
    except Refused:
        return

    parser = h11.Connection(h11.SERVER)
    parser.receive_data(raw[:end])
    request = parser.next_event()

    assert isinstance(request, h11.Request)
    assert (request.method, request.target, request.http_version) == (head.method, head.target, head.version)
    fields = dict(request.headers)
    assert head.body_bytes == (None if b"transfer-encoding" in fields else int(fields.get(b"content-length", 0)))


class Heard:
    """What llhttp makes of a request."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        """The target, in parts."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.is_complete = True


@given(HEADS, st.sampled_from([b"\r\n", b"\n", b"\r"]))
@example([b"GET / HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked"], b"\r\n")
@example([b"PATCH /a?b HTTP/1.0", b"Content-Length: 5", b"a: b"], b"\r\n")
@example([b"DELETE / HTTP/1.1", b"Host: x", b"Content-Length: 0", b"a:"], b"\r\n")
def test_what_passes_means_the_same_to_llhttp(lines: list[bytes], line_end: bytes) -> None:
    """A head that is let through has the same method, target, fields and body for llhttp, if it knows the method."""
    raw = line_end.join(lines) + b"\r\n\r\n"
    try:
        end = end_of(raw)
        head = judged(raw[:end])
    except Refused:
        return

    heard = Heard()
    parser = httptools.HttpRequestParser(heard)
    try:
        parser.feed_data(raw[:end])
    except httptools.HttpParserInvalidMethodError:
        return  # where the protocol wants 405; one of the reasons why it is a witness and not the judge
    assert heard.is_complete == (head.body_bytes == 0)
    if head.body_bytes is None:
        parser.feed_data(b"5\r\nhello\r\n0\r\n\r\n")
    else:
        parser.feed_data(b"hello"[: head.body_bytes])

    assert heard.is_complete
    assert heard.body == (b"" if head.body_bytes == 0 else b"hello")
    assert (parser.get_method(), heard.target) == (head.method, head.target)
    assert parser.get_http_version().encode() == head.version
    assert heard.fields == list(head.fields)
