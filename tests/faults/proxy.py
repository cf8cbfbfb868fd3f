"""A proxy that stands between Sluice and a server that it uses, passes bytes unchanged, and does harm when told to.

It runs on Trio in a thread of its own, so that tests of any kind can use it and what they start as processes too. As
an HTTP proxy (`http=True`) it keeps a list of all requests, and rules choose among requests; else among connections.
Rules are tried in the order in which they were made; all that fit act together.
"""

import functools
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Final, Self

import trio

from tests.faults.exchange import Exchange, Rule
from tests.faults.fault import Fault
from tests.faults.messages import Head
from tests.faults.passage import Passage

_START_S: Final = 10.0


class FaultProxy:
    """Listens on a loopback port of its own while it is open and passes everything to `port`.

    Use it as a context manager. Its methods are called from any thread and take effect for what comes after.
    """

    def __init__(self, port: int, *, http: bool = True) -> None:
        self._target = port
        self._http = http
        self._rules: list[Rule] = []
        self._passages: set[Passage] = set()
        self._listener: trio.SocketListener | None = None
        self._ready = threading.Event()
        self.port = 0
        self.connections = 0
        """How many were accepted so far."""
        self.exchanges: list[Exchange] = []
        """Every request so far, in the order in which they began; or every connection."""

    @property
    def endpoint(self) -> str:
        """Its base URL, where it is an HTTP proxy."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="fault proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(_START_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._token.run_sync_soon(self._end.set)
        self._thread.join(_START_S)

    def harm(
        self,
        fault: Fault,
        when: Callable[[Exchange], bool] = lambda exchange: True,
        *,
        times: int | None = None,
        skip: int = 0,
    ) -> Rule:
        """Let a fault befall what comes from now on, `times` times or always, after the first `skip`."""
        rule = Rule(fault, when, times, skip)
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Forget all rules, let go on what is stalled, and listen again."""
        self._rules.clear()
        self._call(self._heal)

    def refuse(self) -> None:
        """Take no more connections: whoever tries is refused by the kernel. Open ones stay."""
        self._call(self._stop_listening)

    def reset_all(self) -> None:
        """Reset every open connection."""
        self._call(self._reset_all)

    def seen(self, when: Callable[[Exchange], bool] = lambda exchange: True) -> list[Exchange]:
        """The requests, or connections, that these words choose."""
        return [each for each in list(self.exchanges) if when(each)]

    def forget(self) -> None:
        """Begin a new list of requests."""
        self.exchanges.clear()

    def begin(self, connection: int, head: Head) -> Exchange:
        """Note a request and choose its faults; called by a passage."""
        exchange = Exchange(connection, head)
        exchange.faults = [rule.fault for rule in list(self._rules) if rule.fits(exchange)]
        self.exchanges.append(exchange)
        return exchange

    def _call(self, act: Callable[[], Awaitable[None]]) -> None:
        trio.from_thread.run(act, trio_token=self._token)

    async def _main(self) -> None:
        self._token, self._end, self._healed = trio.lowlevel.current_trio_token(), trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._listen()
            self._ready.set()
            await self._end.wait()
            await self._stop_listening()
            nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        listening = trio.socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listening.bind(("127.0.0.1", self.port))
        listening.listen(256)
        self.port = int(listening.getsockname()[1])
        self._listener = trio.SocketListener(listening)
        self._nursery.start_soon(self._accept, self._listener)

    async def _accept(self, listener: trio.SocketListener) -> None:
        while True:
            try:
                client = await listener.accept()
            except trio.ClosedResourceError:
                return
            self.connections += 1
            self._nursery.start_soon(self._serve, client, self.connections)

    async def _serve(self, client: trio.SocketStream, number: int) -> None:
        connect = functools.partial(trio.open_tcp_stream, "127.0.0.1", self._target)
        passage = Passage(client, connect, functools.partial(self.begin, number), self._wait_healed)
        self._passages.add(passage)
        try:
            await passage.run(http=self._http)
        finally:
            self._passages.discard(passage)

    async def _wait_healed(self) -> None:
        await self._healed.wait()

    async def _heal(self) -> None:
        self._healed.set()
        self._healed = trio.Event()
        await self._listen()

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            await self._listener.aclose()
            self._listener = None

    async def _reset_all(self) -> None:
        for passage in list(self._passages):
            passage.reset()
