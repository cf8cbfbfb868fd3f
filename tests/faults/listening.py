"""A listener on loopback that serves connections on Trio in a thread of its own, for tests of any kind to stand before.

It can stop to listen and take the same port again. What it serves is given to it; it knows no protocol.
"""

import socket
import threading
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Final, TypeVar

import outcome
import trio

T = TypeVar("T")
_START_S: Final = 60.0


class Listening:
    """Serves every connection with `serve` and closes it then. Open it once; `run` may be called from anywhere."""

    def __init__(
        self, serve: Callable[[trio.SocketStream], Awaitable[None]], name: str, *, host: str = "127.0.0.1"
    ) -> None:
        self._serve = serve
        self._host = host
        self._listener: trio.SocketListener | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name=name, daemon=True)
        self.port = 0

    def open(self) -> None:
        """Start the thread and listen on a free port."""
        self._thread.start()
        assert self._ready.wait(_START_S)

    def close(self) -> None:
        """Stop listening, close every connection and end the thread."""
        self._token.run_sync_soon(self._end.set)
        self._thread.join(_START_S)

    def run(self, act: Callable[[], Awaitable[T]]) -> T:
        """Run something in the thread of the connections and give its result; the caller's own loop waits for it."""
        done: SimpleQueue[outcome.Outcome[T]] = SimpleQueue()

        async def acted() -> None:
            done.put(await outcome.acapture(act))

        self._token.run_sync_soon(self._nursery.start_soon, acted)
        return done.get(timeout=_START_S).unwrap()

    async def listen(self) -> None:
        """Take the port, again if it was left. Nothing where it is held. Only in the thread."""
        if self._listener is not None:
            return
        listening = trio.socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listening.bind((self._host, self.port))
        listening.listen(512)
        self.port = int(listening.getsockname()[1])
        self._listener = trio.SocketListener(listening)
        self._nursery.start_soon(self._accept, self._listener)

    async def leave(self) -> None:
        """Stop listening: whoever connects is refused by the kernel. Open connections stay. Only in the thread."""
        if self._listener is not None:
            await self._listener.aclose()
            self._listener = None

    async def _main(self) -> None:
        self._token, self._end = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self.listen()
            self._ready.set()
            await self._end.wait()
            await self.leave()
            nursery.cancel_scope.cancel()

    async def _accept(self, listener: trio.SocketListener) -> None:
        while True:
            try:
                client = await listener.accept()
            except trio.ClosedResourceError:
                return
            self._nursery.start_soon(self._take, client)

    async def _take(self, client: trio.SocketStream) -> None:
        async with client:
            await self._serve(client)
