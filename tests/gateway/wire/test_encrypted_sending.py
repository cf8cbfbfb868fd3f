"""Files over TLS: every byte in its place, no thread for a reader that does not read, turns for everybody."""

import math
import ssl
import tempfile
from collections.abc import Iterator
from typing import IO

import pytest
import trio
from trio.testing import MockClock

from gateway.wire import encrypted_sending
from gateway.wire.encrypted_sending import SMALL_BYTES, send_small_nowait
from gateway.wire.file_sending import FileTooShort, SendingThreads
from gateway.wire.peer import Peer, PeerGone, PeerStalled
from gateway.wire.recall import FileSpan
from tests.gateway.wire.encrypted import VERSIONS, Stream, connected_encrypted, contexts, read

CONTENT = b"".join(b"%07d\n" % number for number in range(3 << 17))
"""Three megabytes that say where they are."""
ENDLESS_BYTES = 1 << 36


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    """`CONTENT`, and then nothing up to `ENDLESS_BYTES`, which the disk need not hold."""
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.truncate(ENDLESS_BYTES)
        file.flush()
        yield file


def span(file: IO[bytes], start: int, stop: int) -> FileSpan:
    """A part of it."""
    return FileSpan(file.fileno(), start, stop)


SIZES = [
    0,
    1,
    *(border + step for border in (16384, 65536, 131072, 262144) for step in (-1, 0, 1)),
    (1 << 20) + 7,
]


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_span_arrives_whatever_its_size(file: IO[bytes], version: ssl.TLSVersion) -> None:
    """Around each border of a record, a piece, a buffer and a turn, and from an odd place: these bytes."""
    threads = SendingThreads()
    async with connected_encrypted(contexts(version)) as (client, peer), trio.open_nursery() as nursery:

        async def send_all() -> None:
            for size in SIZES:
                await peer.send_file(span(file, 3, 3 + size), threads=threads)
                await peer.send(b"|")

        nursery.start_soon(send_all)
        for size in SIZES:
            assert await read(client, size + 1) == CONTENT[3 : 3 + size] + b"|", size


@pytest.mark.parametrize("turn_bytes", [131072, 1 << 20])
async def test_turns_join_without_a_seam(file: IO[bytes], turn_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many turns, and a reader that keeps filling and emptying the socket's buffer between them."""
    monkeypatch.setattr(encrypted_sending, "TURN_BYTES", turn_bytes)
    async with connected_encrypted() as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: peer.send_file(span(file, 0, len(CONTENT)), threads=SendingThreads()))
        received = bytearray()
        while len(received) < len(CONTENT):
            received += await read(client, min(200_000, len(CONTENT) - len(received)))
            await trio.sleep(0.001)  # the behaviour of this client

    assert received == CONTENT


def test_small_spans_leave_from_the_loop_and_large_ones_do_not(file: IO[bytes]) -> None:
    """What takes a thread's hop longer than it takes to encrypt is sent at once; everything else is left alone."""

    async def ask() -> None:
        async with connected_encrypted() as (client, peer):
            assert send_small_nowait(peer.channel, span(file, 5, 5 + SMALL_BYTES)) == SMALL_BYTES
            assert send_small_nowait(peer.channel, span(file, 0, SMALL_BYTES + 1)) == 0
            assert send_small_nowait(peer.channel, span(file, ENDLESS_BYTES - 1, ENDLESS_BYTES + 1)) == 0
            assert await read(client, SMALL_BYTES) == CONTENT[5 : 5 + SMALL_BYTES]

    trio.run(ask)


async def stall(client: Stream, peer: Peer, file: IO[bytes], threads: SendingThreads, nursery: trio.Nursery) -> None:
    """Have a large span sent to this client, which reads its beginning and then nothing more."""
    nursery.start_soon(lambda: peer.send_file(span(file, 0, ENDLESS_BYTES), threads=threads))
    await read(client, 100_000)


async def test_readers_that_do_not_read_hold_no_thread(file: IO[bytes]) -> None:
    """With three stalled readers and one thread, another download runs from its begin to its end."""
    threads = SendingThreads(1)
    with trio.fail_after(10):
        async with (
            connected_encrypted() as (first, first_peer),
            connected_encrypted() as (second, second_peer),
            connected_encrypted() as (third, third_peer),
            connected_encrypted() as (client, peer),
            trio.open_nursery() as nursery,
        ):
            for stream, its_peer in ((first, first_peer), (second, second_peer), (third, third_peer)):
                await stall(stream, its_peer, file, threads, nursery)
            async with trio.open_nursery() as good:
                good.start_soon(lambda: peer.send_file(span(file, 0, len(CONTENT)), threads=threads))
                assert await read(client, len(CONTENT)) == CONTENT
            while threads._limiter.borrowed_tokens:  # noqa: ASYNC110 - a socket or thread tells, no event
                await trio.sleep(0.001)
            assert await threads.run(lambda: threads._limiter.borrowed_tokens) == 1
            nursery.cancel_scope.cancel()


async def test_a_reader_that_takes_nothing_is_given_up(file: IO[bytes], autojump_clock: MockClock) -> None:
    """After the idle time without progress the send ends as stalled, and its thread is long back."""
    threads = SendingThreads(1)
    async with connected_encrypted(send_idle_s=60) as (_, peer):
        with pytest.raises(PeerStalled):
            await peer.send_file(span(file, 0, ENDLESS_BYTES), threads=threads)

        assert peer.stalled
        assert threads._limiter.borrowed_tokens == 0
        with pytest.raises(PeerGone):
            await peer.send(b"more")


