"""Lists of repositories with an upstream: tags and referrers, remembered for a while, and what is given in trouble.

A list that was got lately is believed as long as a tag is, an empty one as briefly as a "not found". When the upstream
is in trouble, the last list that is known is given, however old; else what was kept here. For want of both the trouble
is raised: an empty list would say that there is nothing.
"""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Container, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import merge
from itertools import islice
from typing import Final, TypeVar

from gateway.oci.referrers import Referrer
from gateway.repositories import rows
from gateway.repositories.contract import ReferrersPage, TagPage
from gateway.repositories.pulling import Pulling
from gateway.repositories.remembered import Memory
from gateway.upstream.answers import TagListing
from gateway.upstream.errors import UpstreamDenied, UpstreamError, UpstreamUnknown
from storage import Digest, Transaction
from storage.metadata import images, manifests, tags

T = TypeVar("T")

_EMPTY = TagListing((), is_complete=True)
_OLD_REFERRERS: Final = "the upstream registry cannot be asked for referrers: this is what it said before"
_OWN_REFERRERS: Final = "the upstream registry cannot be asked for referrers: these were pulled from here"


@dataclass(frozen=True, slots=True)
class Listed:
    """The tags that the upstream has; `names` None: it has no such image. `warning` and `age_s` as in `TagPage`."""

    names: Sequence[str] | None
    warning: str | None = None
    age_s: int | None = None


@dataclass(frozen=True, slots=True)
class _Theirs:
    """The referrers that the upstream has, by digest; `warning` and `age_s` as in `ReferrersPage`."""

    listed: Sequence[Referrer] = ()
    warning: str | None = None
    age_s: int | None = None


