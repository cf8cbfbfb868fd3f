"""How many cores this process may use: what it is bound to, and what its control groups leave it of that. Linux only.

Knows no processes. A container with two of 64 cores must not start 64 workers.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUP: Final = Path("/proc/self/cgroup")


def usable_cores(*, groups: Path = _GROUPS, own_group: Path = _OWN_GROUP) -> int:
    """At least 1. A share of a core counts as a whole one. Reads a few small files; for the start."""
    bound = len(os.sched_getaffinity(0))
    return min((math.ceil(share) for share in _shares(groups, own_group) if share < bound), default=bound)


def _shares(groups: Path, own_group: Path) -> Iterator[float]:
    """The quota of each control group that this process is in, in cores; both versions of the kernel's interface."""
    for line in _read(own_group).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not number.isdecimal() or (controllers and "cpu" not in controllers.split(",")):
            continue
        top = groups / controllers if controllers else groups
        place = top / name.lstrip("/")
        for group in (place, *place.parents):
            if controllers:
                yield from _share(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))
            else:
                quota, _, period = _read(group / "cpu.max").partition(" ")
                yield from _share(quota, period)
            if group == top:
                break


def _share(quota: str, period: str) -> Iterator[float]:
    """Nothing where there is no quota (`max` or -1) or it cannot be read."""
    try:
        limit, of = float(quota), float(period)
    except ValueError:
        return
    if limit > 0 and of > 0:
        yield limit / of


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
