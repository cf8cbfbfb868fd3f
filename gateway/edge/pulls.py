"""Where every pull is noted: the one call that the application and the memo of its answers both make.

What has to happen at each pull (statistics, times of last pull, limits, metrics) belongs behind `Pulls.note` and
nowhere else, so that it cannot happen on one way and be forgotten on the other. It must not wait and not fail.

When a manifest was last pulled is collected and written by `Pulls.flush`: caches give up first what was not.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from storage import Database, Digest
from storage.metadata import pulls

MAX_TIMES: Final = 10_000
"""Manifests whose pulls wait to be written; about 3 MiB. More of them within one flush interval are not noted."""
# Rows per transaction: some milliseconds of the one write lock.
_BATCH: Final = 100


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
    """What was given to whom. `account_id` is None for anonymous callers, `reference_text` as the client wrote it.

    `image_id`: the image that it was found in, which may be a member's; None: it is in none yet.
    """

    kind: Kind
    repository_id: int
    image: str
    reference_text: str
    digest: Digest
    account_id: int | None
    image_id: int | None = None


class Pulls:
    """One per process; on the event loop only."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._counts: Counter[tuple[Kind, Way]] = Counter()
        self._times: dict[tuple[int, Digest], int] = {}

    def note(self, pulled: Pulled, *, way: Way) -> None:
        """A GET or HEAD was admitted and is being answered with 200, 206, 304 or 307."""
        self._counts[pulled.kind, way] += 1
        if pulled.image_id is not None and pulled.kind is Kind.MANIFEST:
            key = pulled.image_id, pulled.digest
            if len(self._times) < MAX_TIMES or key in self._times:
                self._times[key] = int(self._clock())

    async def flush(self, database: Database) -> None:
        """Write down when manifests were pulled; for a job, every minute, and once more at the end.

        Raises `StorageError`; what was not written then, or when it was cancelled, is written the next time.
        """
        waiting = list(self._times.items())
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            await database.transaction(pulls.note, [(image_id, digest, at) for (image_id, digest), at in batch])
            for key, at in batch:
                if self._times.get(key) == at:
                    del self._times[key]

    def statistics(self) -> Mapping[tuple[Kind, Way], int]:
        """How many pulls were noted since the start, by kind and way."""
        return dict(self._counts)
