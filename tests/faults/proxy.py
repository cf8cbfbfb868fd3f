"""A proxy that stands between Sluice and a server that it uses, passes bytes unchanged, and does harm when told to.

It runs on Trio in a thread of its own, so that tests of any kind can use it and what they start as processes too. As
an HTTP proxy (`http=True`) it keeps a list of all requests, and rules choose among requests; else among connections.
Rules are tried in the order in which they were made; all that fit act together.
"""

import functools
from collections.abc import Callable
from typing import Self

import trio

from tests.faults.exchange import Exchange, Rule
from tests.faults.fault import Fault
from tests.faults.listening import Listening
from tests.faults.messages import Head
from tests.faults.passage import Passage


class FaultProxy:
    """Listens on a loopback port of its own while it is open and passes everything to `port`.

    Use it as a context manager. Its methods are called from any thread and take effect for what comes after.
    """

    def __init__(self, port: int, *, http: bool = True) -> None:
        self._target = port
        self._http = http
        self._rules: list[Rule] = []
        self._passages: set[Passage] = set()
        self._healed: trio.Event | None = None
        self._listening = Listening(self._serve, "fault proxy")
        self.connections = 0
        """How many were accepted so far."""
        self.exchanges: list[Exchange] = []
        """Every request so far, in the order in which they began; or every connection."""

    @property
    def endpoint(self) -> str:
        """Its base URL, where it is an HTTP proxy."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listening.port

    def __enter__(self) -> Self:
        self._listening.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

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
        """Forget all rules, also for what is under way, let go on what is stalled, and listen again."""
        self._rules.clear()
        self._listening.run(self._heal)

    def refuse(self) -> None:
        """Take no more connections: whoever tries is refused by the kernel. Open ones stay."""
        self._listening.run(self._listening.leave)

    def reset_all(self) -> None:
        """Reset every open connection."""
        self._listening.run(self._reset_all)

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

    async def _serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        connect = functools.partial(trio.open_tcp_stream, "127.0.0.1", self._target)
        begin = functools.partial(self.begin, self.connections)
        passage = Passage(client, connect, begin, self._wait_healed)
        self._passages.add(passage)
        try:
            await passage.run(http=self._http)
        finally:
            self._passages.discard(passage)

    async def _wait_healed(self) -> None:
        if self._healed is None:
            self._healed = trio.Event()
        await self._healed.wait()

    async def _heal(self) -> None:
        if self._healed is not None:
            self._healed.set()
            self._healed = None
        for passage in self._passages:
            passage.forgive()
        await self._listening.listen()

    async def _reset_all(self) -> None:
        for passage in list(self._passages):
            passage.reset()
