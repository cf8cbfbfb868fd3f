"""The client: one request at a time on each of a bounded number of connections, which are kept for the next one.

Follows no redirects, keeps no cookies, decodes nothing, reads no proxy from the environment.
"""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from storage.transfer.channel import Resolve, connect
from storage.transfer.connection import Connection, Request
from storage.transfer.errors import Broken
from storage.transfer.heads import request_head
from storage.transfer.origin import Origin
from storage.transfer.payload import EMPTY, Payload, is_repeatable, size_of
from storage.transfer.pool import ConnectionPool, ConnectionStatistics
from storage.transfer.response import Response

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""What may be sent a second time without asking anybody (RFC 9110, 9.2.2)."""


class Client:
    """For any origins; made once, closed by its owner with `aclose`.

    `tls`: which certificates to believe; the system's by default. `connections`: open at once, at rest or in use, for
    all origins together. `connect_s`: for name, TCP and TLS together. `idle_s`: how long a server may neither take nor
    send a byte, in the middle of a request or before it answers. `resolve`: which addresses to connect to, asked for
    each new connection; all that the system knows for the name by default.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        connections: int = 64,
        connect_s: float = 5.0,
        idle_s: float = 30.0,
        resolve: Resolve | None = None,
    ) -> None:
        self._tls = tls
        self._resolve = resolve
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._pool = ConnectionPool(connections)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: Sequence[tuple[str, str]],
        payload: Payload = EMPTY,
    ) -> AsyncIterator[Response]:
        """Send a request and give its answer, whatever its status, as soon as its head has come.

        `target` is what stands in the request line, encoded already; `headers` are sent as they are, besides Host
        (added where it is missing) and the length. Waits for a free connection as long as it takes.

        Left before the body was read to its end, by cancellation or otherwise, the connection is closed at once.

        Raises ValueError for what is not one request, `ConnectFailed`, `Broken`, `Stalled`, `PayloadMismatch`, what
        the source of a `Stream` raises, and trio.ClosedResourceError after `aclose`. When a kept connection proves dead
        before a byte of the answer came, the request goes once more through a new one, if its payload can be sent again
        and its method is idempotent; so such a request may reach the server twice (a PUT with `If-None-Match: *` can
        find itself).
        """
        head = request_head(method, origin, target, headers, size_bytes=size_of(payload))
        request = Request(method, head, payload, f"{method} {origin}")
        async with self._pool.slot():
            connection, response = await self._ask(origin, request)
            try:
                yield response
            finally:
                if response.is_over_nowait():
                    self._pool.keep(origin, connection)
                else:
                    connection.close()

    async def aclose(self) -> None:
        """Close connections at rest and refuse new requests; those in flight may end, and close their own."""
        self._pool.close()

    def statistics(self) -> ConnectionStatistics:
        """A snapshot for metrics."""
        return self._pool.statistics()

    async def _ask(self, origin: Origin, request: Request) -> tuple[Connection, Response]:
        kept = self._pool.take(origin)
        if kept is not None:
            try:
                return kept, await kept.exchange(request)
            except Broken:
                if kept.has_heard or request.method not in _IDEMPOTENT or not is_repeatable(request.payload):
                    raise
        connection = await self._open(origin)
        return connection, await connection.exchange(request)

    async def _open(self, origin: Origin) -> Connection:
        if origin.encrypted and self._tls is None:
            self._tls = ssl.create_default_context()
        self._pool.make_room()
        tls = self._tls if origin.encrypted else None
        channel = await connect(origin, tls, connect_s=self._connect_s, resolve=self._resolve)
        return Connection(channel, idle_s=self._idle_s)
