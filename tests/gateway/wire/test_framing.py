"""Bodies end exactly where they say, however the bytes arrive, and broken framing is refused."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.framing import ChunkedFraming, Framing, LengthFraming, framing_of
from gateway.wire.refusals import Refused

NEXT = b"GET /next HTTP/1.1\r\n"


def read(framing: Framing, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Body and rest, when the bytes arrive in these pieces."""
    body = unread = b""
    for piece in pieces:
        unread += piece
        while not framing.done:
            part, unread = framing.take(unread)
            body += part
            if not part:
                break
    return body, unread


def chunked(parts: list[bytes], *, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """The chunked form of these parts."""
    lines = [b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts if part]
    return b"".join(lines) + b"0\r\n" + trailer + b"\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


@settings(max_examples=50)
@given(st.binary(max_size=200), st.lists(st.integers(0, 500), max_size=8))
def test_a_length_ends_the_body_wherever_it_is_cut(body: bytes, places: list[int]) -> None:
    """Every byte up to the length is body, every byte behind it is not."""
    framing = framing_of(len(body))

    assert read(framing, cut(body + NEXT, places)) == (body, NEXT)
    assert framing.done
    assert framing.known_left == 0


@settings(max_examples=50)
@given(
    st.lists(st.binary(max_size=60), max_size=6),
    st.lists(st.integers(0, 500), max_size=8),
    st.sampled_from([b"", b";a", b";a=b", b' ; a="b"']),
    st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc:\r\n"]),
)
def test_chunks_are_joined_wherever_they_are_cut(
    parts: list[bytes], places: list[int], extension: bytes, trailer: bytes
) -> None:
    """The body is the chunks' data alone; extensions and trailers are dropped; the next request stays untouched."""
    framing = framing_of(None)
    raw = chunked(parts, extension=extension, trailer=trailer)

    assert read(framing, cut(raw + NEXT, places)) == (b"".join(parts), NEXT)
    assert framing.done
    assert framing.known_left == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"g\r\n",
        b"0x4\r\n",
        b"+4\r\n",
        b"-1\r\n",
        b" 4\r\n",
        b"4 4\r\n",
        b"4\n",
        b"4\r\nabcdX\r\n",
        b"4\r\nabcd\n",
        b"4\r\nabcde\r\n",
        b"ffffffffffffffff\r\n",
        b"4;\x00\r\n",
        b"4;a\rb\r\n",
        b"0\r\n\n",
        b"0\r\na: b\n\r\n",
        b"0\r\n a: b\r\n",
        b"0\r\na b\r\n",
        b"0\r\na: \x00\r\n",
        b"4;" + b"a" * 2000,
        b"4;" + b"a" * 2000 + b"\r\n",
        b"0\r\n" + b"a: b\r\n" * 3000,
    ],
)
def test_broken_chunks_are_refused(raw: bytes) -> None:
    """Each deviation that some reader would forgive is an error here, a bare LF in a trailer included."""
    with pytest.raises(Refused):
        read(ChunkedFraming(), [raw])


@pytest.mark.parametrize("raw", [b"4", b"4\r", b"4\r\nab", b"4\r\nabcd\r", b"0\r\n", b"0\r\na: b\r\n", b"0\r\n\r"])
def test_an_unfinished_chunk_waits(raw: bytes) -> None:
    """Less than a whole chunked body is never taken for its end."""
    framing = ChunkedFraming()
    read(framing, [raw])

    assert not framing.done
    assert framing.known_left is None


def test_tiny_chunks_are_taken_in_bounded_turns() -> None:
    """One call handles a bounded number of lines, so that chunks of one byte cannot hold the event loop."""
    raw = b"1\r\nx\r\n" * 10_000

    body, rest = ChunkedFraming().take(raw)

    assert 0 < len(body) <= 512
    assert rest


def test_a_full_read_is_handed_on_without_a_copy() -> None:
    """Bytes that are all body come out as the object that went in."""
    data = b"x" * 1000

    assert LengthFraming(5000).take(data)[0] is data
