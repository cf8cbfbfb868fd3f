"""What is fetched ahead because somebody pulled an index: its images for the platforms that the settings name.

Whoever pulled does not wait for it. It goes the way of a pull, so what clients want at that moment is fetched once.
"""

from collections.abc import Sequence
from typing import Final

import trio

from gateway.logs import get_logger
from gateway.oci import media_types
from gateway.oci.errors import RegistryError
from gateway.repositories.contract import Repository
from gateway.repositories.turns import Turns
from gateway.repositories.warming import Warming
from gateway.upstream.errors import UpstreamBusy, UpstreamError
from storage import Document, Pool, StorageError

_AT_ONCE: Final = 2
_MOST_WAITING: Final = 100
"""Indexes in a row whose images are to come; more were pulled than can be fetched, and clients fetch what they need."""
_log = get_logger(__name__)


class Prefetching:
    """One per process."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._pool = Pool("prefetch-parse", 1)

    def begin(
        self, turns: Turns, repository: Repository, image: str, document: Document, *, platforms: Sequence[str]
    ) -> None:
        """Begin to fetch what the document names for these platforms, if it is an index; waits for nothing."""
        if not platforms or not media_types.is_index_type(document.media_type):
            return
        if self._limiter.statistics().tasks_waiting >= _MOST_WAITING:
            _log.warning("too_much_to_prefetch", image=image, digest=str(document.digest))
            return

        async def work() -> None:
            async with self._limiter:
                warming = Warming(
                    repository, image, platforms=platforms, pool=self._pool, heard=lambda _fetched_bytes: None
                )
                try:
                    await warming.run(document.digest)
                except* (RegistryError, UpstreamError, StorageError) as group:
                    reasons = sorted({str(each) for each in group.exceptions})[:3]
                    _log.warning("not_prefetched", image=image, digest=str(document.digest), reasons=reasons)

        key = ("prefetch", repository.record.id, image, document.digest)
        try:
            turns.begin(key, work, whose=repository.record.id)
        except UpstreamBusy as error:  # whoever pulled the index has it; they need not hear of this
            _log.warning("not_prefetched", image=image, digest=str(document.digest), reasons=[str(error)])
