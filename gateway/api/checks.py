"""Can this worker serve? One small question to the database and to each storage, asked at most once a second.

Services that are paid by the request, and that all replicas ask, are asked every ten seconds.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from gateway.logs import get_logger
from storage import BlobStore, Content, Database, StorageError

_CHECK_S: Final = 5.0  # waiting longer for a thread or a lock, it would serve nobody either
_KEPT_S: Final = 1.0  # strangers may ask: however often they do, the disk is asked once a second
_SERVICE_KEPT_S: Final = 10.0
_log = get_logger(__name__)

Check = Callable[[], Awaitable[None]]
"""Raises a storage error where something cannot be used."""


@dataclass(slots=True)
class Checks:
    """The last look. One per worker. `services`: how storages are asked that are services, by their names."""

    services: Mapping[str, Check] = field(default_factory=dict)
    _looking: trio.Lock = field(default_factory=trio.Lock)
    _until: dict[str, float] = field(default_factory=dict)
    _seen: dict[str, bool] = field(default_factory=dict)

    async def look(self, database: Database, content: Content) -> Mapping[str, bool]:
        """Whether each part can be used: `database`, and `storage/NAME` for each. Details are logged, never raised."""
        async with self._looking:  # held while asking, so that a crowd waits for one answer instead of asking again
            begun = trio.current_time()
            asked = {}
            for part, (check, kept_s) in self._parts(database, content).items():
                if begun >= self._until.get(part, float("-inf")):
                    self._seen[part] = await _passes(part, check)
                    asked[part] = kept_s
            ended = trio.current_time()
            self._until |= {part: ended + kept_s for part, kept_s in asked.items()}
            return dict(self._seen)

    def _parts(self, database: Database, content: Content) -> dict[str, tuple[Check, float]]:
        """What there is to ask, how, and for how many seconds its answer is good."""
        parts: dict[str, tuple[Check, float]] = {"database": (database.check, _KEPT_S)}
        for storage_id, name in sorted(content.storage_names().items(), key=lambda item: item[1]):
            service = self.services.get(name)
            parts[f"storage/{name}"] = (
                (partial(_is_there, content.store(storage_id)), _KEPT_S)
                if service is None
                else (service, _SERVICE_KEPT_S)
            )
        return parts


async def _is_there(store: BlobStore) -> None:
    """Raises `Unavailable` unless the store can say what is being uploaded: a disk that is not mounted cannot."""
    async with store.scan_staging() as areas:
        await anext(areas, None)


async def _passes(part: str, check: Check) -> bool:
    try:
        with trio.fail_after(_CHECK_S):
            await check()
    except (StorageError, trio.TooSlowError) as error:
        _log.error("health_check_failed", part=part, error=str(error))
        return False
    return True
