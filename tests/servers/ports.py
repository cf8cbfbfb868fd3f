"""Blocks of loopback ports that nobody else takes, for servers that want several in a row or have to be told theirs.

A block is held by a UDP socket on its first port: the kernel gives that to one process only and takes it back when the
process ends, however it ends. The servers themselves speak TCP, so the holder is not in their way.
"""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FIRST: Final = 20_000
_STOP: Final = 32_000  # below what kernels hand out by themselves
_SIZE: Final = 10


@contextmanager
def port_block() -> Iterator[int]:
    """The first of ten ports in a row on which nothing listens; they are ours until the block ends."""
    blocks = list(range(_FIRST, _STOP, _SIZE))
    random.SystemRandom().shuffle(blocks)  # not the test's seed: workers with the same seed would meet each time
    for first in blocks:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            try:
                holder.bind(("127.0.0.1", first))
            except OSError:
                continue
            if all(map(_is_free, range(first, first + _SIZE))):
                yield first
                return
    raise AssertionError(f"no {_SIZE} ports in a row are free between {_FIRST} and {_STOP}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what lingers from a closed one is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
