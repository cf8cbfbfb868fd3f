"""Ports on loopback for servers that want to be told theirs: one, or a block of several in a row.

Between the choice and the server's start nobody else may take a port. So all of them lie below what kernels hand out by
themselves, and each belongs to a block that is held by a UDP socket on its first port: the kernel gives that to one
process only and takes it back when the process ends, however it ends. The servers themselves speak TCP, so the holder
is not in their way.
"""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import cycle, islice
from typing import Final

BLOCK: Final = 10
"""Ports in a block."""
_FIRST: Final = 20_000
_STOP: Final = 32_000
_SHARE: Final = 100  # a guess: more than one process ever starts servers at a time
_SHARES: Final = range(10_000, _FIRST, _SHARE)


def free_port() -> int:
    """A port on which nothing listens, of this process's own: a hundred calls later it may be named again.

    Raises OSError when there is none.
    """
    found = next(filter(_is_free, islice(_own_ports(os.getpid()), _SHARE)), None)
    if found is None:
        raise OSError("somebody listens on every port of this process")
    return found


@contextmanager
def port_block() -> Iterator[int]:
    """The first of `BLOCK` ports in a row on which nothing listens; they are ours while inside. Raises OSError."""
    for first in _shuffled(range(_FIRST, _STOP, BLOCK)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            try:
                holder.bind(("127.0.0.1", first))
            except OSError:
                continue
            if all(map(_is_free, range(first, first + BLOCK))):
                yield first
                return
    raise OSError(f"no {BLOCK} ports in a row are free between {_FIRST} and {_STOP}")


@cache
def _own_ports(_process_id: int) -> Iterator[int]:
    """The share of this process, over and over. Who is forked takes a share of its own."""
    for first in _shuffled(_SHARES):
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            holder.bind(("127.0.0.1", first))
        except OSError:
            holder.close()
            continue
        holder.detach()  # held until the process ends
        return cycle(range(first, first + _SHARE))
    raise OSError(f"each of {len(_SHARES)} shares of ports belongs to another process")


def _shuffled(ports: range) -> list[int]:
    """In an order that is not seeded: processes with the same seed would meet each time."""
    return random.SystemRandom().sample(ports, len(ports))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what lingers from a closed one is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