class Listing:
    """For one repository; as cheap to make as that. `image` is always the name that its rows have."""

    def __init__(self, pulling: Pulling) -> None:
        self._pulling = pulling
        self._means = pulling.means

    # --- tags -------------------------------------------------------------------------------------------------------

    async def tags(self, image: str) -> Listed:
        """What the upstream lists; `UpstreamError` where it cannot be asked and nothing is remembered."""
        key = self._pulling.key("tags", image, "")
        known = self._means.listings.find(key)
        if known is None or known.age_s >= self._lifetime_s(len(known.value.names)):
            try:
                listing = await self._share(key, partial(self._ask_tags, key, image))
            except UpstreamError:
                if known is None:
                    raise
                return _stale(known)
            return _complete(listing)
        return _complete(known.value)

    async def own_tags(self, image: str, *, after: str, limit: int) -> list[str] | None:
        """A page of the tags that are here; None: the image is not."""

        def page(tx: Transaction) -> list[str] | None:
            found = images.find(tx, self._pulling.record.id, image)
            return tags.page(tx, found.id, after=after, limit=limit) if found else None

        return await self._means.database.survey(page)

    async def _ask_tags(self, key: Hashable, image: str) -> TagListing:
        try:
            listing = await (await self._pulling.upstream()).tags(image)
        except (UpstreamUnknown, UpstreamDenied):
            listing = _EMPTY
        self._means.listings.put(key, listing, weight=1 + len(listing.names))
        return listing

    # --- referrers --------------------------------------------------------------------------------------------------

    async def merged(
        self,
        image: str,
        subject: Digest,
        *,
        hidden: Container[str],
        artifact_type: str | None,
        after: str,
        limit: int,
        build: Callable[[Iterator[Referrer]], T],
    ) -> ReferrersPage[T]:
        """What `build` makes of the referrers there and here, but for the `hidden` digests (of theirs).

        As in `contract.Repository.referrers`; and as `tags` in trouble.
        """
        said = await self._theirs(image, subject)
        theirs = [
            each
            for each in said.listed
            if after < str(each.digest)
            and artifact_type in {None, each.artifact_type}
            and str(each.digest) not in hidden
        ]

        def page(tx: Transaction) -> T:
            own = self._own_referrers(tx, image, subject, artifact_type=artifact_type, after=after, limit=limit)
            return build(islice(_each_once(merge(own, theirs, key=_digest_text)), limit))

        return ReferrersPage(await self._means.database.survey(page), said.warning, said.age_s)

    async def _theirs(self, image: str, subject: Digest) -> _Theirs:
        if not self._pulling.may_ask(image):
            return _Theirs()
        try:
            return await self._referrers(image, subject)
        except UpstreamError:
            if await self._means.database.survey(self._has_own_referrers, image, subject):
                return _Theirs((), _OWN_REFERRERS, 0)
            raise

    async def _referrers(self, image: str, subject: Digest) -> _Theirs:
        """What refers to it there, by digest; the last list that is known, in trouble."""
        key = self._pulling.key("referrers", image, subject)
        known = self._means.referrers.find(key)
        if known is not None and known.age_s < self._lifetime_s(len(known.value)):
            return _Theirs(known.value)
        try:
            return _Theirs(await self._share(key, partial(self._ask_referrers, key, image, subject)))
        except UpstreamError:
            if known is None:
                raise
            return _Theirs(known.value, _OLD_REFERRERS, int(known.age_s))

    async def _ask_referrers(self, key: Hashable, image: str, subject: Digest) -> tuple[Referrer, ...]:
        try:
            found = await (await self._pulling.upstream()).referrers(image, subject)
        except (UpstreamUnknown, UpstreamDenied):
            found = []
        listed = tuple(sorted(found, key=_digest_text))
        self._means.referrers.put(key, listed, weight=1 + sum(map(_weight, listed)))
        return listed

    def _has_own_referrers(self, tx: Transaction, image: str, subject: Digest) -> bool:
        return next(self._own_referrers(tx, image, subject, artifact_type=None, after="", limit=1), None) is not None

    def _own_referrers(
        self, tx: Transaction, image: str, subject: Digest, *, artifact_type: str | None, after: str, limit: int
    ) -> Iterator[Referrer]:
        found = images.find(tx, self._pulling.record.id, image)
        if found is not None:
            listed = manifests.referrers(tx, found.id, subject, artifact_type=artifact_type, after=after, limit=limit)
            yield from map(rows.referrer_of, listed)

    async def _share(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        return await self._means.turns.share(key, ask, whose=self._pulling.record.id)

    def _lifetime_s(self, count: int) -> float:
        return self._pulling.settings.cache_ttl_s if count else self._pulling.settings.negative_ttl_s


def page_of(names: Sequence[str], *, after: str, limit: int) -> list[str]:
    """Up to `limit` names beyond `after`, of names in order."""
    start = bisect_right(names, after)
    return list(names[start : start + limit])


def either(first: Iterable[str], second: Iterable[str]) -> Iterator[str]:
    """The names of two lists in order, each once."""
    last: str | None = None
    for name in merge(first, second):
        if name != last:
            yield name
        last = name


def own_page(names: Sequence[str]) -> TagPage:
    """What is kept here, where the upstream cannot be asked."""
    return TagPage(names, "the upstream registry cannot be asked for its tags: these were pulled from here", 0)


def _complete(listing: TagListing) -> Listed:
    if not listing.names:
        return Listed(None)
    return Listed(listing.names, None if listing.is_complete else "the upstream registry has more tags than these")


def _stale(known: Memory[TagListing]) -> Listed:
    warning = "the upstream registry cannot be asked for its tags: this is what it said before"
    return Listed(known.value.names or None, warning, int(known.age_s))


def _weight(referrer: Referrer) -> int:
    """In KiB, rounded up: annotations may be as long as manifests."""
    return 1 + sum(len(name) + len(value) for name, value in referrer.annotations.items()) // 1024


def _digest_text(referrer: Referrer) -> str:
    return str(referrer.digest)


def _each_once(referrers: Iterable[Referrer]) -> Iterator[Referrer]:
    last: Digest | None = None
    for each in referrers:
        if each.digest != last:
            yield each
        last = each.digest
