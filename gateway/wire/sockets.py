"""Listening sockets: HOST:PORT to bound sockets that several processes can share. Knows nothing of HTTP.

A *reservation* is bound and never listens, so no connection can get stuck in it: it keeps the port for us (and fixes
the number when port 0 was asked for) while worker processes come and go. Each worker listens with sockets of its own
on the same address (SO_REUSEPORT); when it dies, the kernel sends newcomers to the others at once.
"""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

BACKLOG: Final = 2048
"""Connections that may wait for accept: a CI fleet starts in one second. The kernel may cap it (net.core.somaxconn)."""
_LAST_PORT: Final = 65535


class ListenError(Exception):
    """The address cannot be listened on; the message says why. Retrying helps only when somebody else lets go of it."""


def split_address(listen: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (every address). Raises `ListenError`."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _LAST_PORT:
        raise ListenError(f"{listen!r} is not HOST:PORT, such as 127.0.0.1:8080 or [::]:8080")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host:
        raise ListenError(f"{listen!r}: an IPv6 address stands in brackets, such as [::1]:8080")
    return host, int(port)


def reserve(listen: str) -> tuple[socket.socket, ...]:
    """Bind every address that `HOST:PORT` means, without listening; the caller closes them.

    Port 0 picks one free port for all of them. Raises `ListenError` when somebody already listens there: SO_REUSEPORT
    alone would let two gateways share a port by accident.
    """
    host, port = split_address(listen)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"cannot listen on {listen}: {error}") from error
    with ExitStack() as undo:
        reserved: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(found):
            place = (address[0], port, *address[2:])
            try:
                if port:
                    _bound(family, place, shared=False).close()
                reserved.append(undo.enter_context(_bound(family, place, shared=True)))
            except OSError as error:
                raise ListenError(f"cannot listen on {listen}: {error.strerror or error}") from error
            port = port or reserved[0].getsockname()[1]
        undo.pop_all()
    return tuple(reserved)


def open_listeners(reserved: Sequence[socket.socket], *, user_timeout_s: float) -> tuple[socket.socket, ...]:
    """New listening sockets on the addresses of a reservation; the caller closes them.

    Accepted connections inherit TCP_USER_TIMEOUT: the kernel gives up on a peer that acknowledges nothing for
    `user_timeout_s`, also after we have closed our end. Raises `ListenError`.
    """
    with ExitStack() as undo:
        listeners: list[socket.socket] = []
        for reservation in reserved:
            address = reservation.getsockname()
            try:
                listener = undo.enter_context(_bound(reservation.family, address, shared=True))
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(user_timeout_s * 1000))
                listener.listen(BACKLOG)
            except OSError as error:
                raise ListenError(f"cannot listen on {address}: {error.strerror or error}") from error
            listeners.append(listener)
        undo.pop_all()
    return tuple(listeners)


def _bound(family: int, address: tuple[str | int, ...], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Binding [::] beside 0.0.0.0 would fail otherwise; who wants both names both, or gives no host.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
