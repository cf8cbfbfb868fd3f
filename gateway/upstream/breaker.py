"""When an upstream's address is in trouble it is left alone for a while, and everybody is told so at once.

Rules. Troubles are what a retry may help against (`UpstreamFailed`, `UpstreamSlow`); any answer, a refusal too, ends
their row. Cancellation says nothing of the upstream. What only people can mend (`CredentialsRejected`,
`UpstreamRefused`) is noted for them, and ends a row as any answer does.

| state     | asking                      | goes over to                                                          |
|-----------|-----------------------------|-----------------------------------------------------------------------|
| closed    | everybody may               | open, at the fifth trouble in a row that are within 30 s              |
| open      | fails at once               | half open, 10 s after the last trouble                                |
| half open | one may, others fail at once| closed, if the one gets an answer; else open; as it was, if cancelled |
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Final

from gateway.upstream.answers import AddressStatus, BreakerState
from gateway.upstream.errors import CredentialsRejected, UpstreamError, UpstreamFailed, UpstreamRefused, UpstreamSlow

TROUBLES: Final = 5
WITHIN_S: Final = 30.0
REST_S: Final = 10.0
"""All three are guesses: long enough that one lost packet opens nothing, short enough that nobody waits for them."""


class Breaker:
    """For one address. `clock`: seconds that never go back; `wall_clock`: Unix seconds, for people."""

    def __init__(self, url: str, *, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self.url = url
        self._clock = clock
        self._wall_clock = wall_clock
        self._troubles_at: deque[float] = deque(maxlen=TROUBLES)
        self._troubles = 0
        self._opened_at: float | None = None
        self._is_probed = False
        self._last: str | None = None
        self._last_at: float | None = None

    @property
    def state(self) -> BreakerState:
        """What it is just now."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._opened_at + REST_S else BreakerState.HALF_OPEN

    @property
    def is_troubled(self) -> bool:
        """Whether the last question was in vain."""
        return self._troubles > 0

    def status(self) -> AddressStatus:
        """A snapshot; the last trouble is kept after it is over."""
        return AddressStatus(self.url, self.state, self._troubles, self._last, self._last_at)

    @contextmanager
    def question(self) -> Iterator[None]:
        """Ask within it. Raises `UpstreamFailed` (with the time to wait) instead where the address rests."""
        probes = self._admit()
        try:
            yield
        except (CredentialsRejected, UpstreamRefused) as error:
            self._note(error)
            self._answered()
            raise
        except (UpstreamFailed, UpstreamSlow) as error:
            self._in_vain(error)
            raise
        except UpstreamError:
            self._answered()
            raise
        else:
            self._answered()
        finally:
            if probes:
                self._is_probed = False

    def _admit(self) -> bool:
        """Whether this one is the probe."""
        if self._opened_at is None:
            return False
        rest_s = self._opened_at + REST_S - self._clock()
        if rest_s > 0 or self._is_probed:
            raise UpstreamFailed(
                f"{self.url} is not asked for a while after {self._troubles} troubles in a row, the last: {self._last}",
                retry_after_s=max(1, ceil(rest_s)),
            )
        self._is_probed = True
        return True

    def _answered(self) -> None:
        self._troubles = 0
        self._troubles_at.clear()
        self._opened_at = None

    def _note(self, error: UpstreamError) -> None:
        """For whoever looks at the upstream: what is wrong with it, or with what we have of it."""
        self._last, self._last_at = str(error), self._wall_clock()

    def _in_vain(self, error: UpstreamError) -> None:
        now = self._clock()
        self._note(error)
        self._troubles += 1
        self._troubles_at.append(now)
        row = len(self._troubles_at) == TROUBLES and now - self._troubles_at[0] <= WITHIN_S
        if row or self._opened_at is not None:
            self._opened_at = now
