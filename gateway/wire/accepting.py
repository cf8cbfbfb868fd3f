"""The accept loop: sockets from a listener, each handed to a task of its own. Knows no HTTP and keeps no count.

In place of Trio's, which wraps each connection into a stream that nobody here uses: three system calls and two layers
of tasks less, a sixth of what a connection that carries one request costs.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

import trio

from gateway.logs import get_logger
from gateway.wire.sockets import BACKLOG

Attend = Callable[[socket.socket, str], Awaitable[None]]
"""Serves a connection that does not block, from the client's address, and closes it."""

_IN_A_ROW: Final = 64
"""Accepted between two looks at the connections that are there: a few milliseconds of work for them."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_ROOM_S: Final = 0.1
"""How long to wait then: somebody has to leave first."""
_OURS: Final = frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP})
"""What would be a defect of ours. Anything else is about the one connection that was to be accepted: accept(2) passes
on the network's errors."""

_log = get_logger(__name__)


async def accept_from(listener: socket.socket, nursery: trio.Nursery, attend: Attend) -> NoReturn:
    """Accept until cancelled, then all who wait, and close the listener. Each connection is a task in `nursery`.

    `listener` listens; connections inherit its options.
    """
    listener.settimeout(0)
    try:
        while True:
            await trio.lowlevel.wait_readable(listener)
            if not _accept_some(listener, nursery, attend):
                await trio.sleep(_NO_ROOM_S)
    except trio.Cancelled:
        for _ in range(BACKLOG // _IN_A_ROW):  # whom the kernel has taken in by now would see a reset
            _accept_some(listener, nursery, attend)
        raise
    finally:
        trio.lowlevel.notify_closing(listener)
        listener.close()


def _accept_some(listener: socket.socket, nursery: trio.Nursery, attend: Attend) -> bool:
    """What waits to be accepted; False when there is no room for more."""
    for _ in range(_IN_A_ROW):
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno in _OURS:
                raise
            if error.errno in _NO_ROOM:
                _log.error("cannot_accept", reason=os.strerror(error.errno or 0))
                return False
            continue
        sock.settimeout(0)
        nursery.start_soon(attend, sock, _host(address))
    return True


def _host(address: Any) -> str:
    return str(address[0])