@pytest.mark.slow
async def test_a_slow_reader_may_take_forever(file: IO[bytes]) -> None:
    """Progress counts, not the total: pauses of half the idle time, three times as long together, and it is whole."""
    size = 48 << 20
    async with connected_encrypted(send_idle_s=0.5) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: peer.send_file(span(file, 0, size), threads=SendingThreads(1)))
        begun = trio.current_time()
        for _ in range(6):
            await trio.sleep(0.25)  # the behaviour of this client
            await read(client, size // 6)

    assert trio.current_time() - begun >= 1.5


async def test_more_readers_than_threads_all_finish(file: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight readers share two threads; each gets its own part of the file, whole."""
    monkeypatch.setattr(encrypted_sending, "TURN_BYTES", 131072)
    threads = SendingThreads(2)
    done: list[int] = []

    async def download(number: int) -> None:
        start, stop = number * 100_000, number * 100_000 + 1_000_001
        async with connected_encrypted() as (client, peer), trio.open_nursery() as nursery:
            nursery.start_soon(lambda: peer.send_file(span(file, start, stop), threads=threads))
            assert await read(client, stop - start) == CONTENT[start:stop]
        done.append(number)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(download, number)

    assert sorted(done) == list(range(8))


async def swallow(client: Stream) -> None:
    """Read as fast as it comes, for ever."""
    while await client.receive_some(1 << 18):
        pass


async def test_an_endless_download_lets_others_have_the_thread(file: IO[bytes]) -> None:
    """One thread, one reader in full flow: a second download is through while the first goes on."""
    threads = SendingThreads(1)
    with trio.fail_after(10):
        async with (
            connected_encrypted() as (greedy, greedy_peer),
            connected_encrypted() as (client, peer),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(lambda: greedy_peer.send_file(span(file, 0, ENDLESS_BYTES), threads=threads))
            await read(greedy, 1 << 20)
            nursery.start_soon(swallow, greedy)
            async with trio.open_nursery() as good:
                good.start_soon(lambda: peer.send_file(span(file, 0, len(CONTENT)), threads=threads))
                assert await read(client, len(CONTENT)) == CONTENT
            nursery.cancel_scope.cancel()


async def test_cancelling_ends_a_turn_in_its_middle(file: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that would go on for ever ends when its task is cancelled; then the connection is broken for good."""
    monkeypatch.setattr(encrypted_sending, "TURN_BYTES", ENDLESS_BYTES)
    monkeypatch.setattr(encrypted_sending, "_LINGERS", math.inf)
    threads = SendingThreads(1)
    with trio.fail_after(10):
        async with connected_encrypted() as (client, peer), trio.open_nursery() as nursery:
            sending, ended = trio.CancelScope(), trio.Event()

            async def send() -> None:
                with sending:
                    await peer.send_file(span(file, 0, ENDLESS_BYTES), threads=threads)
                ended.set()

            nursery.start_soon(send)
            await read(client, 4 << 20)
            nursery.start_soon(swallow, client)
            sending.cancel()
            await ended.wait()
            nursery.cancel_scope.cancel()

        assert sending.cancelled_caught
        assert threads._limiter.borrowed_tokens == 0
        with pytest.raises(PeerGone):
            await peer.send(b"more")


async def test_a_client_that_leaves_ends_the_sending(file: IO[bytes]) -> None:
    """In the middle of the body the client closes without a word: `PeerGone`, and the thread is back."""
    threads = SendingThreads(1)
    with trio.fail_after(10):
        async with connected_encrypted() as (client, peer), trio.open_nursery() as nursery:

            async def leave() -> None:
                await read(client, 1 << 20)
                await client.transport_stream.aclose()

            nursery.start_soon(leave)
            with pytest.raises(PeerGone):
                await peer.send_file(span(file, 0, ENDLESS_BYTES), threads=threads)

    assert threads._limiter.borrowed_tokens == 0


@pytest.mark.parametrize("missing", [1, SMALL_BYTES + 1, 1 << 20])
async def test_a_file_that_ends_too_early_is_an_error(missing: int) -> None:
    """The promise cannot be kept, be it with a small span or a large one: `FileTooShort`."""
    with tempfile.TemporaryFile() as short:
        short.write(CONTENT[:1000])
        short.flush()
        async with connected_encrypted() as (_, peer):
            with pytest.raises(FileTooShort):
                await peer.send_file(span(short, 0, 1000 + missing), threads=SendingThreads())


async def test_looking_for_the_client_while_a_thread_sends_harms_nothing(file: IO[bytes]) -> None:
    """The loop receives what the client says during a download; both directions arrive whole."""
    said = b"0123456789" * 20_000
    with trio.fail_after(10):
        async with connected_encrypted() as (client, peer), trio.open_nursery() as nursery:

            async def say() -> None:
                for start in range(0, len(said), 500):
                    await client.send_all(said[start : start + 500])

            async def listen() -> None:
                while len(peer.unread) < len(said):
                    assert await peer.fill(1 << 16)

            nursery.start_soon(lambda: peer.send_file(span(file, 0, len(CONTENT)), threads=SendingThreads()))
            nursery.start_soon(say)
            nursery.start_soon(listen)
            assert await read(client, len(CONTENT)) == CONTENT

        assert peer.unread == said
