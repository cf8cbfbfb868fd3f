"""The closed loop: it stops in time or after a number, checks before it measures, and works with TLS as without."""

from dataclasses import asdict

import pytest
import trio

from bench.contenders.contender import Endpoint
from bench.drivers import repeat
from bench.jobs import Result, Shot
from bench.load import Load
from tests.bench.scripted import Handler, head_of, serving

HELLO = Shot("/hello", 200, 5, digest="sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
OTHER = Shot("/other", 200, 5)


def hello(heard: list[bytes]) -> Handler:
    """A server that says hello to everything and notes what it was asked."""

    async def handle(stream: trio.SocketStream) -> None:
        pending = bytearray()
        while (head := await head_of(stream, pending)) is not None:
            heard.append(head.partition(b" HTTP/")[0])
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    return handle


async def driven(endpoint: Endpoint, *shots: Shot, **arguments: object) -> Result:
    """What a load with these arguments gives."""
    load = Load(endpoint)
    load.go()
    await repeat.drive(load, [asdict(shot) for shot in shots], **arguments)  # type: ignore[arg-type]
    load.finish()
    return load.result()


async def test_once_through_the_shots_without_a_number() -> None:
    """Cold cases fire each shot exactly once, and nothing before."""
    heard: list[bytes] = []
    async with serving(hello(heard)) as endpoint:
        result = await driven(endpoint, HELLO, OTHER, connections=1, warm_s=0)
    assert heard == [b"GET /hello", b"GET /other"]
    assert result.requests == 2


async def test_shots_are_fired_in_turn() -> None:
    """Several shots alternate, whoever fires them."""
    heard: list[bytes] = []
    async with serving(hello(heard)) as endpoint:
        result = await driven(endpoint, HELLO, OTHER, connections=2, requests=10, warm_s=0)
    assert (result.requests, result.moved_bytes) == (10, 50)
    assert sorted(heard) == [b"GET /hello"] * 5 + [b"GET /other"] * 5


async def test_the_warm_up_does_not_count() -> None:
    """What was asked before the word to go is in the server's log, but in no figure."""
    heard: list[bytes] = []
    async with serving(hello(heard)) as endpoint:
        result = await driven(endpoint, HELLO, connections=2, requests=3, warm_s=0.01)
    assert result.requests == 3
    assert result.recordings["whole"].latencies().count == 3
    assert len(heard) > 3


@pytest.mark.parametrize(
    "wrong",
    [
        Shot("/x", 404, 5),
        Shot("/x", 200, 6),
        Shot("/x", 200, 5, digest="sha256:00"),
    ],
)
async def test_nothing_is_measured_when_the_first_answer_is_wrong(wrong: Shot) -> None:
    """A wrong status, length or digest before the measurement ends the job."""
    async with serving(hello([])) as endpoint:
        with pytest.raises(ValueError, match="/x"):
            await driven(endpoint, wrong, connections=1, requests=1)


async def test_a_stopped_job_ends() -> None:
    """A background job ends when it is told to, however long it was meant to go on."""
    async with serving(hello([])) as endpoint:
        load = Load(endpoint)
        load.go()
        load.stop()
        await repeat.drive(load, [asdict(HELLO)], connections=2, seconds=3600, warm_s=0)
