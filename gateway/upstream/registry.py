"""Another registry, as a repository works with it: its manifests, blobs, tags and referrers.

Everything that comes back was checked as far as it can be without knowing rows. Knows no repositories and keeps
nothing; what may be served without asking is decided in `gateway.repositories`.

All methods that ask raise `UpstreamError` (see `gateway.upstream.errors`): `UpstreamUnknown` only where the upstream
said so itself, `UpstreamBusy` also where our own budget there is spent. Several addresses are tried in turn; one that
is in trouble is left alone for a while, so failing takes no time then.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

import trio

from gateway.oci import manifest, media_types, strict_json
from gateway.oci.names import Reference, Tag
from gateway.oci.referrers import Referrer
from gateway.upstream import listing, naming
from gateway.upstream.answers import FetchedManifest, ManifestHead, NotModified, TagListing, UpstreamStatus
from gateway.upstream.asking import Endpoint, Question, Questions
from gateway.upstream.documents import ACCEPT, header_field, named_digest, read_manifest
from gateway.upstream.errors import UpstreamDenied, UpstreamFailed, UpstreamRefused, UpstreamSlow
from gateway.upstream.http import Answer
from gateway.upstream.paging import Pages
from gateway.upstream.referring import Referring
from gateway.upstream.settings import UpstreamSettings
from gateway.upstream.source import UpstreamBlob
from storage import Digest, Pool, Source

T = TypeVar("T")

TAGS_DEADLINE_S: Final = 60.0
_JSON: Final = ("accept", media_types.JSON)
_SIZE_DIGITS: Final = 18
_LOOKED: Final = frozenset(
    {HTTPStatus.OK, HTTPStatus.NOT_MODIFIED, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
)


class UpstreamRegistry:
    """One upstream with its credentials. Made by `Upstreams.of`; safe for any number of tasks.

    `image` is always the name as the repository here has it. `pool`: for reading large documents.
    """

    def __init__(self, settings: UpstreamSettings, questions: Questions, *, pool: Pool) -> None:
        self.settings = settings
        self._questions = questions
        self._pool = pool
        self._referring = Referring(questions, self._look_and_fetch, pool)

    def upstream_name(self, image: str) -> str:
        """What the image is called there; for messages and for the patterns of the settings."""
        return naming.upstream_name(self.settings.urls, image)

    def allows(self, image: str) -> bool:
        """Whether the settings let the upstream be asked for the image at all. To be asked first; nothing else does."""
        return naming.allows(self.upstream_name(image), include=self.settings.include, exclude=self.settings.exclude)

    def is_troubled(self) -> bool:
        """Whether the last question to every address was in vain: who has a copy need not wait for another try."""
        return all(endpoint.breaker.is_troubled for endpoint in self._questions.endpoints)

    async def head(self, image: str, reference: Reference, *, etag: str | None = None) -> ManifestHead | NotModified:
        """Look at a manifest without fetching it: free on Docker Hub. `etag`: of the last answer about it.

        All fields are None where the upstream knows no HEAD.
        """
        return await self._head(self.upstream_name(image), reference, etag)

    async def manifest(self, image: str, reference: Reference, *, from_reserve: bool = False) -> FetchedManifest:
        """Fetch a manifest: a counted pull.

        Raises `UpstreamBusy` where no more than the settings' reserve is left, but for what nobody has here:
        `from_reserve` takes what is left.
        """
        reserve = 0 if from_reserve else self.settings.budget_reserve
        return await self._manifest(self.upstream_name(image), reference, reserve)

    async def blob_size(self, image: str, digest: Digest) -> int:
        """How large the upstream says the blob is, in bytes."""
        question = Question(
            "HEAD", self.upstream_name(image), partial(naming.blob_path, digest=digest), is_of_blob=True
        )
        return await self._questions.in_turn(partial(self._blob_size, question))

    def blob(self, image: str, digest: Digest, size_bytes: int) -> Source:
        """The blob, to be read (and resumed) from the upstream; asks for nothing yet.

        Its `read` raises `BlobUnknown`, `Damaged`, `Unavailable`, each `from` the `UpstreamError`.
        """
        return UpstreamBlob(self._questions, self.upstream_name(image), digest, size_bytes)

    async def tags(self, image: str) -> TagListing:
        """All tags there, as far as row P11 lets them come: so many pages, names, and a minute."""
        return await self._questions.in_turn(partial(self._tags, self.upstream_name(image)))

    async def referrers(self, image: str, subject: Digest) -> list[Referrer]:
        """What refers to `subject` there, each once; from a fallback tag only what says so itself.

        Of a list without an end the first are given. Asking a fallback tag costs counted pulls.
        """
        return await self._referring.of(self.upstream_name(image), subject)

    def status(self) -> UpstreamStatus:
        """A snapshot for the API and metrics."""
        endpoints = self._questions.endpoints
        return UpstreamStatus(
            addresses=tuple(endpoint.breaker.status() for endpoint in endpoints),
            budgets=tuple(budget.state for endpoint in endpoints for budget in endpoint.budgets),
            is_offline=self.settings.is_offline,
        )

    async def _head(self, name: str, reference: Reference, etag: str | None) -> ManifestHead | NotModified:
        condition = () if etag is None else (("if-none-match", etag),)
        question = Question(
            "HEAD",
            name,
            partial(naming.manifest_path, reference=reference),
            headers=(ACCEPT, *condition),
            accepted=_LOOKED,
        )

        async def look(endpoint: Endpoint) -> ManifestHead | NotModified:
            answer = await self._questions.ask(question, endpoint)
            return _head_of(answer, reference, what=f"{name}:{reference} at {endpoint.url}")

        return await self._questions.in_turn(look)

    async def _manifest(self, name: str, reference: Reference, reserve: int) -> FetchedManifest:
        question = Question(
            "GET",
            name,
            partial(naming.manifest_path, reference=reference),
            headers=(ACCEPT,),
            limit_bytes=manifest.MAX_BYTES,
            counted=True,
            reserve=reserve,
        )

        async def fetch(endpoint: Endpoint) -> FetchedManifest:
            answer = await self._questions.ask(question, endpoint)
            what = f"{name}:{reference} at {endpoint.url}"
            read = partial(read_manifest, headers=answer.headers, reference=reference, what=what)
            return await self._read(answer, read)

        return await self._questions.in_turn(fetch)

    async def _look_and_fetch(self, name: str, reference: Reference) -> FetchedManifest:
        """Fetch what is perhaps not there: a look costs nothing."""
        if isinstance(reference, Tag):
            await self._head(name, reference, None)
        return await self._manifest(name, reference, self.settings.budget_reserve)

    async def _read(self, answer: Answer, read: Callable[[bytes], T]) -> T:
        """In a thread, if it takes longer than a millisecond."""
        is_large = len(answer.body) >= strict_json.LARGE_BYTES
        return await self._pool.run(read, answer.body) if is_large else read(answer.body)

    async def _blob_size(self, question: Question, endpoint: Endpoint) -> int:
        try:
            answer = await self._questions.ask(question, endpoint)
            size = header_field(answer.headers, "content-length") or ""
        except (UpstreamDenied, UpstreamRefused):
            size = ""  # some send HEAD to a store whose signed address is good for GET only
        if size.isascii() and size.isdigit() and len(size) <= _SIZE_DIGITS:
            return int(size)
        async with self._questions.stream(replace(question, method="GET"), endpoint) as response:
            if response.size_bytes is None:
                raise UpstreamFailed(f"{question.name} at {endpoint.url}: nobody says how large the blob is")
            return response.size_bytes

    async def _tags(self, name: str, endpoint: Endpoint) -> TagListing:
        path = partial(naming.tags_path, page_size=listing.PAGE_TAGS)
        pages = Pages(self._questions, endpoint, Question("GET", name, path, headers=(_JSON,)))
        read = partial(listing.read_tags, what=f"the list of tags of {name} at {endpoint.url}")
        names: set[str] = set()
        with trio.move_on_after(TAGS_DEADLINE_S):
            while len(names) <= listing.MAX_TAGS and (answer := await pages.turn()):
                known = len(names)
                names.update(await self._read(answer, read))
                if len(names) == known:  # nothing new: it goes in circles, or it is over
                    break
        if not pages.count:
            raise UpstreamSlow(f"{endpoint.url} did not list any tags of {name} in {TAGS_DEADLINE_S:g} s")
        in_order = tuple(sorted(names))  # all ASCII: the order of characters is that of bytes
        return TagListing(in_order[: listing.MAX_TAGS], pages.is_over and len(names) <= listing.MAX_TAGS)


def _head_of(answer: Answer, reference: Reference, *, what: str) -> ManifestHead | NotModified:
    if answer.status == HTTPStatus.NOT_MODIFIED:
        return NotModified()
    if answer.status != HTTPStatus.OK:
        return ManifestHead(None, None, None)
    digest = named_digest(answer.headers)
    if isinstance(reference, Digest) and digest is not None and digest != reference:
        if digest.algorithm == reference.algorithm:
            raise UpstreamFailed(f"{what}: the answer is about {digest}")
        digest = reference
    media_type = media_types.parse_content_type(header_field(answer.headers, "content-type"))
    if digest is None and (media_type is None or not media_types.is_manifest_type(media_type)):
        raise UpstreamFailed(f"{what}: what answers is no registry")
    size = header_field(answer.headers, "content-length") or ""
    return ManifestHead(
        digest,
        media_type if media_type is not None and media_types.is_manifest_type(media_type) else None,
        int(size) if size.isascii() and size.isdigit() and len(size) <= _SIZE_DIGITS else None,
        header_field(answer.headers, "etag"),
    )
