"""Ports on loopback for servers that want to be told one."""

import os
import socket
from typing import Final

_FIRST: Final = 15_000
_STOP: Final = 20_000
_SPREAD: Final = 200
"""Where the search begins depends on the process, so that two suites seldom meet."""


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nothing listens on just now, below what the kernel gives away."""
    for first in range(_FIRST + os.getpid() % _SPREAD * count, _STOP - count, count):
        if all(map(_is_free, range(first, first + count))):
            return first
    raise OSError(f"no {count} ports in a row are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what lingers from a closed one is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
