"""A client that sends exactly the bytes it is given and reads answers strictly. Blocking, on loopback. Not a test."""

import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Answer:
    """One complete answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Cut(Exception):
    """The connection ended before the answer did."""


class RawClient:
    """One connection."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None) -> None:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", port))
        self.sock = tls.wrap_socket(sock, server_hostname="localhost") if tls else sock
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes | str) -> Self:
        """Send bytes as they are."""
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def request(self, method: str, path: str, *fields: str, body: bytes = b"") -> Self:
        """Send an ordinary request; a body gets its Content-Length."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def half_close(self) -> Self:
        """Say that nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Leave with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read one final answer; raises `Cut` when the connection ends within it."""
        status, headers = self.head()
        while status == 100:
            status, headers = self.head()
        if to_head or status in {204, 304}:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join(self._chunks()))
        if "content-length" in headers:
            return Answer(status, headers, self.take(int(headers["content-length"])))
        return Answer(status, headers, self.rest())

    def head(self) -> tuple[int, dict[str, str]]:
        """Read one head, interim ones included."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:])
        return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}

    def until(self, mark: bytes) -> bytes:
        """Everything before the mark, which is taken too."""
        while mark not in self.buffer:
            self._fill()
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def take(self, size: int) -> bytes:
        """Exactly that many bytes."""
        parts, missing = [self.buffer[:size]], size - len(self.buffer)
        self.buffer = self.buffer[size:]
        while missing > 0:
            self._fill()
            parts.append(self.buffer[:missing])
            missing, self.buffer = missing - len(parts[-1]), self.buffer[missing:]
        return b"".join(parts)

    def rest(self) -> bytes:
        """Everything until the server closes; raises ConnectionResetError when it resets."""
        parts, self.buffer = [self.buffer], b""
        while data := self.sock.recv(1 << 18):
            parts.append(data)
        return b"".join(parts)

    def closed(self) -> bool:
        """Wait until the server has closed, by whatever means; False when it said something instead."""
        try:
            return not self.sock.recv(1)
        except ConnectionError:
            return True

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.until(b"\r\n"), 16):
            yield self.take(size)
            self.until(b"\r\n")
        self.until(b"\r\n")

    def _fill(self) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionError as error:
            raise Cut from error
        if not data:
            raise Cut
        self.buffer += data


def eventually(condition: Callable[[], Any], *, within_s: float = PATIENCE_S) -> Any:
    """Ask a real process until it says yes; the last answer, or an assertion when time is up."""
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.01)
    return result


@contextmanager
def lasting(*, at_least_s: float = 0.0, at_most_s: float) -> Iterator[None]:
    """Assert how long the block takes."""
    begun = time.monotonic()
    yield
    assert at_least_s <= time.monotonic() - begun <= at_most_s
