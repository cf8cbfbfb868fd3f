"""Referrers: the manifests whose subject is a digest (rows RF). Always 200 to who may pull, also for the unknown."""

import json
from typing import Final

from quart import Response
from quart.wrappers import Request

from gateway.edge.call import Call
from gateway.oci import paths
from gateway.oci.listing import cursor, next_link
from gateway.oci.names import parse_digest
from gateway.oci.referrers import CONTENT_TYPE, Referrer, build_page
from gateway.v2.answers import entity
from gateway.v2.services import V2
from storage import ManifestRecord

# One page is at most 4 MiB of JSON (row RF-10); this many rows are read to fill it, 4 KiB of annotations each.
_ROWS: Final = 1000


async def get(v2: V2, call: Call, target: paths.Referrers, request: Request) -> Response:
    """An index of descriptors, filtered by artifact type if asked, with a Link to the rest if it is very long."""
    subject = parse_digest(target.digest_text)
    wanted = request.args.get("artifactType")
    repository = v2.open_repository(call.repository)
    rows = await repository.referrers(
        call.image, subject, artifact_type=wanted, after=cursor(request.args.get("last")), limit=_ROWS + 1
    )
    body, shown = build_page([_referrer(row) for row in rows[:_ROWS]], limit_bytes=v2.limits.manifest_bytes)
    headers = {"OCI-Filters-Applied": "artifactType"} if wanted is not None else {}
    if shown < len(rows) and shown:
        extra = {"artifactType": wanted} if wanted is not None else {}
        path = f"/v2/{target.name}/referrers/{subject}"
        headers["Link"] = next_link(path, last=str(rows[shown - 1].digest), n=None, extra=extra)
    return entity(body, CONTENT_TYPE, headers)


def _referrer(row: ManifestRecord) -> Referrer:
    return Referrer(
        media_type=row.media_type,
        digest=row.digest,
        size_bytes=row.size_bytes,
        artifact_type=row.artifact_type,
        annotations=json.loads(row.annotations) if row.annotations else {},
    )
