"""What refers to a manifest at an upstream: from its referrers API, or from the fallback tag of registries without one.

distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema"; rows RF-13, RF-14 and RF-19. Anybody who can push
may list anything under a fallback tag, so only the manifests themselves are believed: each is fetched, once.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final

import trio
from cachetools import LRUCache

from gateway.oci import media_types
from gateway.oci.names import Tag, fallback_tag
from gateway.oci.referrers import Referrer
from gateway.upstream import listing, naming
from gateway.upstream.answers import FetchedManifest
from gateway.upstream.asking import Endpoint, Question, Questions
from gateway.upstream.documents import header_field
from gateway.upstream.errors import UpstreamSlow, UpstreamUnknown
from gateway.upstream.paging import Pages
from storage import Digest, Pool

MAX_FALLBACK: Final = 200
"""Of a fallback tag's members: each costs a pull."""
DEADLINE_S: Final = 60.0
_KEPT_BYTES: Final = 256 * 1024
_ACCEPTED: Final = frozenset(
    {
        *(HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST),
        *(HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.NOT_IMPLEMENTED),
    }
)
"""What registries without the API were seen to answer: then it is the fallback tag."""

Fetch = Callable[[str, Tag | Digest], Awaitable[FetchedManifest]]


@dataclass(slots=True)
class Referring:
    """Asks for referrers. `fetch` gets a manifest of an image, checked. What manifests said is kept, within a bound."""

    questions: Questions
    fetch: Fetch
    pool: Pool
    _said: LRUCache[Digest, "_Said"] = field(init=False)

    def __post_init__(self) -> None:
        self._said = LRUCache(_KEPT_BYTES, getsizeof=lambda said: said.size_bytes)

    async def of(self, name: str, subject: Digest) -> list[Referrer]:
        """All referrers of `subject`, each once; `name` is the image's at the upstream. Raises `UpstreamError`.

        No more than `MAX_REFERRERS` from the API, and what the first `MAX_FALLBACK` of a fallback tag say.
        """
        try:
            with trio.fail_after(DEADLINE_S):
                listed = await self.questions.in_turn(partial(self._from_api, name, subject))
                if listed is None:
                    listed = await self._from_tag(name, subject)
        except trio.TooSlowError as error:
            raise UpstreamSlow(f"the referrers of {subject} took longer than {DEADLINE_S:g} s") from error
        return list({each.digest: each for each in listed}.values())

    async def _from_api(self, name: str, subject: Digest, endpoint: Endpoint) -> list[Referrer] | None:
        """What the API lists; None if there is no such API."""
        path = partial(naming.referrers_path, subject=subject)
        question = Question("GET", name, path, headers=(("accept", media_types.OCI_INDEX),), accepted=_ACCEPTED)
        pages = Pages(self.questions, endpoint, question)
        what = f"the list of referrers of {subject} at {endpoint.url}"
        found: list[Referrer] = []
        while len(found) < listing.MAX_REFERRERS and (answer := await pages.turn()):
            content_type = media_types.parse_content_type(header_field(answer.headers, "content-type"))
            if answer.status != HTTPStatus.OK or content_type != media_types.OCI_INDEX:
                return None
            listed = listing.referrers_of(await self.pool.run(listing.read_index, answer.body, what=what))
            if not listed:
                break
            found += listed
        return found[: listing.MAX_REFERRERS]

    async def _from_tag(self, name: str, subject: Digest) -> list[Referrer]:
        """What the members of the fallback tag's index say of themselves."""
        try:
            tagged = await self.fetch(name, Tag(fallback_tag(subject)))
        except UpstreamUnknown:
            return []
        members = dict.fromkeys(child.digest for child in tagged.manifest.children)
        said = [await self._ask_member(name, digest) for digest in list(members)[:MAX_FALLBACK]]
        return [each.referrer for each in said if each is not None and each.subject == subject]

    async def _ask_member(self, name: str, digest: Digest) -> "_Said | None":
        """What a manifest says of itself; None if it is not there any more."""
        kept = self._said.get(digest)
        if kept is not None:
            return kept
        try:
            said = _Said.of(await self.fetch(name, digest))
        except UpstreamUnknown:
            return None
        if said.size_bytes <= _KEPT_BYTES:
            self._said[digest] = said
        return said


@dataclass(frozen=True, slots=True)
class _Said:
    """What a manifest says of itself."""

    subject: Digest | None
    referrer: Referrer
    size_bytes: int

    @classmethod
    def of(cls, fetched: FetchedManifest) -> "_Said":
        manifest = fetched.manifest
        size_bytes = len(fetched.content)
        return cls(
            None if manifest.subject is None else manifest.subject.digest,
            Referrer(manifest.media_type, fetched.digest, size_bytes, manifest.artifact_type, manifest.annotations),
            size_bytes,
        )
