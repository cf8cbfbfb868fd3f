"""Bodies end exactly where they say, however the bytes arrive, and broken framing is refused."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.framing import ChunkedFraming, Framing, LengthFraming, framing_of, take
from gateway.wire.refusals import Refused

NEXT = b"GET /next HTTP/1.1\r\n"


def read(framing: Framing, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Body and rest, when the bytes arrive in these pieces."""
    body = unread = b""
    for piece in pieces:
        unread += piece
        while not framing.done:
            part, unread = take(framing, unread)
            body += part
            if not part:
                break
    return body, unread


def read_parts(framing: Framing, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """The same through one buffer, as a thread reads: what is undecided moves to its front."""
    buffer = bytearray(4096)
    body, held = b"", 0
    for piece in pieces:
        buffer[held : held + len(piece)] = piece
        held += len(piece)
        while not framing.done:
            parts, used = framing.split(memoryview(buffer)[:held])
            assert all(parts)
            body += b"".join(parts)
            rest = bytes(buffer[used:held])
            buffer[:] = bytes(4096)
            buffer[: len(rest)] = rest
            held = len(rest)
            if not parts:
                break
    return body, bytes(buffer[:held])


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


@settings(max_examples=100)
@given(
    parts=st.lists(st.binary(max_size=60), max_size=6),
    places=st.lists(st.integers(0, 500), max_size=8),
    by_length=st.booleans(),
    damage=st.one_of(st.none(), st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=1))),
)
def test_parts_are_what_was_taken(
    parts: list[bytes], places: list[int], *, by_length: bool, damage: tuple[int, bytes] | None
) -> None:
    """Parts in a reused buffer and bytes on their own give the same body, the same rest and the same refusals."""
    raw = b"".join(parts) if by_length else chunked(parts, extension=b";a", trailer=b"a: b\r\n")
    if damage is not None:
        place = damage[0] % (len(raw) + 1)
        raw = raw[:place] + damage[1] + raw[place + 1 :]
    pieces = cut(raw + NEXT, places)
    outcomes: list[object] = []
    for way in (read, read_parts):
        framing = framing_of(sum(map(len, parts)) if by_length else None)
        try:
            outcomes.append((way(framing, pieces), framing.done, framing.known_left))
        except Refused as refused:
            outcomes.append((str(refused), False, None))

    assert outcomes[0] == outcomes[1]


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

    body, rest = take(ChunkedFraming(), raw)

    assert 0 < len(body) <= 512
    assert rest


def test_a_full_read_is_handed_on_without_a_copy() -> None:
    """Bytes that are all body come out as the object that went in."""
    data = b"x" * 1000

    assert take(LengthFraming(5000), data)[0] is data


@pytest.mark.parametrize("framing", [LengthFraming(700), ChunkedFraming()])
def test_parts_are_views(framing: Framing) -> None:
    """Parts lie where the bytes were received; how far they reach is told to the byte."""
    raw = b"x" * 700 if isinstance(framing, LengthFraming) else chunked([b"x" * 300, b"x" * 400])
    buffer = memoryview(bytearray(raw + NEXT))

    parts, used = framing.split(buffer)

    assert framing.done
    assert b"".join(parts) == b"x" * 700
    assert all(part.obj is buffer.obj for part in parts)
    assert bytes(buffer[used:]) == NEXT
