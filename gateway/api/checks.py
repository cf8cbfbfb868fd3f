"""Can this worker serve? One small question to the database and to each storage, asked at most once a second."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from gateway.logs import get_logger
from storage import BlobStore, Content, Database, StorageError

_CHECK_S: Final = 5.0  # waiting longer for a thread or a lock, it would serve nobody either
_KEPT_S: Final = 1.0  # strangers may ask: however often they do, the disk is asked once a second
_log = get_logger(__name__)


@dataclass(slots=True)
class Checks:
    """The last look. One per worker."""

    _looking: trio.Lock = field(default_factory=trio.Lock)
    _until: float = float("-inf")
    _seen: Mapping[str, bool] = field(default_factory=dict)

    async def look(self, database: Database, content: Content) -> Mapping[str, bool]:
        """Whether each part can be used: `database`, and `storage/NAME` for each. Details are logged, never raised."""
        async with self._looking:  # held while asking, so that a crowd waits for one answer instead of asking again
            if trio.current_time() >= self._until:
                self._seen = await _ask(database, content)
                self._until = trio.current_time() + _KEPT_S
            return self._seen


async def _ask(database: Database, content: Content) -> Mapping[str, bool]:
    seen = {"database": await _passes("database", database.check)}
    for storage_id, name in sorted(content.storage_names().items(), key=lambda item: item[1]):
        part = f"storage/{name}"
        seen[part] = await _passes(part, partial(_is_there, content.store(storage_id)))
    return seen


async def _is_there(store: BlobStore) -> None:
    """Raises `Unavailable` unless the store can say what is being uploaded: a disk that is not mounted cannot."""
    async with store.scan_staging() as areas:
        await anext(areas, None)


async def _passes(part: str, check: Callable[[], Awaitable[None]]) -> bool:
    try:
        with trio.fail_after(_CHECK_S):
            await check()
    except (StorageError, trio.TooSlowError) as error:
        _log.error("health_check_failed", part=part, error=str(error))
        return False
    return True
