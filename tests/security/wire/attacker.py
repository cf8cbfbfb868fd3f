"""A client without manners: exact bytes, half-closes and resets, in plain TCP or inside TLS. Blocking; not a test.

TLS runs in memory, because the standard library's TLS socket can neither end its sending side and read on, nor send a
part of a record. Answers are read strictly: what is not exactly an answer of RFC 9112 is an assertion.
"""

import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from tests.gateway.wire.raw_client import PATIENCE_S, Answer, Cut, RawClient

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [\t\x20-\x7e]*")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t\x20-\x7e]*)")
_PROTOCOL: Final = b"HTTP/1.1 "
_READ_BYTES: Final = 1 << 18


class TlsSocket:
    """The part of a socket that `RawClient` uses, with TLS in between. The handshake is made here."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.below = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._drive(self.tls.do_handshake)

    def sendall(self, data: bytes) -> None:
        """Encrypt and send everything."""
        self.below.sendall(self.sealed(data))

    def sealed(self, data: bytes) -> bytes:
        """The records that carry the data, not sent."""
        self.tls.write(data)
        return self._outgoing.read()

    def recv(self, size: int) -> bytes:
        """Some bytes; nothing at the end, with TLS's own goodbye, without, or with an alert."""
        try:
            received: bytes = self._drive(self.tls.read, size)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            if "ALERT" not in (error.reason or ""):
                raise
            return b""
        return received

    def shutdown(self, _how: int) -> None:
        """Say goodbye in TLS and in TCP, and read on."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.below.sendall(self._outgoing.read())
        self.below.shutdown(socket.SHUT_WR)

    def setsockopt(self, *option: Any) -> None:
        """An option of the socket below."""
        self.below.setsockopt(*option)

    def settimeout(self, seconds: float) -> None:
        """The socket's timeout below."""
        self.below.settimeout(seconds)

    def close(self) -> None:
        """Close without a goodbye in TLS."""
        self.below.close()

    def _drive(self, step: Any, *arguments: Any) -> Any:
        while True:
            try:
                result = step(*arguments)
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if pending := self._outgoing.read():
            self.below.sendall(pending)

    def _feed(self) -> None:
        if received := self.below.recv(_READ_BYTES):
            self._incoming.write(received)
        else:
            self._incoming.write_eof()


def _encrypted(sock: socket.socket, context: ssl.SSLContext) -> TlsSocket:
    try:
        return TlsSocket(sock, context)
    except BaseException:
        sock.close()
        raise


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection went: the answers in order, interim ones included, and what was left of a broken one."""

    answers: tuple[Answer, ...]
    rest: bytes = b""
    reset: bool = False

    @property
    def statuses(self) -> tuple[int, ...]:
        """The statuses in order."""
        return tuple(answer.status for answer in self.answers)


class Attacker(RawClient):
    """One hostile connection."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None) -> None:
        super().__init__(port, receive_buffer=receive_buffer)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = cast("socket.socket", _encrypted(self.sock, tls))
        self.refuses_bytes = False
        """Whether the server closed while bytes were sent."""

    def force(self, data: bytes, *, dribble: bool = False) -> "Attacker":
        """Send everything, or as much as the server lets us; with `dribble` each byte by itself."""
        step = 1 if dribble else max(len(data), 1)
        try:
            for place in range(0, len(data), step):
                self.sock.sendall(data[place : place + step])
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            self.refuses_bytes = True
        return self

    def end(self) -> "Attacker":
        """Half-close, if the server is still there."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        return self

    def listen(self, *, count: int | None = None, to_heads: bool | None = False) -> Ending:
        """Read that many answers, or until the connection ends. Asserts that each answer is well-formed.

        `to_heads` says that they answer HEAD; None that some of them may.
        """
        answers: list[Answer] = []
        try:
            while count is None or len(answers) < count:
                self._need(1)
                answers.append(self._answer(to_head=to_heads))
                if answers[-1].headers.get("connection", "").lower() == "close":
                    self.end()  # a well-behaved client; else the server waits for what may still be under way
        except Cut as cut:
            return Ending(tuple(answers), self.buffer, isinstance(cut.__cause__, ConnectionError))
        return Ending(tuple(answers))

    def _answer(self, *, to_head: bool | None) -> Answer:
        while b"\r\n\r\n" not in self.buffer:  # what is not there stays in the buffer, as evidence
            self._fill()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        status = _STATUS_LINE.fullmatch(status_line)
        assert status is not None, head
        fields = [_FIELD.fullmatch(line) for line in lines]
        assert all(fields), head
        names = [found[1].lower().decode() for found in fields if found]
        for once in ("content-length", "transfer-encoding", "connection", "date", "content-type"):
            assert names.count(once) <= 1, head
        headers = dict(zip(names, (found[2].strip().decode() for found in fields if found), strict=True))
        return Answer(int(status[1]), headers, self._body(int(status[1]), headers, to_head=to_head))

    def _body(self, status: int, headers: dict[str, str], *, to_head: bool | None) -> bytes:
        if to_head or status < 200 or status in {204, 304}:
            return b""
        assert "transfer-encoding" in headers or "content-length" in headers, headers
        assert not ("transfer-encoding" in headers and "content-length" in headers), headers
        if to_head is None and self._nothing_or_a_head_follows():
            return b""
        return b"".join(self._chunks()) if "transfer-encoding" in headers else self.take(int(headers["content-length"]))

    def _nothing_or_a_head_follows(self) -> bool:
        """Whether the answer before was one to HEAD; no body begins like a status line."""
        try:
            self._need(len(_PROTOCOL))
        except Cut:
            return not self.buffer
        return self.buffer.startswith(_PROTOCOL)

    def _need(self, size: int) -> None:
        while len(self.buffer) < size:
            self._fill()


def patient_reading(attacker: Attacker, *, to_heads: bool | None = False) -> Ending:
    """Everything until the end; a server that neither answers nor ends within the patience is a hang."""
    try:
        return attacker.listen(to_heads=to_heads)
    except TimeoutError as hang:
        raise AssertionError(
            f"neither an answer nor an end within {PATIENCE_S} s; so far {attacker.buffer!r}"
        ) from hang
