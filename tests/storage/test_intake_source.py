"""Delivering a span: in order, once, across broken streams, and what ends it."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from storage.blobstore import Span
from storage.errors import BlobUnknown, Damaged, StorageError, Unavailable
from storage.intake_source import deliver

CONTENT = bytes(range(100))
WHOLE = Span(0, 100)


class Scripted:
    """A source that follows a script: for each reading how many bytes it gives, and what it raises then."""

    name = "a scripted source"

    def __init__(self, *script: tuple[int, StorageError | None]) -> None:
        self.script = list(script)
        self.asked: list[Span] = []
        self.open = 0

    @asynccontextmanager
    async def read(self, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        """The next line of the script."""
        self.asked.append(span)
        self.open += 1
        try:
            with trio.CancelScope():  # as network clients have: it must be left in its turn
                async with aclosing(self._chunks(span, *self.script.pop(0))) as chunks:
                    yield chunks
        finally:
            self.open -= 1

    async def _chunks(self, span: Span, size_bytes: int, error: StorageError | None) -> AsyncGenerator[bytes, None]:
        stop = span.start + size_bytes
        for start in range(span.start, stop, 7):
            await trio.lowlevel.checkpoint()
            yield CONTENT[start : min(start + 7, stop)]
        if error is not None:
            raise error


async def delivered(source: Scripted, span: Span = WHOLE) -> bytes:
    """Everything that was taken."""
    got: list[bytes] = []

    async def take(chunk: bytes) -> None:
        got.append(chunk)
        await trio.lowlevel.checkpoint()

    await deliver(source, span, take)
    return b"".join(got)


async def test_whole_span() -> None:
    """A stream that does not break is read once."""
    source = Scripted((80, None))
    assert await delivered(source, Span(10, 90)) == CONTENT[10:90]
    assert (source.asked, source.open) == ([Span(10, 90)], 0)


async def test_resumed_where_it_broke(autojump_clock: MockClock) -> None:
    """Each time the rest is asked for, also when a stream ends early without a word, or gives nothing."""
    source = Scripted((10, Unavailable("reset")), (0, Unavailable("refused")), (30, None), (60, None))
    assert await delivered(source) == CONTENT
    assert [span.start for span in source.asked] == [0, 10, 10, 40]
    assert trio.current_time() > 0.3


@pytest.mark.parametrize(("before", "asked"), [(0, 1), (10, 3)])
async def test_source_that_gives_nothing(before: int, asked: int, autojump_clock: MockClock) -> None:
    """One that is down is believed at once, and in the middle of a stream after one more try."""
    source = Scripted((before, Unavailable("broke")), *[(0, Unavailable("down"))] * 9)
    with pytest.raises(Unavailable):
        await delivered(source)
    assert len(source.asked) == asked


async def test_given_up_after_so_many(autojump_clock: MockClock) -> None:
    """Five resumptions, and then what the source said."""
    source = Scripted(*[(1, Unavailable(f"break {number}")) for number in range(9)])
    with pytest.raises(Unavailable, match="break 5"):
        await delivered(source)
    assert len(source.asked) == 6


async def test_counted_anew_after_progress(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long stream may break more often, as long as it gets on."""
    monkeypatch.setattr("storage.intake_source._PROGRESS_BYTES", 10)
    source = Scripted(*[(10, Unavailable("again"))] * 9, (10, None))
    assert await delivered(source) == CONTENT


@pytest.mark.parametrize("error", [BlobUnknown("gone"), Damaged("cut")])
async def test_what_resuming_does_not_help(error: StorageError) -> None:
    """It is raised at once."""
    source = Scripted((10, error))
    with pytest.raises(type(error)):
        await delivered(source)
    assert (len(source.asked), source.open) == (1, 0)


async def test_too_many_bytes() -> None:
    """A source that gives more than the span is damaged."""
    with pytest.raises(Damaged, match="more than 50"):
        await delivered(Scripted((70, None)), Span(0, 50))


@pytest.mark.parametrize("error", [Unavailable("disk"), LookupError("a defect")])
async def test_who_takes_refuses(error: Exception) -> None:
    """What the taker raises ends it, is not taken for the source's trouble, and the source is left first."""
    source = Scripted((100, None))

    async def refuse(chunk: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if chunk[0] >= 50:
            raise error

    with pytest.raises(type(error)):
        await deliver(source, Span(0, 100), refuse)
    assert (len(source.asked), source.open) == (1, 0)


@pytest.mark.parametrize("breaks", [False, True])
async def test_cancelled(autojump_clock: MockClock, *, breaks: bool) -> None:
    """It may be cancelled while somebody takes a chunk, and while it waits to resume."""
    source = Scripted((7, Unavailable("broke")) if breaks else (100, None), (93, None))

    async def wait(_chunk: bytes) -> None:
        await trio.sleep(0 if breaks else 1000)

    with trio.move_on_after(0.05) as scope:
        await deliver(source, WHOLE, wait)
    assert (scope.cancelled_caught, source.open, len(source.asked)) == (True, 0, 1)


async def test_source_without_an_end() -> None:
    """A source that goes on beyond the span is left at the first chunk that does, and none of that chunk is taken."""
    source = Scripted((100, None))
    with pytest.raises(Damaged, match="more than 50 bytes"):
        await delivered(source, Span(0, 50))
    got: list[bytes] = []

    async def take(chunk: bytes) -> None:
        got.append(chunk)
        await trio.lowlevel.checkpoint()

    source = Scripted((100, None))
    with pytest.raises(Damaged):
        await deliver(source, Span(0, 50), take)
    assert b"".join(got) == CONTENT[:49]
    assert source.open == 0
