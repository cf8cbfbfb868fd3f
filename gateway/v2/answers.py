"""How answers of /v2 are made: exact headers, exact bytes, a Content-Length on every entity (row GEN-17)."""

import json
from collections.abc import Mapping
from typing import Final

from quart import Response

from gateway.edge.call import Call
from gateway.oci.conditions import etag
from storage import Digest

API_VERSION: Final = {"Docker-Distribution-Api-Version": "registry/2.0"}
_JSON: Final = "application/json"


def entity(content: bytes, media_type: str, headers: Mapping[str, str] | None = None, *, status: int = 200) -> Response:
    """Bytes with their type, for GET and HEAD alike; the server leaves the body out on HEAD (row GEN-10)."""
    return Response(content, status, headers=dict(headers or {}), content_type=media_type)


def document(value: object, headers: Mapping[str, str] | None = None, *, status: int = 200) -> Response:
    """A JSON document."""
    return entity(json.dumps(value).encode("ascii"), _JSON, headers, status=status)


def empty(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """No body. 204 and 304 have no Content-Length; everything else says 0."""
    response = Response(b"", status, headers=dict(headers or {}))
    response.headers.pop("Content-Type", None)
    if status in {204, 304}:
        response.headers.pop("Content-Length", None)
    return response


def content_headers(digest: Digest) -> dict[str, str]:
    """What names the content of an answer (rows MG-02, MG-10, BG-01)."""
    return {"Docker-Content-Digest": str(digest), "ETag": etag(digest)}


def staleness(warning: str | None, age_s: int | None) -> dict[str, str]:
    """The fields of an answer that may be out of date (row PX-05; RFC 7234, 5.5: 299 is "miscellaneous, persistent").

    Nothing where there is no warning.
    """
    if warning is None:
        return {}
    text = ascii(warning)[1:-1].replace('"', "'")
    return {"Warning": f'299 - "{text}"', "Age": str(max(age_s or 0, 0))}


def created(location: str, digest: Digest, headers: Mapping[str, str] | None = None) -> Response:
    """201: the content is durable and can be pulled at `location`."""
    return empty(201, {"Location": location, "Docker-Content-Digest": str(digest), **(headers or {})})


def session_headers(call: Call, upload_id: str, offset: int) -> dict[str, str]:
    """Where the session is for this client, and how far it came.

    Docker needs `0-0` even for nothing (row UP-07); all state is in the path (rows UP-02, UP-03).
    """
    return {
        "Location": call.path(f"blobs/uploads/{upload_id}"),
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": upload_id,
    }
