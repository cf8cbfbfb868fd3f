"""Opens connections and keeps them: clients at rest between two requests, or readers that stopped in the middle.

All of them are there before the measurement; what it sees is a server that has nothing to do but hold them. Plain HTTP.
"""

import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from bench.contenders.contender import Endpoint
from bench.jobs import Shot
from bench.load import Load

_READ_BYTES: Final = 1 << 16
_SLOW_BUFFER_BYTES: Final = 4096
"""What the kernel takes in for a reader that stopped; it doubles this. The rest waits at the server."""
_TIMEOUT_S: Final = 30.0
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


async def drive(
    load: Load, shots: Sequence[Mapping[str, Any]], *, connections: int, read_bytes: int | None, hold_s: float
) -> None:
    """Ask once over each connection, then hold them all for `hold_s`.

    `read_bytes` of the body are read, the rest is left to wait; None: all of it, and the connection rests. A
    connection that the server closed meanwhile is an error, and so is a wrong answer (ValueError, before anything is
    measured).
    """
    loaded = [Shot(**each) for each in shots]
    held: list[socket.socket] = []
    try:
        for number in range(connections):
            held.append(_ask(load.endpoint, loaded[number % len(loaded)], read_bytes))
            await trio.lowlevel.checkpoint()
        await load.ready()
        await trio.sleep(hold_s)
        for each in held:
            _look(load, each, resting=read_bytes is None)
    finally:
        for each in held:
            each.close()


def _ask(endpoint: Endpoint, shot: Shot, read_bytes: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(_TIMEOUT_S)
        if read_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER_BYTES)
        sock.connect((endpoint.host, endpoint.port))
        headers = {"Host": endpoint.address, **shot.headers}
        lines = [f"{shot.method} {shot.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        sock.sendall("\r\n".join((*lines, "", "")).encode())
        _receive(sock, shot, read_bytes)
    except BaseException:
        sock.close()
        raise
    return sock


def _receive(sock: socket.socket, shot: Shot, read_bytes: int | None) -> None:
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _some(sock)
    status, length = _STATUS.match(data), _LENGTH.search(data, 0, end + 2)
    if status is None or int(status[1]) != shot.status or length is None or int(length[1]) != shot.size_bytes:
        raise ValueError(f"{shot.method} {shot.path} was answered {data[: end + 2]!r}")
    body_bytes = 0 if shot.method == "HEAD" else shot.size_bytes
    wanted = body_bytes if read_bytes is None else min(read_bytes, body_bytes)
    came = len(data) - end - 4
    while came < wanted:
        came += len(_some(sock))


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(_READ_BYTES)
    if not data:
        raise ValueError("closed before the answer was whole")
    return data


def _look(load: Load, sock: socket.socket, *, resting: bool) -> None:
    """A connection that rests has nothing to say; where a body waits there are bytes."""
    sock.setblocking(False)  # noqa: FBT003 - the name of the method says what it is
    try:
        waiting = sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        alive = resting
    except OSError:
        alive = False
    else:
        alive = not resting and waiting != b""
    if alive:
        load.answered(1, 0)
    else:
        load.failed("a connection was not as it had been left")
