"""A minimal HTTP/1.1 client on one raw non-blocking socket, for load: no retries, no redirects, no surprises.

It sends what it is told and counts what comes. Bulk is received into one buffer that is never looked at, and without
TLS the kernel does not even copy it (MSG_TRUNC, tcp(7)), so that the client costs less than any server. Runs on Trio;
knows nothing of registries. The hot loop for equal small requests is `bench.drivers.repeat`.
"""

import errno
import hashlib
import os
import re
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Self

import trio

from bench.contenders.contender import Endpoint

CHUNK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 1 << 16
_KEPT_BYTES: Final = 4 << 20
_TURN_BYTES: Final = 4 << 20  # after so many bytes without waiting, other tasks get a turn
_CHUNK_HEAD: Final = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")


class Broken(OSError):
    """The server closed too early or said what no HTTP/1.1 server may say. The connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body. `headers` come besides Host and the body's framing."""

    method: str
    path: str
    headers: Mapping[str, str]

    def head(self, endpoint: Endpoint, *framing: str) -> bytes:
        """The bytes up to the body; `framing` are header lines of the body."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {endpoint.address}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join((*lines, *framing, "", "")).encode()


def get(path: str, *, authorization: str | None = None, method: str = "GET", **headers: str) -> Request:
    """A request without body; `headers` in Python's spelling (`accept="..."`, `if_none_match="..."`)."""
    given = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Request(method, path, {"Authorization": authorization, **given} if authorization else given)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Header names are in lower case; times are those of `time.perf_counter_ns`."""

    status: int
    headers: Mapping[str, str]
    size_bytes: int
    """How many bytes of body came."""
    digest: str | None
    """`sha256:...` of the body, if it was asked for."""
    body: bytes
    """The body if it was to be kept, else empty."""
    first_byte_ns: int
    """When the first byte of the answer was here."""
    end_ns: int
    """When the last byte was here."""


@cache
def tls_context(certificate: Path) -> ssl.SSLContext:
    """Trusts this certificate only."""
    return ssl.create_default_context(cafile=certificate)


class Connection:
    """One connection. `async with await Connection.open(endpoint) as connection:`; one request at a time."""

    __slots__ = ("_buffer", "_closes", "_endpoint", "_head", "_socket", "_turn")

    def __init__(self, endpoint: Endpoint, sock: socket.socket) -> None:
        self._endpoint = endpoint
        self._socket = sock
        self._buffer = bytearray(CHUNK_BYTES)
        self._head = bytearray()
        self._closes = False
        self._turn = 0

    @classmethod
    async def open(cls, endpoint: Endpoint) -> Self:
        """Connect, with TLS if the endpoint has a certificate. Raises OSError."""
        sock = await _connect(endpoint)
        connection = cls(endpoint, sock)
        if endpoint.certificate is not None:
            try:
                await connection._shake_hands(endpoint.certificate)
            except BaseException:
                connection._socket.close()
                raise
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def reusable(self) -> bool:
        """Whether it can take another request."""
        return not self._closes and self._socket.fileno() != -1

    @property
    def socket(self) -> socket.socket:
        """The socket itself, for cases that misbehave on purpose."""
        return self._socket

    def close(self) -> None:
        """Close at once, without a TLS goodbye. Does nothing the second time."""
        self._socket.close()

    async def request(
        self,
        request: Request,
        body: Iterable[bytes | memoryview] = (),
        *,
        length: int | None = None,
        chunked: bool = False,
        keep: bool = False,
        hashed: bool = False,
    ) -> Reply:
        """Send and receive.

        A body wants its `length`, or goes `chunked`; the answer's is counted, and dropped unless `keep` (up to
        4 MiB). `hashed` tells its digest.

        Raises Broken or another OSError when the connection dies; the answer of a server that refuses a body
        half-way is still read if it can be. On cancellation the connection must be closed.
        """
        framing = ["Transfer-Encoding: chunked"] if chunked else []
        if length is not None:
            framing.append(f"Content-Length: {length}")
        if request.headers.get("Connection") == "close":
            self._closes = True
        try:
            await self._send(request.head(self._endpoint, *framing))
            for part in body:
                if part:
                    await self._send(*((b"%x\r\n" % len(part), part, b"\r\n") if chunked else (part,)))
            if chunked:
                await self._send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self._closes = True  # it may have answered before it closed
        return await self._receive(request.method, keep=keep, hashed=hashed)

    # --- sending

    async def _send(self, *parts: bytes | memoryview) -> None:
        if len(parts) > 1 and not isinstance(self._socket, ssl.SSLSocket):
            await self._send_parts(parts)
            return
        for part in parts:
            view = memoryview(part)
            while view:
                try:
                    view = view[self._socket.send(view) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    await trio.lowlevel.wait_writable(self._socket)
                except ssl.SSLWantReadError:
                    await trio.lowlevel.wait_readable(self._socket)

    async def _send_parts(self, parts: Iterable[bytes | memoryview]) -> None:
        """Several pieces with one system call each turn."""
        views = [memoryview(part) for part in parts]
        while views:
            try:
                sent = self._socket.sendmsg(views)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
                continue
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if views:
                views[0] = views[0][sent:]

    # --- receiving

    async def _receive(self, method: str, *, keep: bool, hashed: bool) -> Reply:
        status, headers, first_byte_ns = await self._receive_head()
        taker = _Taker(keep=keep, hashed=hashed)
        if method != "HEAD" and status >= 200 and status not in {204, 304}:
            if headers.get("transfer-encoding", "").lower() == "chunked":
                await self._receive_chunked(taker)
            elif (length := headers.get("content-length")) is not None:
                await self._receive_exactly(int(length), taker)
            else:
                await self._receive_to_end(taker)
        end_ns = time.perf_counter_ns()
        if headers.get("connection", "").lower() == "close":
            self._closes = True
        if self._closes:
            self.close()
        return Reply(status, headers, taker.size_bytes, taker.digest, bytes(taker.kept), first_byte_ns, end_ns)

    async def _receive_head(self) -> tuple[int, dict[str, str], int]:
        first_byte_ns = 0 if not self._head else time.perf_counter_ns()
        while True:
            while (end := self._head.find(b"\r\n\r\n")) < 0:
                if len(self._head) > _HEAD_BYTES:
                    raise Broken(errno.EPROTO, "the head of the answer has no end")
                await self._more()
                first_byte_ns = first_byte_ns or time.perf_counter_ns()
            lines = self._head[:end].decode("latin-1").split("\r\n")
            del self._head[: end + 4]
            version, _, rest = lines[0].partition(" ")
            if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
                raise Broken(errno.EPROTO, f"not a status line: {lines[0][:80]!r}")
            status = int(rest[:3])
            if status != 100:
                break
        pairs = (line.partition(":") for line in lines[1:])
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if version == "HTTP/1.0":
            self._closes = True
        return status, headers, first_byte_ns

    async def _receive_exactly(self, length: int, taker: "_Taker") -> None:
        left = length
        if self._head:
            early = bytes(self._head[:left])
            del self._head[: len(early)]
            taker.take(early)
            left -= len(early)
        while left:
            window = memoryview(self._buffer)[: min(left, len(self._buffer))]
            count = await (self._into(window) if taker.looks else self._discard(window))
            if not count:
                raise Broken(errno.ECONNRESET, f"the body ended {left} bytes early")
            taker.take(window[:count])
            left -= count

    async def _receive_chunked(self, taker: "_Taker") -> None:
        while True:
            while (found := _CHUNK_HEAD.match(self._head)) is None:
                if len(self._head) > 1024:
                    raise Broken(errno.EPROTO, "not a chunk head")
                await self._more()
            size = int(found[1], 16)
            del self._head[: found.end()]
            await self._receive_exactly(size, taker)
            while len(self._head) < 2:  # trailers are none of the servers' habits here
                await self._more()
            del self._head[:2]
            if size == 0:
                return

    async def _receive_to_end(self, taker: "_Taker") -> None:
        self._closes = True
        taker.take(bytes(self._head))
        self._head.clear()
        while count := await self._into(memoryview(self._buffer)):
            taker.take(memoryview(self._buffer)[:count])

    async def _more(self) -> None:
        window = memoryview(self._buffer)[:_HEAD_BYTES]
        count = await self._into(window)
        if not count:
            raise Broken(errno.ECONNRESET, "closed before the answer was whole")
        self._head += window[:count]

    async def _into(self, window: memoryview) -> int:
        return await self._received(window, 0)

    async def _discard(self, window: memoryview) -> int:
        return await self._received(window, 0 if isinstance(self._socket, ssl.SSLSocket) else socket.MSG_TRUNC)

    async def _received(self, window: memoryview, flags: int) -> int:
        while True:
            try:
                count = self._socket.recv_into(window, len(window), flags)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._turn = 0
                await trio.lowlevel.wait_readable(self._socket)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self._socket)
            except ssl.SSLEOFError:
                return 0
            else:
                self._turn += count
                if self._turn > _TURN_BYTES:
                    self._turn = 0
                    await trio.lowlevel.checkpoint()
                return count

    async def _shake_hands(self, certificate: Path) -> None:
        wrapped = tls_context(certificate).wrap_socket(
            self._socket, server_hostname=self._endpoint.host, do_handshake_on_connect=False
        )
        self._socket = wrapped
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(wrapped)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(wrapped)
            else:
                return


class _Taker:
    """What happens to a body: it is counted, and on demand kept or hashed."""

    __slots__ = ("_hasher", "_keep", "kept", "size_bytes")

    def __init__(self, *, keep: bool, hashed: bool) -> None:
        self._keep = keep
        self._hasher = hashlib.sha256() if hashed else None
        self.kept = bytearray()
        self.size_bytes = 0

    @property
    def looks(self) -> bool:
        return self._keep or self._hasher is not None

    @property
    def digest(self) -> str | None:
        return f"sha256:{self._hasher.hexdigest()}" if self._hasher is not None else None

    def take(self, data: bytes | memoryview) -> None:
        self.size_bytes += len(data)
        if self._keep and len(self.kept) + len(data) <= _KEPT_BYTES:
            self.kept += data
        if self._hasher is not None:
            self._hasher.update(data)


async def _connect(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock.connect_ex((endpoint.host, endpoint.port)):
            await trio.lowlevel.wait_writable(sock)
            raise_for_socket(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def raise_for_socket(sock: socket.socket) -> None:
    """Raise the error that a connection attempt ended with, if any."""
    if failure := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(failure, os.strerror(failure))
