"""Ports on loopback for servers that want to be told theirs: one, or a block of several in a row.

A block is held by a UDP socket on its first port: the kernel gives that to one process only and takes it back when the
process ends, however it ends. The servers themselves speak TCP, so the holder is not in their way.
"""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BLOCK: Final = 10
"""Ports in a block."""
_FIRST: Final = 20_000
_STOP: Final = 32_000  # below what kernels hand out by themselves


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def port_block() -> Iterator[int]:
    """The first of `BLOCK` ports in a row on which nothing listens; they are ours while inside. Raises OSError."""
    blocks = list(range(_FIRST, _STOP, BLOCK))
    random.SystemRandom().shuffle(blocks)  # not a seeded one: processes with the same seed would meet each time
    for first in blocks:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            try:
                holder.bind(("127.0.0.1", first))
            except OSError:
                continue
            if all(map(_is_free, range(first, first + BLOCK))):
                yield first
                return
    raise OSError(f"no {BLOCK} ports in a row are free between {_FIRST} and {_STOP}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what lingers from a closed one is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
