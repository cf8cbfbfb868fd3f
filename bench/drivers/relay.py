"""Stands between a real client and a server, and counts: requests, and the bytes that the client sends.

It changes nothing, so the client's own wall time is what it costs. Requests are told by their first line; a body that
holds such a line by chance would count as one more, which random bytes do once in 10^20.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from bench.contenders.contender import Endpoint

_FIRST_LINE: Final = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE) /\S* HTTP/1\.1\r\n")
_LONGEST_LINE: Final = 4096
_READ_BYTES: Final = 256 * 1024


class Relay:
    """What was counted, and where it listens."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.requests = 0
        self.sent_bytes = 0
        """By the client: heads and bodies."""

    def count(self) -> "Count":
        """For one connection."""
        return Count(self)


class Count:
    """The bytes of one connection; a first line may come in two pieces."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._rest = b""

    def see(self, data: bytes) -> None:
        """The next bytes that the client sent."""
        seen = self._rest + data
        found = [each.end() for each in _FIRST_LINE.finditer(seen)]
        self._relay.requests += len(found)
        self._relay.sent_bytes += len(data)
        self._rest = seen[max(found[-1] if found else 0, len(seen) - _LONGEST_LINE) :]


@asynccontextmanager
async def relay(endpoint: Endpoint, *, port: int = 0) -> AsyncIterator[Relay]:
    """Relay connections to a plain endpoint for as long as the context lasts. `port` 0: any."""
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
    made = Relay(listener.socket.getsockname()[1])

    async def serve(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        async with client, server, trio.open_nursery() as both:
            both.start_soon(_forward, client, server, made.count().see, both.cancel_scope)
            both.start_soon(_forward, server, client, _ignore, both.cancel_scope)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield made
        nursery.cancel_scope.cancel()


async def _forward(
    source: trio.SocketStream, target: trio.SocketStream, see: Callable[[bytes], None], both: trio.CancelScope
) -> None:
    """Until the source ends; then the connection is over for both."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await source.receive_some(_READ_BYTES):
            see(bytes(data))
            await target.send_all(data)
    both.cancel()


def _ignore(_data: bytes) -> None:
    """Answers are not counted."""
