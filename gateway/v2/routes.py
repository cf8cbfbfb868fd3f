"""The route table of /v2: what each target answers to each method, and the right it needs.

A route that is not here does not exist; the authorisation matrix of the tests is generated from it.
"""

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from quart import Response
from quart.wrappers import Request

from gateway.access.actions import Action
from gateway.edge.call import Call
from gateway.oci.paths import Blob, Manifest, Referrers, Tags, Upload, Uploads
from gateway.v2 import blobs, manifests, referrers, tags, uploads
from gateway.v2.services import V2

# The target's type is decided by the key of the table, which the type system cannot see.
Handler = Callable[[V2, Call, Any, Request], Awaitable[Response]]


class Method(enum.StrEnum):
    """The methods that any route of /v2 knows."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class Route:
    """A handler and the one right that the guard demands before it runs."""

    handler: Handler
    need: Action


ROUTES: Final[Mapping[tuple[type, str], Route]] = {
    (Manifest, Method.GET): Route(manifests.get, Action.PULL),
    (Manifest, Method.HEAD): Route(manifests.get, Action.PULL),
    (Manifest, Method.PUT): Route(manifests.put, Action.PUSH),
    (Manifest, Method.DELETE): Route(manifests.delete, Action.DELETE),
    (Blob, Method.GET): Route(blobs.get, Action.PULL),
    (Blob, Method.HEAD): Route(blobs.get, Action.PULL),
    (Blob, Method.DELETE): Route(blobs.delete, Action.DELETE),
    (Uploads, Method.POST): Route(uploads.begin, Action.PUSH),
    (Upload, Method.GET): Route(uploads.status, Action.PUSH),
    (Upload, Method.HEAD): Route(uploads.status, Action.PUSH),
    (Upload, Method.PATCH): Route(uploads.append, Action.PUSH),
    (Upload, Method.PUT): Route(uploads.finish, Action.PUSH),
    (Upload, Method.DELETE): Route(uploads.cancel, Action.PUSH),
    (Tags, Method.GET): Route(tags.get, Action.PULL),
    (Tags, Method.HEAD): Route(tags.get, Action.PULL),
    (Referrers, Method.GET): Route(referrers.get, Action.PULL),
    (Referrers, Method.HEAD): Route(referrers.get, Action.PULL),
}
