"""Blobs: GET, HEAD and DELETE (rows BG, DL-05).

Whole, a range, or several ranges; never more than a chunk in memory.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from quart import Response
from quart.wrappers import Request

from gateway.access.actions import Action
from gateway.edge.call import Call
from gateway.edge.pulls import Kind, Pulled
from gateway.edge.streams import ChunkSource, blob_response
from gateway.oci import paths
from gateway.oci.errors import Code, RegistryError, blob_unknown
from gateway.oci.names import parse_digest
from gateway.repositories.contract import ArrivingBlob, Repository, WritableRepository
from gateway.repositories.routing import VIRTUAL, Place, destination
from gateway.upstream.errors import UpstreamError
from gateway.v2.answers import content_headers, empty
from gateway.v2.lane import Lesson
from gateway.v2.plans import KnownBlob, Plan, wishes_of
from gateway.v2.services import V2
from gateway.v2.writing import writable
from storage import BlobReader, Digest, FoundBlob, OpenFile, Span, Transaction

_OpenSpan = Callable[[Span], AbstractAsyncContextManager[BlobReader]]

# A blob is whatever somebody pushed; a browser must not run it under our name (security row C11).
_HEADERS: Final = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Disposition": "attachment",
}


async def get(v2: V2, call: Call, target: paths.Blob, request: Request) -> Response:
    """The blob or the ranges asked for, or where they are; 304 if the client has it (rows BG-01 to BG-08)."""
    digest = parse_digest(target.digest_text)
    place = await _place(v2, call, method=request.method)
    repository = v2.open_repository(place.record, call.caller)
    found = await _find(call, repository, place.image, digest, method=request.method)
    known = KnownBlob(digest, found.size_bytes)
    plan = known.plan(wishes_of(request.method, request.scope["headers"]))
    pulled = Pulled(Kind.BLOB, call.repository.id, call.image, target.digest_text, digest, call.account_id)
    if isinstance(found, ArrivingBlob):
        v2.lane.witness(request, Lesson(pulled, call.principal, known, image_id=None))
        return _answer(plan, content_headers(digest) | _HEADERS, found.open)
    elsewhere = await v2.redirects.answer(call, found, plan, method=request.method, pulled=pulled)
    if elsewhere is not None:
        return elsewhere  # the lane learns nothing: each address is made anew, and for this client
    is_for_one = v2.redirects.look_at_clients(call, found) or await _differs_for_head(v2, call, method=request.method)
    image_id = None if is_for_one else found.image_id  # None: nothing is learned
    v2.lane.witness(request, Lesson(pulled, call.principal, known, image_id=image_id, blob=found))
    return _answer(plan, content_headers(digest) | _HEADERS, partial(repository.open_blob, found))


async def delete(v2: V2, call: Call, target: paths.Blob, request: Request) -> Response:  # noqa: ARG001  # one shape for all handlers
    """Take this image's right to the blob away; others keep theirs (rows DL-05, DL-06)."""
    digest = parse_digest(target.digest_text)
    await writable(v2, call).delete_blob(call.image, digest)
    return empty(202)


async def _place(v2: V2, call: Call, *, method: str) -> Place:
    """Where the blob is asked for: of a virtual repository, by one who may push, in the member that takes the push.

    A blob that another member has would be missing there when the manifest comes.
    """
    here = Place(call.repository, call.image)
    if method != "HEAD" or Action.PUSH not in call.actions or here.record.repository_type != VIRTUAL:
        return here

    def taking(tx: Transaction) -> Place | None:
        target = destination(tx, here.record, here.image)
        return target if target is not None and call.caller.may_pull(tx, target.record) else None

    return await v2.database.read(taking) or here


async def _differs_for_head(v2: V2, call: Call, *, method: str) -> bool:
    """Whether the same caller's HEAD asks elsewhere than this GET, so that the lane must not answer it from this."""
    if method == "HEAD":
        return False
    return (await _place(v2, call, method="HEAD")).record.id != call.repository.id


async def _find(
    call: Call, repository: Repository, image: str, digest: Digest, *, method: str
) -> FoundBlob | ArrivingBlob:
    """The blob. HEAD of one who may push asks whether it has to be sent: not if they may read it elsewhere.

    To that question "no such blob" is a true answer also where the upstream of the repository is in trouble.
    """
    try:
        return await repository.find_blob(image, digest)
    except (RegistryError, UpstreamError) as error:
        if isinstance(error, RegistryError) and error.code is not Code.BLOB_UNKNOWN:
            raise
        if method != "HEAD" or Action.PUSH not in call.actions or not isinstance(repository, WritableRepository):
            raise
        shared = await repository.share_blob(image, digest)
        if shared is None:
            raise blob_unknown(digest) from error
        return shared


def _answer(plan: Plan, headers: dict[str, str], open_span: _OpenSpan) -> Response:
    if plan.status == HTTPStatus.NOT_MODIFIED or plan.content_type is None:
        return empty(plan.status, headers)
    if plan.content_range is not None:
        headers["Content-Range"] = plan.content_range
    return blob_response(
        _source(plan, open_span),
        size_bytes=plan.size_bytes,
        content_type=plan.content_type,
        status=plan.status,
        headers=headers,
    )


def _source(plan: Plan, open_span: _OpenSpan) -> AbstractAsyncContextManager[ChunkSource]:
    match plan.body:
        case (Span() as only,):
            return open_span(only)
        case parts:
            return nullcontext(_Parts(open_span, parts))


@dataclass(frozen=True, slots=True)
class _Parts:
    """Several spans as one body; each is opened when its turn comes."""

    open_span: _OpenSpan
    parts: tuple[bytes | Span, ...]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Heads, spans and the end, in order."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
                continue
            async with self.open_span(part) as reader:
                async for chunk in reader.chunks():
                    yield chunk  # noqa: ASYNC119  # whoever sends the answer closes it

    async def pieces(self) -> AsyncIterator[bytes | OpenFile]:
        """The same, with the spans as spans of a file where the bytes lie in one as they are."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
                continue
            async with self.open_span(part) as reader:
                if reader.file is not None:
                    yield reader.file  # noqa: ASYNC119  # as above
                    continue
                async for chunk in reader.chunks():
                    yield chunk  # noqa: ASYNC119  # as above
