"""Caches emptied by hand: a tag, an image or all of a proxy. What is cleared is fetched anew with the next pull.

Works on rows alone, in small transactions, as `storage.eviction` does for what is too much; bytes are freed by the next
sweeps. Nothing is told to the upstream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.upstream.naming import upstream_name
from gateway.upstream.settings import upstream_of
from storage import Database, RepositoryRecord, Transaction
from storage.metadata import images, pulls, tags, upstreams
from storage.metadata.pulls import EVER

_LOOK: Final = 500
_BATCH: Final = 5  # manifests per transaction: pushes and pulls wait for a moment at most


@dataclass(slots=True)
class Cleared:
    """What one call took away. `freed_bytes` is what this repository does not hold any more."""

    tags: int = 0
    manifests: int = 0
    freed_bytes: int = 0


def stored_name(record: RepositoryRecord, image: str) -> str:
    """The name under which the cache keeps the image: as the upstream has it."""
    settings = upstream_of(record.settings)
    return image if settings is None else upstream_name(settings.urls, image)


async def clear_tag(database: Database, record: RepositoryRecord, image: str, tag: str) -> Cleared:
    """Forget what the tag points at, so that the next pull asks the upstream; the manifest stays by its digest."""

    def forget(tx: Transaction) -> Cleared:
        found = images.find(tx, record.id, stored_name(record, image))
        if found is None:
            return Cleared()
        upstreams.forget_check(tx, found.id, tag)
        return Cleared(tags=int(tags.delete(tx, found.id, tag)))

    return await database.transaction(forget)


async def clear(database: Database, record: RepositoryRecord, cleared: Cleared, *, image: str | None = None) -> None:
    """Take everything out of the cache, or everything of one image, and count it in `cleared` as it goes.

    May be cancelled at any time: what is gone by then is counted, and the next call goes on.
    """
    name = None if image is None else stored_name(record, image)
    before = -1
    while cleared.manifests != before:  # several times over: what an index leaves behind may be next
        before = cleared.manifests
        await _clear_manifests(database, record.id, cleared, name)
    await _clear_links(database, record.id, cleared, name)


async def _clear_manifests(database: Database, repository_id: int, cleared: Cleared, name: str | None) -> None:
    after: tuple[int, int] | None = pulls.FIRST
    while after is not None:
        page = await database.survey(pulls.coldest, repository_id, after=after, limit=_LOOK)
        going = [each.manifest_id for each in page if name in {None, each.image}]
        for start in range(0, len(going), _BATCH):
            freed = await database.transaction(_evict, going[start : start + _BATCH])
            cleared.manifests += len(freed)
            cleared.freed_bytes += sum(freed)
        after = (page[-1].used_at, page[-1].manifest_id) if len(page) == _LOOK else None


def _evict(tx: Transaction, manifest_ids: Sequence[int]) -> list[int]:
    freed = (pulls.evict(tx, each) for each in manifest_ids)
    return [each for each in freed if each is not None]


async def _clear_links(database: Database, repository_id: int, cleared: Cleared, name: str | None) -> None:
    """Blobs that were asked for by themselves; of one image as far as they are among the first ones found."""
    wanted = None
    if name is not None:
        found = await database.read(images.find, repository_id, name)
        if found is None:
            return
        wanted = found.id
    while page := await database.survey(pulls.loose, repository_id, linked_by=EVER, limit=_LOOK):
        going = [each for each in page if wanted in {None, each[0]}]
        for start in range(0, len(going), _BATCH):
            cleared.freed_bytes += await database.transaction(
                pulls.unlink, going[start : start + _BATCH], linked_by=EVER
            )
        if not going or len(page) < _LOOK:
            return
