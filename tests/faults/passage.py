"""One connection through the proxy: two directions that copy what comes, and what faults do to it on the way.

A fault belongs to the exchange that it befell, and each that interrupts acts once. Interim answers (1xx) pass without
harm. A reset on one side is a reset on the other, an end on one side an end on the other.
"""

import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Final

import trio

from tests.faults.exchange import WHOLE_CONNECTION, Exchange
from tests.faults.fault import (
    BEFORE,
    DOWN,
    UP,
    Answer,
    AnsweredTwice,
    AskedTwice,
    Bandwidth,
    Cut,
    Direction,
    Fault,
    HalfClose,
    Latency,
    Reset,
    Stall,
    WrongByte,
)
from tests.faults.messages import Head, Messages, Piece, answers, requests

_CHUNK: Final = 256 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SLICES_S: Final = 20  # of a limited bandwidth
_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
Interruption = Stall | Reset | Cut | HalfClose


class Passage:
    """The two sockets of a connection and what is on its way between them."""

    def __init__(
        self,
        client: trio.SocketStream,
        connect: Callable[[], Awaitable[trio.SocketStream]],
        begin: Callable[[Head], Exchange],
        wait_healed: Callable[[], Awaitable[None]],
    ) -> None:
        self._client = client
        self._server = client  # until `run` has one
        self._connect = connect
        self._begin = begin
        self._wait_healed = wait_healed
        self._exchange = Exchange(0)
        self._positions = {UP: 0, DOWN: 0}
        self._kept = bytearray()  # a request that is asked twice
        self._echo = bytearray()  # an answer that is answered twice
        # A client may ask again before the task that gave it the last byte has woken up.
        self._sending = {UP: trio.Lock(), DOWN: trio.Lock()}
        self._closed: set[Direction] = set()  # told their end already, while the other direction goes on

    async def run(self, *, http: bool) -> None:
        """Copy both directions until both have ended. Whoever gave the client's socket closes it."""
        try:
            self._server = await self._connect()
        except OSError:
            reset(self._client)
            return
        if not http:
            self._exchange = self._begin(WHOLE_CONNECTION)
        up = requests() if http else None
        down = answers(lambda: self._exchange.method) if http else None
        async with self._server, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, UP, self._client, self._server, up, nursery)
            nursery.start_soon(self._copy, DOWN, self._server, self._client, down, nursery)

    def reset(self) -> None:
        """Reset both sides; `run` ends."""
        reset(self._client)
        reset(self._server)

    def forgive(self) -> None:
        """Nothing more befalls what is under way."""
        self._exchange.faults.clear()

    async def _copy(
        self,
        direction: Direction,
        source: trio.SocketStream,
        target: trio.SocketStream,
        messages: Messages | None,
        nursery: trio.Nursery,
    ) -> None:
        take = self._take_up if direction == UP else self._take_down
        try:
            while data := bytes(await source.receive_some(_CHUNK)):
                for piece in _pieces(messages, data):
                    await take(piece)
            if direction not in self._closed:
                await target.send_eof()
        except _BROKEN:
            self.reset()
            nursery.cancel_scope.cancel()
        except _Ended:
            nursery.cancel_scope.cancel()

    async def _take_up(self, piece: Piece) -> None:
        if piece.head is not None:
            self._exchange = self._begin(piece.head)
            self._positions = {UP: 0, DOWN: 0}
        exchange = self._exchange
        exchange.body_bytes += len(piece.body)
        canned = next((fault for fault in exchange.faults if isinstance(fault, Answer)), None)
        twice = any(isinstance(fault, AskedTwice) for fault in exchange.faults)
        if not canned and not twice:
            await self._pass(UP, self._server, piece)
            return
        if piece.head and "100-continue" in piece.head.field("expect").lower():
            await self._send(self._client, _CONTINUE, DOWN, None)
        if canned and piece.ends:
            exchange.status = canned.status
            await self._send(self._client, canned.raw(exchange.method), DOWN, None)
        if twice:
            self._kept += piece.raw
            if piece.ends:
                await self._ask_twice()

    async def _take_down(self, piece: Piece) -> None:
        exchange = self._exchange
        if piece.head is not None:
            if piece.head.status < 200:
                await self._send(self._client, piece.raw, DOWN, None)
                return
            exchange.status = piece.head.status
        exchange.answer_bytes += len(piece.body)
        await self._pass(DOWN, self._client, piece)
        if any(isinstance(fault, AnsweredTwice) for fault in exchange.faults):
            self._echo += piece.raw
            if piece.ends:
                echo = bytes(self._echo)
                self._echo.clear()
                await self._send(self._client, echo, DOWN, None)

    async def _ask_twice(self) -> None:
        request = bytes(self._kept)
        self._kept.clear()
        async with await self._connect() as rehearsal:
            await rehearsal.send_all(request)
            await _read_answer(rehearsal, answers(lambda: self._exchange.method))
        await self._server.send_all(request)

    async def _pass(self, direction: Direction, target: trio.SocketStream, piece: Piece) -> None:
        """Send a piece with whatever befalls it. Raises _Ended where the connection is over."""
        faults = [fault for fault in self._exchange.faults if getattr(fault, "direction", None) == direction]
        position = self._positions[direction]
        self._positions[direction] += len(piece.body)
        if not faults:
            await self._send(target, piece.raw, direction, None)
            return
        is_first = piece.head is not None or (position == 0 and self._exchange.head is WHOLE_CONNECTION)
        if is_first:
            await trio.sleep(sum(fault.seconds for fault in faults if isinstance(fault, Latency)))
        limit = min((fault.bytes_s for fault in faults if isinstance(fault, Bandwidth)), default=None)
        data, sent = _changed(piece, position, faults), 0
        due = [each for each in faults if isinstance(each, Interruption) and _is_due(each, piece, position, is_first)]
        for interruption in sorted(due, key=lambda each: each.after_bytes):
            upto = max(sent, interruption.after_bytes - position)
            await self._send(target, data[sent:upto], direction, limit)
            sent = upto
            with suppress(ValueError):  # healed meanwhile
                self._exchange.faults.remove(interruption)
            await self._interrupt(interruption, target)
        await self._send(target, data[sent:], direction, limit)

    async def _send(
        self, target: trio.SocketStream, data: bytes, direction: Direction, limit_bytes_s: float | None
    ) -> None:
        if direction in self._closed:
            return
        step = len(data) if limit_bytes_s is None else int(limit_bytes_s / _SLICES_S)
        async with self._sending[direction]:
            for at in range(0, len(data), max(step, 1)):
                if limit_bytes_s is not None:
                    await trio.sleep(len(data[at : at + step]) / limit_bytes_s)
                await target.send_all(data[at : at + step])

    async def _interrupt(self, interruption: Interruption, target: trio.SocketStream) -> None:
        match interruption:
            case Stall():
                await self._wait_healed()
            case Reset():
                self.reset()
                raise _Ended
            case Cut():
                raise _Ended
            case HalfClose():
                self._closed.add(interruption.direction)
                await target.send_eof()


class _Ended(Exception):
    """A fault has ended the connection."""


def reset(stream: trio.SocketStream) -> None:
    """Close a connection so that the other side sees a reset. May be called again."""
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def _read_answer(source: trio.SocketStream, messages: Messages) -> None:
    while data := bytes(await source.receive_some(_CHUNK)):
        for piece in messages.feed(data):
            if piece.ends and not (piece.head and piece.head.status < 200):
                return


def _pieces(messages: Messages | None, data: bytes) -> Iterator[Piece]:
    return iter([Piece(None, data, ends=False)]) if messages is None else messages.feed(data)


def _changed(piece: Piece, position: int, faults: list[Fault]) -> bytes:
    """The piece's bytes with those that are to be wrong."""
    data = bytearray()
    for fault in faults:
        if isinstance(fault, WrongByte) and position <= fault.at < position + len(piece.body):
            data = data or bytearray(piece.raw)
            data[fault.at - position] ^= 0xFF
    return bytes(data) or piece.raw


def _is_due(fault: Interruption, piece: Piece, position: int, is_first: bool) -> bool:  # noqa: FBT001 - private
    if fault.after_bytes == BEFORE:
        return is_first
    return bool(piece.body) and position + len(piece.body) > fault.after_bytes
