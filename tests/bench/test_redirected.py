"""Pulls that are answered with the place of the bytes: followed without credentials, and wrong answers are errors."""

from dataclasses import asdict

import trio

from bench.contenders.contender import Endpoint
from bench.content import Layer
from bench.drivers.redirected import drive
from bench.load import Load
from tests.bench.scripted import head_of, serving

LAYER = Layer("redirected", 1000)
BODY = b"".join(map(bytes, LAYER.chunks()))


async def driven(first: bytes, second: bytes) -> tuple[Load, list[bytes]]:
    """A load that pulls two layers: the second one gets these answers from the registry and from the bucket."""
    heads: list[bytes] = []
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + BODY
    bucket_answers, registry_answers = [good, second], [b"", first]

    async def bucket(stream: trio.SocketStream) -> None:
        head = await head_of(stream, bytearray())
        if head is not None:
            heads.append(head)
            await stream.send_all(bucket_answers.pop(0))

    async with serving(bucket) as place:
        told = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %s/b/key?sign=1\r\nContent-Length: 0\r\n\r\n"
        redirect = told % place.url.encode()

        async def registry(stream: trio.SocketStream) -> None:
            pending = bytearray()
            while (head := await head_of(stream, pending)) is not None:
                heads.append(head)
                await stream.send_all(registry_answers.pop(0) or redirect)

        async with serving(registry) as endpoint:
            load = await loaded(endpoint)
    return load, heads


async def loaded(endpoint: Endpoint) -> Load:
    """Drive it as a load process does."""
    load = Load(endpoint)
    load.go()
    await drive(load, [asdict(LAYER)], name="app", authorization="Bearer secret")
    load.finish()
    return load


async def test_the_bucket_does_not_see_the_token() -> None:
    """It is for the registry; the address carries its own signature."""
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + BODY
    load, heads = await driven(b"", good)

    result = load.result()
    assert (result.requests, result.moved_bytes, result.errors) == (1, 1000, 0)
    assert len(heads) == 4
    for head in heads:
        assert (b"Authorization" in head) == head.startswith(b"GET /v2/app/blobs/sha256:")
    assert heads[1].startswith(b"GET /b/key?sign=1 HTTP/1.1")


async def test_an_answer_without_a_place_is_an_error() -> None:
    """A registry that sends the bytes itself is not what is measured."""
    load, _ = await driven(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"")

    assert load.result().complaints == (f"pull of {LAYER}: answered 200, not 307",)


async def test_a_bucket_that_refuses_is_an_error() -> None:
    """So is one that sends less than the layer."""
    refused, _ = await driven(b"", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    short, _ = await driven(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")

    assert refused.result().complaints == (f"pull of {LAYER}: the bucket answered 403",)
    assert short.result().complaints == (f"2 bytes came for {LAYER}",)
