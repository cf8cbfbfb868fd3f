"""Referrers: the manifests whose subject is a digest (rows RF). Always 200 to who may pull, also for the unknown."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from quart import Response
from quart.wrappers import Request

from gateway.edge.call import Call
from gateway.oci import paths
from gateway.oci.listing import cursor, next_link
from gateway.oci.manifest import MAX_BYTES
from gateway.oci.names import parse_digest
from gateway.oci.referrers import CONTENT_TYPE, Referrer, build_page
from gateway.v2.answers import entity, staleness
from gateway.v2.services import V2
from storage import Digest

# One page is at most 4 MiB of JSON (row RF-10) and this many rows: with 4 KiB of annotations each they fill it.
_ROWS: Final = 1000


async def get(v2: V2, call: Call, target: paths.Referrers, request: Request) -> Response:
    """An index of descriptors, filtered by artifact type if asked, with a Link to the rest if it is very long."""
    subject = parse_digest(target.digest_text)
    wanted = request.args.get("artifactType")
    repository = v2.open_repository(call.repository, call.caller)
    found = await repository.referrers(
        call.image,
        subject,
        artifact_type=wanted,
        after=cursor(request.args.get("last")),
        limit=_ROWS + 1,
        build=lambda referrers: _page(referrers, limit_bytes=min(v2.limits.manifest_bytes, MAX_BYTES)),
    )
    page = found.built
    headers = {"OCI-Filters-Applied": "artifactType"} if wanted is not None else {}
    if page.next_after is not None:
        extra = {"artifactType": wanted} if wanted is not None else {}
        path = call.path(f"referrers/{subject}")
        headers["Link"] = next_link(path, last=str(page.next_after), n=None, extra=extra)
    headers |= staleness(found.warning, found.age_s)
    return entity(page.body, CONTENT_TYPE, headers)


@dataclass(frozen=True, slots=True)
class _Page:
    """An index as it is sent, and the last digest in it if more follow."""

    body: bytes
    next_after: Digest | None


def _page(found: Iterator[Referrer], *, limit_bytes: int) -> _Page:
    """The first page of them; takes only as many as fit, one more, and no more than `_ROWS` + 1."""
    read: list[Digest] = []

    def referrers() -> Iterator[Referrer]:
        for each in islice(found, _ROWS):
            read.append(each.digest)
            yield each

    body, shown = build_page(referrers(), limit_bytes=limit_bytes)
    more = shown < len(read) or next(found, None) is not None
    return _Page(body, read[shown - 1] if more else None)
