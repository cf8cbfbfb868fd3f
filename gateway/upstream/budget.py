"""What an upstream lets us pull, and what is left of it. Knows headers and numbers; no sockets and no rows.

Docker Hub counts manifest GETs, for each account or, without one, for the address we come from, and says so in
`ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`, on HEAD as well, which is free. Any registry may
say `Retry-After` with 429. Both are kept, so that nothing is asked in vain and a reserve stays for what nobody has.
What is said to a manifest does not hold for blobs, which nobody counts; what is said to a blob holds for everything.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final

from gateway.upstream.answers import BudgetState

Headers = Sequence[tuple[str, str]]

WINDOW_S: Final = 60
"""How long a count is believed whose window the upstream does not name."""
RETRY_S: Final = 10
"""After a 429 that does not say when to come again."""
LONGEST_RETRY_S: Final = 3600
"""An upstream that wants more is asked earlier: a wrong clock or a typing error would switch it off for days."""
OLD_AFTER_S: Final = 60.0
"""When a count that forbids pulls is worth a look whether it still does; windows slide, and others spend too."""

_LIMIT: Final = re.compile(r"\s*(\d{1,9})\s*(?:;\s*w=(\d{1,7}))?\s*(?:[,;].*)?")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What an answer said of a budget."""

    allowed: int | None
    remaining: int
    window_s: int


def read_rate_limit(headers: Headers) -> RateLimit | None:
    """From the fields of an answer (names in lower case); None where they do not say what is left."""
    remaining, window_s = _limit(headers, "ratelimit-remaining")
    allowed, other_window_s = _limit(headers, "ratelimit-limit")
    return None if remaining is None else RateLimit(allowed, remaining, window_s or other_window_s or WINDOW_S)


def _limit(headers: Headers, name: str) -> tuple[int | None, int | None]:
    value = next((value for each, value in headers if each == name), "")
    found = _LIMIT.fullmatch(value)
    if found is None:
        return None, None
    return int(found[1]), int(found[2]) if found[2] else None


def read_retry_after(headers: Headers, *, now: float) -> int | None:
    """The whole seconds that `Retry-After` asks for (a number or a date), 1 to `LONGEST_RETRY_S`; None if it does not.

    `now`: Unix seconds.
    """
    value = next((value.strip() for each, value in headers if each == "retry-after"), "")
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(1, min(math.ceil(seconds), LONGEST_RETRY_S))


class Budget:
    """Of one credential (or none) at one address. Changed between awaits only, by any task.

    `changed` is called when there is something new to be kept. `clock`: Unix seconds.
    """

    def __init__(self, state: BudgetState, *, clock: Callable[[], float], changed: Callable[["Budget"], None]) -> None:
        self._state = state
        self._clock = clock
        self._changed = changed
        self._asking = 0
        self._blobs_at = 0.0  # not kept: after a restart one blob is asked for too early

    @property
    def state(self) -> BudgetState:
        """What is known, as it was heard."""
        return self._state

    def left(self) -> float:
        """Counted pulls that may still be made, those under way taken off; infinite as long as nothing limits them."""
        state = self._state
        if state.remaining is None or state.observed_at is None or state.window_s is None:
            return math.inf
        # A clock that was set back makes an old count look new; it is believed for no longer than its window anyhow.
        if abs(self._clock() - state.observed_at) >= state.window_s:
            return math.inf if state.allowed is None else state.allowed - self._asking
        return state.remaining - self._asking

    def wait_s(self) -> float:
        """For how long the upstream wants no questions; 0 if it takes them."""
        return self._until(self._state.retry_at or 0)

    def blobs_wait_s(self) -> float:
        """For how long it wants no questions for blobs either; 0 if it takes them."""
        return self._until(self._blobs_at)

    def _until(self, at: float) -> float:
        wait_s = at - self._clock()
        return wait_s if 0 < wait_s <= LONGEST_RETRY_S else 0.0

    def renews_s(self) -> float:
        """When at the latest there is more again; 0 if nothing limits it."""
        state = self._state
        if state.observed_at is None or state.window_s is None:
            return 0.0
        return max(0.0, state.observed_at + state.window_s - self._clock())

    def is_old(self) -> bool:
        """Whether the count may have changed since: then a free question is worth it."""
        observed_at = self._state.observed_at
        return observed_at is not None and abs(self._clock() - observed_at) >= OLD_AFTER_S

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Make a counted pull within it: until it is answered, it counts as spent."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    def heard(self, headers: Headers) -> None:
        """Take what an answer says of the budget, if it does."""
        limit = read_rate_limit(headers)
        if limit is not None:
            self._put(
                replace(
                    self._state,
                    allowed=limit.allowed,
                    remaining=limit.remaining,
                    window_s=limit.window_s,
                    observed_at=int(self._clock()),
                )
            )

    def refused(self, headers: Headers, *, is_of_blob: bool = False) -> int:
        """The upstream said 429: ask nothing for so many seconds, which are given back.

        Blobs are asked for nevertheless, unless it was one that was refused (`is_of_blob`) and a time was named: who
        gives too many bodies at once refuses some without one, and takes the next as soon as another has ended.
        """
        now = self._clock()
        named_s = read_retry_after(headers, now=now)
        wait_s = named_s or RETRY_S
        if is_of_blob and named_s is not None:
            self._blobs_at = now + named_s
        heard_at = self._state.observed_at or int(now)
        self._put(replace(self._state, observed_at=heard_at, retry_at=math.ceil(now + wait_s)))
        return wait_s

    def _put(self, state: BudgetState) -> None:
        self._state = state
        self._changed(self)
