"""A server on loopback that says exactly what a test wants, to see what a client makes of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from bench.contenders.contender import Endpoint

Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Endpoint]:
    """Serve each connection with `handler`, which may leave whenever it likes."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await handler(stream)
            except trio.BrokenResourceError:
                return  # the client left first, which is its right

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield Endpoint("127.0.0.1", listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def head_of(stream: trio.SocketStream, pending: bytearray) -> bytes | None:
    """The next request's head; None when the client has closed. What came beyond stays in `pending`."""
    while (end := pending.find(b"\r\n\r\n")) < 0:
        data = await stream.receive_some()
        if not data:
            return None
        pending += data
    head = bytes(pending[: end + 4])
    del pending[: end + 4]
    return head


def answering(*answers: bytes) -> Handler:
    """A server that gives these answers in turn on each connection, whatever is asked, and then closes."""

    async def handle(stream: trio.SocketStream) -> None:
        pending = bytearray()
        for answer in answers:
            if await head_of(stream, pending) is None:
                return
            await stream.send_all(answer)

    return handle
