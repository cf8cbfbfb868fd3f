"""A relay between clients and the gateway that writes down every request, so that a test can say what was on the wire.

Bytes pass unchanged and at once, in both directions, also those that are no HTTP (a TLS greeting on a plain port is
relayed like anything else). The clients' requests are parsed beside the stream, and of each answer the head. Clients
do not pipeline, which is relied upon: a byte from the gateway belongs to the connection's latest request. Knows no
registry beyond the words of its requests.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import httptools

_CHUNK: Final = 256 * 1024
_BODY_KEPT: Final = 16 * 1024  # forms and small documents; blobs are only counted
_TLS_HANDSHAKE: Final = 0x16
_HEAD_LIMIT: Final = 64 * 1024


@dataclass(slots=True)
class Exchange:
    """One request and its answer as they passed. Header names are in lower case; `status` is 0 until answered."""

    connection: int
    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    body_bytes: int = 0
    status: int = 0
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    answer_bytes: int = 0
    started_s: float = field(default_factory=time.monotonic)
    ended_s: float = 0.0
    """When the last byte so far passed, or when the gateway closed."""

    @property
    def path(self) -> str:
        """The path without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's fields."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def form(self) -> dict[str, list[str]]:
        """The fields of a form in the body."""
        return parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)

    def header(self, name: str) -> str:
        """All values of a request header, joined; empty without one."""
        return ", ".join(value for key, value in self.headers if key == name)

    def answer_header(self, name: str) -> str:
        """All values of an answer's header, joined; empty without one."""
        return ", ".join(value for key, value in self.answer_headers if key == name)

    def __str__(self) -> str:
        return f"{self.method} {self.target} -> {self.status} ({self.body_bytes} bytes up, {self.answer_bytes} down)"


Hook = tuple[Callable[[Exchange], bool], Callable[[], None]]
Cut = tuple[Callable[[Exchange], bool], int]


class Wiretap:
    """Listens on a loopback port of its own while it is open and relays to `port`.

    Use it as a context manager. Each connection has two threads; closing the tap closes every connection.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self.exchanges: list[Exchange] = []
        """Everything so far, in the order in which requests began."""
        self._hooks: list[Hook] = []
        self._cuts: list[Cut] = []
        self._open: set[socket.socket] = set()
        self._count = 0

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True, name="wiretap").start()
        return self

    def __exit__(self, *_: object) -> None:
        _close(self._listener)
        for each in list(self._open):
            _close(each)

    def before_answer(self, wanted: Callable[[Exchange], bool], act: Callable[[], None]) -> None:
        """Call `act`, once, when the head of a wanted answer has come and before the client sees any of it."""
        self._hooks.append((wanted, act))

    def cut_answer(self, wanted: Callable[[Exchange], bool], *, after_bytes: int) -> None:
        """Break the connection, once, when that much of a wanted answer's body has passed."""
        self._cuts.append((wanted, after_bytes))

    def is_cut(self, exchange: Exchange) -> bool:
        """Whether the connection breaks here, instead of passing what came last; called by the relay."""
        for cut in list(self._cuts):
            wanted, after_bytes = cut
            if exchange.answer_bytes > after_bytes and wanted(exchange):
                self._cuts.remove(cut)
                return True
        return False

    def answered(self, exchange: Exchange) -> None:
        """Run the hooks that wait for this answer; called by the relay."""
        for hook in list(self._hooks):
            wanted, act = hook
            if wanted(exchange):
                self._hooks.remove(hook)
                act()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed: the tap is done
                return
            try:
                gateway = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # the gateway is down: the client sees a connection that closes
                _close(client)
                continue
            for each in (client, gateway):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.add(each)
            self._count += 1
            listening = _Listening(self, self._count)
            pair = _Pair(client, gateway, self._open)
            self._relay(pair, client, gateway, listening.from_client)
            self._relay(pair, gateway, client, listening.from_gateway)

    @staticmethod
    def _relay(pair: "_Pair", source: socket.socket, target: socket.socket, note: Callable[[bytes], bool]) -> None:
        """Start a thread that copies one direction until its source ends."""

        def copy() -> None:
            try:
                while chunk := source.recv(_CHUNK):
                    if note(chunk):
                        target.sendall(chunk)
                    else:
                        pair.close()
                target.shutdown(socket.SHUT_WR)  # what is half-closed stays half-closed
            except OSError:  # reset, or closed by the other direction: the peer shall see it too
                pair.close()
            finally:
                note(b"")
                pair.ended()

        threading.Thread(target=copy, daemon=True, name="wiretap").start()


class _Pair:
    """The two sockets of one connection, closed when both directions have ended."""

    def __init__(self, client: socket.socket, gateway: socket.socket, registered: set[socket.socket]) -> None:
        self._sockets = (client, gateway)
        self._registered = registered
        self._lock = threading.Lock()
        self._running = 2

    def ended(self) -> None:
        """One direction is done; called once by each."""
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last:
            self.close()
            self._registered.difference_update(self._sockets)

    def close(self) -> None:
        """Close both, which also ends the other direction. May be called again."""
        for each in self._sockets:
            _close(each)


class _Listening:
    """What is known about one connection.

    Each direction's method gets its bytes, says whether they are to be passed on, and gets none when it has ended.
    """

    def __init__(self, tap: Wiretap, number: int) -> None:
        self._tap = tap
        self._number = number
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._head = b""

    def from_client(self, chunk: bytes) -> bool:
        if self._parser is None or not chunk:
            return True
        if self._exchange is None and chunk[0] == _TLS_HANDSHAKE:
            self._parser = None
            self._begin().method = "TLS"
            return True
        try:
            self._parser.feed_data(chunk)
        except httptools.HttpParserError:
            self._parser = None
            self._begin().method = "NOT-HTTP"
        return True

    def from_gateway(self, chunk: bytes) -> bool:
        exchange = self._exchange
        if exchange is None:
            return True
        exchange.ended_s = time.monotonic()
        if exchange.status:
            exchange.answer_bytes += len(chunk)
        else:
            self._read_head(exchange, chunk)
        return not self._tap.is_cut(exchange)

    def _read_head(self, exchange: Exchange, chunk: bytes) -> None:
        self._head += chunk
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end or not head.startswith(b"HTTP/1.") or len(head) > _HEAD_LIMIT:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        exchange.answer_headers = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
        ]
        exchange.answer_bytes = len(rest)
        exchange.status = int(first.split(" ")[1])
        self._tap.answered(exchange)

    def _begin(self) -> Exchange:
        self._exchange = Exchange(self._number)
        self._head = b""
        self._tap.exchanges.append(self._exchange)
        return self._exchange

    # What httptools calls, in this order, for every request.

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        assert self._exchange is not None
        self._exchange.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._exchange is not None
        self._exchange.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        assert self._exchange is not None
        assert self._parser is not None
        self._exchange.method = self._parser.get_method().decode("latin-1")

    def on_body(self, body: bytes) -> None:
        assert self._exchange is not None
        self._exchange.body_bytes += len(body)
        self._exchange.body += body[: _BODY_KEPT - len(self._exchange.body)]


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
