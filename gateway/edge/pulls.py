"""Where every pull is noted: the one call that the application and the memo of its answers both make.

What has to happen at each pull (statistics, times of last pull, limits, metrics) belongs behind `Pulls.note` and
nowhere else, so that it cannot happen on one way and be forgotten on the other. It must not wait and not fail.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from storage import Digest


class Kind(StrEnum):
    """What was pulled."""

    MANIFEST = "manifest"
    BLOB = "blob"


class Way(StrEnum):
    """Who gives the bytes: the application, the memo of its answers, or the store that the client was sent to."""

    APPLICATION = "application"
    LANE = "lane"
    REDIRECT = "redirect"


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was given to whom. `account_id` is None for anonymous callers, `reference_text` as the client wrote it."""

    kind: Kind
    repository_id: int
    image: str
    reference_text: str
    digest: Digest
    account_id: int | None


class Pulls:
    """One per process; on the event loop only."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Kind, Way]] = Counter()

    def note(self, pulled: Pulled, *, way: Way) -> None:
        """A GET or HEAD was admitted and is being answered with 200, 206, 304 or 307."""
        self._counts[pulled.kind, way] += 1

    def statistics(self) -> Mapping[tuple[Kind, Way], int]:
        """How many pulls were noted since the start, by kind and way."""
        return dict(self._counts)
