"""Blobs: GET, HEAD and DELETE (rows BG, DL-05).

Whole, a range, or several ranges; never more than a chunk in memory.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from quart import Response
from quart.wrappers import Request

from gateway.edge.call import Call
from gateway.edge.streams import blob_response
from gateway.oci import paths
from gateway.oci.conditions import if_none_match
from gateway.oci.errors import unsupported
from gateway.oci.names import parse_digest
from gateway.oci.ranges import (
    content_range,
    if_range,
    multipart_head,
    multipart_size,
    multipart_tail,
    parse_range,
)
from gateway.repositories.contract import Repository, WritableRepository
from gateway.v2.answers import content_headers, empty
from gateway.v2.services import V2
from storage import Digest, FoundBlob, Span

_TYPE: Final = "application/octet-stream"
# A blob is whatever somebody pushed; a browser must not run it under our name (security row C11).
_HEADERS: Final = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Disposition": "attachment",
}


async def get(v2: V2, call: Call, target: paths.Blob, request: Request) -> Response:
    """The blob or the ranges asked for; 304 if the client has it (rows BG-01 to BG-08)."""
    digest = parse_digest(target.digest_text)
    repository = v2.open_repository(call.repository)
    found = await repository.find_blob(call.image, digest)
    headers = content_headers(digest) | _HEADERS
    if if_none_match(request.headers.get("If-None-Match"), digest):
        return empty(304, headers)
    spans = _spans(request, digest, found.size_bytes)
    if spans is None:
        return _answer(200, headers, repository, found, Span(0, found.size_bytes))
    if len(spans) == 1:
        headers["Content-Range"] = content_range(spans[0], found.size_bytes)
        return _answer(206, headers, repository, found, spans[0])
    return _multipart(headers, repository, found, spans)


async def delete(v2: V2, call: Call, target: paths.Blob, request: Request) -> Response:  # noqa: ARG001  # one shape for all handlers
    """Take this image's right to the blob away; others keep theirs (rows DL-05, DL-06)."""
    digest = parse_digest(target.digest_text)
    repository = v2.open_repository(call.repository)
    if not isinstance(repository, WritableRepository):
        raise unsupported(f"repository {call.repository.full_name} is read-only", ("GET", "HEAD"))
    await repository.delete_blob(call.image, digest)
    return empty(202)


def _spans(request: Request, digest: Digest, size_bytes: int) -> tuple[Span, ...] | None:
    """What to send; None for the whole blob. Ranges are for GET alone (RFC 9110, 14.2)."""
    if request.method != "GET" or not if_range(request.headers.get("If-Range"), digest):
        return None
    return parse_range(request.headers.get("Range"), size_bytes)


def _answer(status: int, headers: dict[str, str], repository: Repository, found: FoundBlob, span: Span) -> Response:
    source = repository.open_blob(found, span)
    return blob_response(source, size_bytes=span.size_bytes, content_type=_TYPE, status=status, headers=headers)


def _multipart(headers: dict[str, str], repository: Repository, found: FoundBlob, spans: Sequence[Span]) -> Response:
    boundary = secrets.token_hex(16)
    size_bytes = multipart_size(boundary, spans, found.size_bytes, _TYPE)
    source = nullcontext(_Parts(boundary, repository, found, spans))
    kind = f"multipart/byteranges; boundary={boundary}"
    return blob_response(source, size_bytes=size_bytes, content_type=kind, status=206, headers=headers)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Several spans as one body; each is opened when its turn comes."""

    boundary: str
    repository: Repository
    found: FoundBlob
    spans: Sequence[Span]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Heads, spans and the end, in order."""
        for span in self.spans:
            yield multipart_head(self.boundary, span, self.found.size_bytes, _TYPE)
            async with self.repository.open_blob(self.found, span) as reader:
                async for chunk in reader.chunks():
                    yield chunk  # noqa: ASYNC119  # whoever sends the answer closes it
        yield multipart_tail(self.boundary)
