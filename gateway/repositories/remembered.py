"""What is kept in memory for a while of what upstreams said: that something is unknown, lists of tags, referrers.

Bounded by what the entries weigh; the least recently used go first. Lost with the process, and then asked again.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Memory(Generic[V]):
    """Something that was said, and for how many seconds ago."""

    value: V
    age_s: float


class Remembered(Generic[K, V]):
    """One per kind of thing and process; on the event loop only. When `clock` goes back, what it came from is lost."""

    def __init__(self, *, weight: int, clock: Callable[[], float]) -> None:
        """`weight` is what all entries may weigh together."""
        self._limit = weight
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, float, int]] = OrderedDict()
        self._weight = 0

    def put(self, key: K, value: V, *, weight: int = 1) -> None:
        """Keep it from now on; what weighs more than all may is not kept."""
        self.forget(key)
        if weight > self._limit:
            return
        self._entries[key] = (value, self._clock(), weight)
        self._weight += weight
        while self._weight > self._limit:
            self.forget(next(iter(self._entries)))

    def find(self, key: K) -> Memory[V] | None:
        """What was kept, however old it is."""
        found = self._entries.get(key)
        if found is None:
            return None
        value, at, _ = found
        age_s = self._clock() - at
        if age_s < 0:
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return Memory(value, age_s)

    def forget(self, key: K) -> None:
        """Keep nothing of it; unknown keys are fine."""
        found = self._entries.pop(key, None)
        if found is not None:
            self._weight -= found[2]

    def __len__(self) -> int:
        return len(self._entries)
