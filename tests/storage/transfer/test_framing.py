"""A body ends where its framing says, however its bytes come, and nowhere else."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.transfer import Broken
from storage.transfer.framing import ChunkedFraming, Framing, LengthFraming, UntilEndFraming, framing_of
from storage.transfer.heads import Head


def fed(framing: Framing, received: bytes, cuts: set[int]) -> bytes:
    """The body that comes out when the bytes come in these pieces."""
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(received)), len(received)]
    return b"".join(framing.take(received[start:stop]) for start, stop in pairwise(places) if start < stop)


def chunked(parts: list[bytes], trailer: bytes = b"") -> bytes:
    """The parts as chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n" + trailer + b"\r\n"


@given(st.lists(st.binary(max_size=40), max_size=6), st.sets(st.integers(0, 300)))
def test_chunks_come_out_whole(parts: list[bytes], cuts: set[int]) -> None:
    """Any chunks, cut anywhere, give the body and leave nothing behind."""
    framing = ChunkedFraming()
    assert fed(framing, chunked(parts, b"X-Checksum: 1\r\n"), cuts) == b"".join(parts)
    assert framing.done
    assert framing.exact


@pytest.mark.parametrize("beyond", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"\0" * 100])
def test_bytes_beyond_the_last_chunk_are_noticed(beyond: bytes) -> None:
    """They are not the body's, and the connection is not to be trusted any more."""
    framing = ChunkedFraming()
    assert framing.take(chunked([b"hello"]) + beyond) == b"hello"
    assert framing.done
    assert not framing.exact


@pytest.mark.parametrize(
    "received",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n0\r\n",
        b"-5\r\n",
        b"0x5\r\n",
        b"g\r\n",
        b"5 \r\nhello",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"\r\n5\r\nhello\r\n",
        b"0\r\nX y\r\n\r\n",
        b"0\r\nContent-Length: 7\r\n\r\n",
    ],
)
def test_malformed_chunks_are_refused(received: bytes) -> None:
    """Readers that forgive disagree with each other."""
    framing = ChunkedFraming()
    with pytest.raises(Broken, match="malformed"):
        framing.take(received)


@pytest.mark.parametrize("endless", [b"1;" + b"a" * 1000, b"0\r\nX: " + b"a" * 1000])
def test_extensions_and_trailers_are_bounded(endless: bytes) -> None:
    """A server cannot send for ever without a byte of the body."""
    framing = ChunkedFraming()
    framing.take(endless)
    for _ in range(64):
        assert framing.take(b"a" * 1000) == b""
    with pytest.raises(Broken, match="endless"):
        framing.take(b"a" * 1000)


def test_bound_begins_anew_with_each_byte_of_the_body() -> None:
    """Chunks of one byte have more framing than body, and are right."""
    framing = ChunkedFraming()
    for _ in range(200):
        assert framing.take(b"1;" + b"a" * 500 + b"\r\nx\r\n") == b"x"


def test_cut_chunks_are_broken() -> None:
    """The end of the connection ends no chunked body."""
    framing = ChunkedFraming()
    framing.take(b"5\r\nhello\r\n")
    with pytest.raises(Broken, match="last chunk"):
        framing.end()


@given(st.binary(min_size=1, max_size=60), st.integers(0, 60), st.sets(st.integers(0, 60)))
def test_length_is_exact(received: bytes, size_bytes: int, cuts: set[int]) -> None:
    """So many bytes are the body's, what lies beyond is noticed, what is missing is an error."""
    framing = LengthFraming(size_bytes)
    body = fed(framing, received, cuts)
    assert body == received[:size_bytes]
    assert framing.done is (len(received) >= size_bytes)
    assert framing.exact is (len(received) <= size_bytes)
    if not framing.done:
        assert 0 < framing.wanted_bytes <= size_bytes - len(body)
        with pytest.raises(Broken, match=f"{size_bytes - len(received)} bytes before"):
            framing.end()


def test_body_until_the_end_is_never_exact() -> None:
    """Its connection is over by definition."""
    framing = UntilEndFraming()
    assert framing.take(b"hello") == b"hello"
    assert (framing.done, framing.exact) == (False, False)
    framing.end()
    assert (framing.done, framing.exact) == (True, False)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (Head(200, (), 7, chunked=False, keeps=True), LengthFraming),
        (Head(200, (), 0, chunked=False, keeps=True), LengthFraming),
        (Head(200, (), None, chunked=True, keeps=True), ChunkedFraming),
        (Head(200, (), None, chunked=False, keeps=False), UntilEndFraming),
    ],
)
def test_head_decides(head: Head, kind: type) -> None:
    """The framing that the head announced."""
    assert type(framing_of(head)) is kind
