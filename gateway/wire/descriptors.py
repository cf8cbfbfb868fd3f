"""How many connections the process has file descriptors for. Knows no server and no settings."""

import resource
from typing import Final

_RESERVED: Final = 256
"""Database, stores, listeners, logs and threads; a guess, far above what is seen."""
_PER_CONNECTION: Final = 2
"""The socket, and the file that it reads or writes."""
_KEPT_SHARE: Final = 8
"""Connections need descriptors more than files that are only kept for speed."""


def raise_limit() -> int:
    """Lift this process's soft limit of open files to the hard one; the limit that holds now, -1 for none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # some systems refuse an endless limit; what there is will do
        return soft
    return hard


def connections_within(limit: int, *, wanted: int, kept: int = 0) -> int:
    """At most `wanted` connections, as many as `limit` descriptors (-1: endless) bear, and never less than one.

    `kept` descriptors are for files that stay open, whoever is connected.
    """
    if limit == resource.RLIM_INFINITY:
        return wanted
    return max(min(wanted, (limit - kept - _RESERVED) // _PER_CONNECTION), 1)


def files_within(limit: int, *, wanted: int) -> int:
    """At most `wanted` files to keep open, and an eighth of `limit` descriptors (-1: endless)."""
    return wanted if limit == resource.RLIM_INFINITY else min(wanted, limit // _KEPT_SHARE)
