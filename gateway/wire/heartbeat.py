"""Signs of life: a worker that hangs without dying is found out. One shared byte per worker, counted up by its loop.

A worker whose loop is blocked, or that was stopped by a signal, does not count any more. The supervisor looks at the
bytes from time to time and adds up how long each has stood still. Only time in which the supervisor itself ran counts:
a machine that was suspended, a container that was paused, and one that hardly gets on make nobody look dead. No clock
is compared between processes. Knows no signals and no processes.
"""

import mmap
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

SILENCE_S: Final = 60.0
"""After this a worker counts as hung. Its loop turns every few milliseconds; what may hold it for longer is a disk that
does not answer, and swapping. Its clients wait that long at most, and would otherwise wait for ever."""
_LOOKS: Final = 10
"""Per silence. The bytes are counted up twice as often."""
_VALUES: Final = 256


class Heartbeats:
    """See the module docstring. Made before the workers are forked; each side uses its own half of it."""

    def __init__(
        self, workers: int, *, silence_s: float = SILENCE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._beats = mmap.mmap(-1, workers)
        self._silence_s = silence_s
        self._clock = clock
        self._seen = bytes(workers)
        self._silent_s = [0.0] * workers
        self._looked_at = clock()

    @property
    def interval_s(self) -> float:
        """Between two looks."""
        return self._silence_s / _LOOKS

    @asynccontextmanager
    async def beating(self, number: int) -> AsyncIterator[None]:
        """In a worker: count as long as the loop turns. Enter it first, so that a start that hangs is noticed, too."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat, number)
            yield
            nursery.cancel_scope.cancel()

    async def _beat(self, number: int) -> None:
        while True:
            self._beats[number] = (self._beats[number] + 1) % _VALUES
            await trio.sleep(self.interval_s / 2)

    def forget(self, number: int) -> None:
        """In the supervisor: a new process has this number now."""
        self._silent_s[number] = 0.0

    def due_in_s(self) -> float:
        """In the supervisor: when to look again; 0 or less: now."""
        return self._looked_at + self.interval_s - self._clock()

    def look(self) -> Sequence[int]:
        """In the supervisor: the numbers of the workers that have been silent for too long. Call it when it is due."""
        now = self._clock()
        passed_s = min(now - self._looked_at, 2 * self.interval_s)  # more, and we did not run ourselves
        self._looked_at = now
        beats = self._beats[:]
        for number, (before, after) in enumerate(zip(self._seen, beats, strict=True)):
            self._silent_s[number] = self._silent_s[number] + passed_s if before == after else 0.0
        self._seen = beats
        return [number for number, silent_s in enumerate(self._silent_s) if silent_s >= self._silence_s]
