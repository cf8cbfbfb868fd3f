"""How far the sending is, and whose fault a silence is."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import inf

import pytest
import trio
from trio.testing import MockClock

from storage.transfer import PayloadMismatch, Stream
from storage.transfer.channel import ChannelFailed
from storage.transfer.sending import Patience, Sending
from tests.storage.transfer.memory import Memory, as_channel


@pytest.fixture
def autojump_clock() -> MockClock:
    """Nothing here waits for the kernel."""
    return MockClock(autojump_threshold=0)


async def test_patience_begins_anew_with_each_move(autojump_clock: MockClock) -> None:
    """It ends ten seconds after the last one."""
    patience = Patience(10)
    with patience.scope:
        for _ in range(5):
            await trio.sleep(9)
            patience.moved()
        await trio.sleep_forever()
    assert patience.scope.cancelled_caught
    assert trio.current_time() == pytest.approx(55)


async def test_patience_does_not_run_while_it_rests(autojump_clock: MockClock) -> None:
    """Also when something moves meanwhile; it goes on from where the server is waited for again."""
    patience = Patience(10)
    with patience.scope:
        patience.rest()
        await trio.sleep(100)
        patience.moved()
        assert patience.scope.deadline == inf
        await trio.sleep(100)
        patience.resume()
        await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(210)


async def test_what_is_left_is_what_the_channel_was_not_given() -> None:
    """Down to nothing at the last byte, whatever the sender does after it."""
    channel = Memory([])
    sending = Sending(as_channel(channel), Patience(10), size_bytes=8)
    await sending.send_bytes(b"abc")
    assert sending.left_bytes == 5
    await sending.send(b"defgh")
    assert sending.left_bytes == 0
    assert channel.sent == b"abcdefgh"


async def test_failing_channel_is_told_from_a_failing_source() -> None:
    """The source's own error comes as it is, the channel's as `ChannelFailed`."""

    async def source() -> AsyncGenerator[bytes, None]:
        yield b"abc"
        raise OSError("of the source")

    channel = Memory([])
    with pytest.raises(OSError, match="of the source"):
        await Sending(as_channel(channel), Patience(10), size_bytes=8).send(Stream(8, source()))
    channel.close()
    with pytest.raises(ChannelFailed):
        await Sending(as_channel(channel), Patience(10), size_bytes=8).send(b"abc")


async def test_too_long_stream_is_stopped_before_it_is_too_long() -> None:
    """Not a byte beyond the promise leaves: it would be read as the next request."""

    async def source() -> AsyncGenerator[bytes, None]:
        yield b"abc"
        yield b"def"

    channel = Memory([])
    async with aclosing(source()) as chunks:
        with pytest.raises(PayloadMismatch, match="longer than the 5 bytes"):
            await Sending(as_channel(channel), Patience(10), size_bytes=5).send(Stream(5, chunks))
    assert channel.sent == b"abc"
