"""A load balancer without memory: each request, also the next one on the same connection, goes to the next replica.

It passes bytes unchanged. Like nginx with its defaults it opens a connection for every request, asks the next replica
where one does not listen, and asks again where a GET or HEAD got no byte of an answer; nothing else is sent twice.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Self

import trio

from tests.faults.listening import Listening
from tests.faults.messages import Head, Messages, Piece, answers, requests
from tests.faults.passage import reset

_CHUNK: Final = 256 * 1024
_TLS_GREETING: Final = 0x16
_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
_NOBODY: Final = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(slots=True, eq=False)
class Turn:
    """A request and the replica that it went to, by its number. `status` is 0 until answered."""

    head: Head
    replica: int
    status: int = 0

    def __str__(self) -> str:
        return f"{self.replica}: {self.head.method} {self.head.target} -> {self.status}"


class Outcome(Enum):
    """What became of a request at one replica."""

    ANSWERED = auto()
    OVER = auto()  # and the client's connection has to end with it
    UNHEARD = auto()  # no byte of an answer


class Front:
    """Listens on a loopback port of its own while it is open and deals requests out to the replicas' ports in turn."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._next = 0
        self._listening = Listening(self._serve, "front")
        self.turns: list[Turn] = []
        """Every request so far, in the order in which they began; one that was asked again is there again."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listening.port

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._listening.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    async def _serve(self, client: trio.SocketStream) -> None:
        pieces = _Pieces(client, requests())
        try:
            while (piece := await pieces.next()) is not None:
                if await self._deal(client, pieces, piece) is not Outcome.ANSWERED:
                    return
        except _BROKEN:
            reset(client)

    async def _deal(self, client: trio.SocketStream, pieces: "_Pieces", first: Piece) -> Outcome:
        """One request, to as many replicas as it takes."""
        assert first.head is not None
        begin = self._next
        self._next = (self._next + 1) % len(self._ports)
        for attempt in range(2 * len(self._ports)):
            turn = Turn(first.head, (begin + attempt) % len(self._ports))
            try:
                replica = await trio.open_tcp_stream("127.0.0.1", self._ports[turn.replica])
            except OSError:
                continue
            self.turns.append(turn)
            async with replica:
                outcome = await _Relay(client, replica, turn).run(pieces, first)
            if outcome is not Outcome.UNHEARD:
                return outcome
            if not first.ends or first.head.method not in {"GET", "HEAD"}:
                break
        await client.send_all(_NOBODY)
        return Outcome.OVER


class _Relay:
    """One request at one replica."""

    def __init__(self, client: trio.SocketStream, replica: trio.SocketStream, turn: Turn) -> None:
        self._client = client
        self._replica = replica
        self._turn = turn
        self._is_sent = False

    async def run(self, pieces: "_Pieces", first: Piece) -> Outcome:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._up, pieces, first)
            outcome = await self._down()
            nursery.cancel_scope.cancel()
        return outcome

    async def _up(self, pieces: "_Pieces", piece: Piece | None) -> None:
        try:
            while piece is not None:
                await self._replica.send_all(piece.raw)
                if piece.ends:
                    self._is_sent = True
                    return
                piece = await pieces.next()
        except _BROKEN:
            return  # the replica may have answered before it closed
        await self._replica.aclose()  # the client has left in the middle

    async def _down(self) -> Outcome:
        answer = _Pieces(self._replica, answers(lambda: self._turn.head.method))
        begun = False
        try:
            while (piece := await answer.next()) is not None:
                begun = True
                is_interim = piece.head is not None and piece.head.status < 200
                if piece.head is not None:
                    self._turn.status = piece.head.status
                await self._client.send_all(piece.raw)
                if piece.ends and not is_interim:
                    return Outcome.ANSWERED if self._is_sent else Outcome.OVER
        except _BROKEN:
            if begun:
                reset(self._client)  # what broke here shall be seen as broken
        return Outcome.OVER if begun else Outcome.UNHEARD


class _Pieces:
    """The messages of a connection, piece after piece."""

    def __init__(self, source: trio.SocketStream, messages: Messages) -> None:
        self._source = source
        self._messages = messages
        self._ready: deque[Piece] = deque()
        self._is_new = True

    async def next(self) -> Piece | None:
        """The next piece, or None where the connection has ended."""
        while not self._ready:
            data = bytes(await self._source.receive_some(_CHUNK))
            if not data or (self._is_new and data[0] == _TLS_GREETING):
                return None  # clients try https first, and whoever waits for a head then waits for ever
            self._is_new = False
            self._ready += self._messages.feed(data)
        return self._ready.popleft()
