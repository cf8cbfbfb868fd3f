"""The queue between two threads: order, its bound, and that whoever ends first ends the other."""

import threading
from collections.abc import Callable

import pytest

from storage import Unavailable
from storage.moving_rows import Gone, Pipe

PATIENCE_S = 10.0


def beside(work: Callable[[], object]) -> threading.Thread:
    """A thread that runs it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    """Whether it comes to its end."""
    thread.join(PATIENCE_S)
    return not thread.is_alive()


def test_everything_comes_in_order_and_no_more_than_fits_waits() -> None:
    """The writer waits for the reader: what is on the way is bounded."""
    pipe: Pipe[int] = Pipe(2)
    ahead: list[int] = []
    taken: list[int] = []

    def write() -> None:
        for number in range(100):
            pipe.put(number)
            ahead.append(number + 1 - len(taken))
        pipe.complete()

    writer = beside(write)
    for number in pipe:
        taken.append(number)  # the writer looks at it while it grows

    assert ended(writer)
    assert taken == list(range(100))
    assert max(ahead) <= 4  # two wait, one is handed over, one was just taken


def test_a_failure_reaches_the_reader_and_the_writer() -> None:
    """After what was put before it; the writer can put no more."""
    pipe: Pipe[int] = Pipe(2)
    pipe.put(1)
    pipe.fail(Unavailable("the disk broke"))
    items = iter(pipe)

    assert next(items) == 1
    with pytest.raises(Unavailable, match="the disk broke"):
        next(items)
    with pytest.raises(Gone):
        pipe.put(2)


def test_a_reader_that_leaves_frees_the_writer() -> None:
    """A writer that waits for room is told, and so is one that comes later."""
    pipe: Pipe[int] = Pipe(1)
    told: list[str] = []

    def write() -> None:
        try:
            pipe.put(1)
            pipe.put(2)
        except Gone:
            told.append("gone")

    writer = beside(write)
    pipe.leave()
    pipe.leave()

    assert ended(writer)
    assert told == ["gone"]
    with pytest.raises(Gone):
        pipe.put(3)


def test_a_reader_that_is_made_to_leave_is_told() -> None:
    """It must not take what it has for everything."""
    pipe: Pipe[int] = Pipe(1)
    told: list[str] = []

    def read() -> None:
        try:
            list(pipe)
        except Unavailable as error:
            told.append(str(error))

    reader = beside(read)
    pipe.leave()

    assert ended(reader)
    assert told == ["the move was interrupted"]


def test_a_failure_after_the_end_changes_nothing() -> None:
    """Everything had been handed over."""
    pipe: Pipe[int] = Pipe(1)
    pipe.put(1)
    pipe.complete()
    pipe.fail(Unavailable("too late"))

    assert list(pipe) == [1]
