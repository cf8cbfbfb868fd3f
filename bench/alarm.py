"""Wakes a Trio task at a moment to some ten microseconds, for arrivals of open-loop load. Linux.

Trio's own timers wake it to the millisecond (epoll_wait counts in those), which is more than a fast server needs for an
answer and would be charged to it. A timer descriptor (timerfd_create(2)) becomes readable when it is time.
Python has them from 3.13 on; this goes to the C library.
"""

import ctypes
import os
from time import perf_counter_ns
from typing import Final, Self

import trio

_CLOCK_MONOTONIC: Final = 1  # also what perf_counter_ns reads on Linux
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_NS_PER_S: Final = 1_000_000_000


class _When(ctypes.Structure):
    """`struct itimerspec`: the interval, which stays zero, and the moment."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Alarm:
    """One timer. `with Alarm() as alarm:`; used by one task at a time."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _failure()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    async def wait_until(self, at_ns: int) -> None:
        """Wait until this moment of `time.perf_counter_ns`; a moment that has passed costs a checkpoint only."""
        if at_ns <= perf_counter_ns():
            await trio.lowlevel.checkpoint()
            return
        when = _When(0, 0, *divmod(at_ns, _NS_PER_S))
        if self._library.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(when), None) < 0:
            raise _failure()
        await trio.lowlevel.wait_readable(self._descriptor)
        os.read(self._descriptor, 8)


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
