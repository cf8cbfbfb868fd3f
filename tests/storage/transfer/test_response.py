"""An answer's body as its reader sees it: bounds, errors that stay, and when the connection can serve again."""

import pytest

from storage.transfer import Broken, Response, TooLarge
from storage.transfer.framing import framing_of
from storage.transfer.heads import judge


class Pieces:
    """A connection that gives these pieces, and then its end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def receive(self, max_bytes: int) -> bytes:
        """The next one."""
        assert max_bytes > 0
        return self.pieces.pop(0) if self.pieces else b""


def response(field: bytes, *pieces: bytes, unread: bytes = b"", reusable: bool = True) -> Response:
    """An answer with this field whose body comes in these pieces."""
    head = judge(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % field, "GET")
    return Response(head, framing_of(head), unread, Pieces(*pieces), reusable=reusable)


LENGTH, CHUNKED, NEITHER = b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y"


@pytest.mark.parametrize(
    "whole",
    [
        response(LENGTH, b"hel", b"lo"),
        response(LENGTH, unread=b"hello"),
        response(LENGTH, b"lo", unread=b"hel"),
        response(CHUNKED, b"5\r\nhe", b"llo\r\n", b"0\r\n\r\n"),
        response(NEITHER, b"hel", b"lo"),
    ],
)
async def test_small_body_is_read_whole(whole: Response) -> None:
    """With just the bytes that it has as the limit."""
    assert await whole.read(5) == b"hello"
    assert await whole.read(5) == b""


@pytest.mark.parametrize(
    "large",
    [response(LENGTH, b"hello"), response(CHUNKED, b"5\r\nhello\r\n"), response(NEITHER, b"hel", b"lo")],
)
async def test_large_body_is_refused(large: Response) -> None:
    """One byte over the limit, whether or not it was announced."""
    with pytest.raises(TooLarge, match="4 bytes") as caught:
        await large.read(4)
    assert not caught.value.retryable
    assert not large.is_over_nowait()


async def test_announced_size_is_refused_unread() -> None:
    """Nothing is received of a body that is too large by its own word."""
    source = Pieces(b"hello")
    head = judge(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET")
    with pytest.raises(TooLarge):
        await Response(head, framing_of(head), b"", source, reusable=True).read(4)
    assert source.pieces == [b"hello"]


@pytest.mark.parametrize(
    ("answer", "is_over"),
    [
        (response(LENGTH, b"hello"), True),
        (response(LENGTH, b"hello", reusable=False), False),
        (response(LENGTH, unread=b"hello!"), False),
        (response(CHUNKED, b"0\r\n\r\n"), True),
        (response(CHUNKED, b"0\r\n\r\n!"), False),
        (response(NEITHER, b"hello"), False),
        (response(b"Content-Length: 0"), True),
        (response(b"Content-Length: 0", unread=b"!"), False),
    ],
)
async def test_connection_serves_again_after_exactly_the_body(answer: Response, is_over: bool) -> None:  # noqa: FBT001
    """Not when more came, and not when it ended with it."""
    await answer.read(10)
    assert answer.is_over_nowait() is is_over


@pytest.mark.parametrize(
    ("answer", "is_over"),
    [
        (response(LENGTH, b"hello"), False),
        (response(LENGTH, unread=b"hell"), False),
        (response(LENGTH, unread=b"hello"), True),
        (response(LENGTH, unread=b"hello!"), False),
        (response(CHUNKED, unread=b"5\r\nhello\r\n0\r\n\r\n"), True),
        (response(CHUNKED, unread=b"5\r\nhello\r\n0\r\n"), False),
        (response(CHUNKED, unread=b"nonsense"), False),
    ],
)
def test_unread_body_is_over_only_where_it_has_come(answer: Response, is_over: bool) -> None:  # noqa: FBT001
    """Nothing is received for it, and nothing raised about it."""
    assert answer.is_over_nowait() is is_over


async def test_failed_body_stays_failed() -> None:
    """Who asks on after an error hears it again, never an end."""
    cut = response(LENGTH, b"hel")
    chunks = cut.chunks()
    assert await anext(chunks) == b"hel"
    for _ in range(2):
        with pytest.raises(Broken, match="2 bytes before"):
            await anext(chunks)
    assert not cut.is_over_nowait()
