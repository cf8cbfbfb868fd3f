"""Short requests for tests that look at the answer only, and payloads that take their time. Not a test."""

from collections.abc import AsyncIterator

import trio

from storage.transfer import Client, Origin, Payload

LARGE = 20_000_000
"""Bytes that no kernel takes on behalf of a server that does not read."""


async def endless() -> AsyncIterator[bytes]:
    """A source of LARGE bytes."""
    chunk = bytes(100_000)
    for _ in range(LARGE // len(chunk)):
        await trio.lowlevel.checkpoint()
        yield chunk


async def put(client: Client, origin: Origin, payload: Payload) -> tuple[int, bytes]:
    """Status and body of the answer."""
    async with client.request("PUT", origin, "/", [], payload) as response:
        return response.status, await response.read(100)


async def get(client: Client, origin: Origin, method: str = "GET") -> bytes:
    """The body of the answer."""
    async with client.request(method, origin, "/", []) as response:
        return await response.read(1 << 20)
