"""The hot loop: every answer is checked, every error counted, and no answer of a server makes it hang."""

import itertools

import pytest
import trio

from bench.contenders.contender import Endpoint
from bench.drivers.herd import Herd
from bench.jobs import Result, Shot
from bench.load import Load
from tests.bench.scripted import Handler, head_of, serving

SMALL = Shot("/small", 200, 5)
BIG = Shot("/big", 200, 3_000_000)
HEAD = Shot("/big", 200, 3_000_000, "HEAD")


class Limited:
    """These shots in turn, so many times in all."""

    def __init__(self, count: int, *shots: Shot) -> None:
        self._shots = itertools.islice(itertools.cycle(shots), count)

    def next(self) -> Shot | None:
        """The next one."""
        return next(self._shots, None)


def proper(stop_after: int | None = None) -> Handler:
    """A server that answers each path with as many bytes as it promises, and closes after some answers."""

    async def handle(stream: trio.SocketStream) -> None:
        pending = bytearray()
        for _ in itertools.count() if stop_after is None else range(stop_after):
            head = await head_of(stream, pending)
            if head is None:
                return
            size = 5 if b"/small" in head else 3_000_000
            body = b"" if head.startswith(b"HEAD") else bytes(size)
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + body)

    return handle


def fixed(answer: bytes) -> Handler:
    """A server that gives the same answer to everything."""

    async def handle(stream: trio.SocketStream) -> None:
        pending = bytearray()
        while await head_of(stream, pending) is not None:
            await stream.send_all(answer)

    return handle


async def run(
    endpoint: Endpoint, shots: Limited, *, connections: int = 4, reconnect: bool = False, rounds: int = 1
) -> Result:
    """What a herd makes of a server."""
    load = Load(endpoint)
    with Herd(load, connections, reconnect=reconnect) as herd:
        await herd.connect()
        for _ in range(rounds):
            await herd.run(shots)
    load.go()
    load.finish()
    return load.result()


async def test_answers_are_counted_with_their_bytes() -> None:
    """Small and large answers, with and without a body, all count, and each has two latencies."""
    async with serving(proper()) as endpoint:
        result = await run(endpoint, Limited(30, SMALL, BIG, HEAD))
    assert (result.requests, result.errors) == (30, 0)
    assert result.moved_bytes == 10 * (5 + 3_000_000)
    assert result.recordings["whole"].latencies().count == 30
    assert result.recordings["first_byte"].latencies().count == 30


async def test_each_request_may_have_a_connection_of_its_own() -> None:
    """With `reconnect` no connection carries two requests, and each asks to be closed."""
    served = []

    async def once(stream: trio.SocketStream) -> None:
        pending = bytearray()
        while (head := await head_of(stream, pending)) is not None:
            served.append((stream, head))
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with serving(once) as endpoint:
        result = await run(endpoint, Limited(20, SMALL), reconnect=True)
    assert (result.requests, result.errors) == (20, 0)
    assert len({id(stream) for stream, _ in served}) == 20
    assert all(b"Connection: close\r\n" in head for _, head in served)


async def test_members_may_begin_one_after_the_other() -> None:
    """The first at once, and no two before their time: a crowd seldom comes in one moment."""
    begun: list[float] = []
    all_here = trio.Event()

    async def note(stream: trio.SocketStream) -> None:
        pending = bytearray()
        while await head_of(stream, pending) is not None:
            begun.append(trio.current_time())
            if len(begun) == 4:
                all_here.set()
            await all_here.wait()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with serving(note) as endpoint:
        load = Load(endpoint)
        with Herd(load, 4, reconnect=False) as herd:
            await herd.connect()
            start = trio.current_time()
            await herd.run(Limited(4, SMALL), spread_s=0.2)

    assert len(begun) == 4
    assert [at - start >= number * 0.05 for number, at in enumerate(begun)] == [True] * 4


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"garbage without end or sense\r\n\r\n",
    ],
)
async def test_a_wrong_answer_is_an_error(answer: bytes) -> None:
    """A wrong status, length or framing counts as an error each time, and the run ends."""
    async with serving(fixed(answer)) as endpoint:
        result = await run(endpoint, Limited(10, SMALL))
    assert (result.requests, result.errors) == (0, 10)
    assert "/small" in result.complaints[0]


async def test_a_cut_body_is_an_error() -> None:
    """A connection that ends within a body counts as an error, not as an answer."""

    async def cut(stream: trio.SocketStream) -> None:
        await head_of(stream, bytearray())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(1_000_000))

    async with serving(cut) as endpoint:
        result = await run(endpoint, Limited(6, BIG))
    assert (result.requests, result.errors) == (0, 6)


async def test_a_kept_connection_that_the_server_closes_is_opened_again() -> None:
    """Closing between two answers is a server's right: the request is sent again, and the report tells how often."""
    async with serving(proper(stop_after=3)) as endpoint:
        result = await run(endpoint, Limited(12, SMALL), connections=1)
    assert (result.requests, result.errors) == (12, 0)
    assert result.extra == {"reconnects": 3}


async def test_a_server_that_dies_ends_the_run() -> None:
    """When nobody listens any more the herd gives up after a number of errors instead of trying for ever."""
    async with serving(proper(stop_after=1)) as endpoint:
        load = Load(endpoint)
        herd = Herd(load, 2, reconnect=False)
        await herd.connect()
    with herd:
        await herd.run(Limited(1_000_000, SMALL))
    load.go()
    load.finish()
    assert 0 < load.result().errors < 1000


async def test_it_can_run_again() -> None:
    """The same connections serve the warm-up and the measurement."""
    async with serving(proper()) as endpoint:
        load = Load(endpoint)
        with Herd(load, 2, reconnect=False) as herd:
            await herd.connect()
            await herd.run(Limited(4, SMALL))
            await herd.run(Limited(6, SMALL))
        load.go()
        load.finish()
        assert load.result().requests == 10
        assert "reconnects" not in load.extra
