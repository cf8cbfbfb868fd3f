"""The way into /v2, and to it below the path of one repository: one parse of the raw path, one guard, one handler.

It runs before Quart's own routing, which decodes paths, merges slashes and answers in HTML: whatever begins like a path
of the registry API is answered here, also when it is wrong (rows GEN-09 to GEN-13, A19, A25).
"""

from quart import Quart, Response, request
from quart.wrappers import Request

from gateway.access.actions import Action
from gateway.edge.call import Visit
from gateway.edge.doors import NAMESPACE, Doorway, doorway
from gateway.edge.visits import Visits
from gateway.oci.errors import Code, RegistryError, unsupported
from gateway.oci.names import parse_name
from gateway.oci.paths import METHODS, Blob, Catalog, Manifest, Target, Token, Unknown, is_registry, split
from gateway.oci.paths import Base as Registry
from gateway.v2 import catalog, token
from gateway.v2.answers import API_VERSION, document
from gateway.v2.routes import ROUTES
from gateway.v2.services import V2


def register(app: Quart, v2: V2, visits: Visits) -> None:
    """Answer everything below /v2 of this application, and below the paths of single repositories."""

    @app.before_request
    async def dispatch() -> Response | None:
        if not is_registry(request.scope["raw_path"]):
            return None
        way_in = doorway(request)
        return await _answer(v2, await visits.of(request, way_in), way_in, request)

    @app.after_request
    async def mark(response: Response) -> Response:
        if is_registry(request.scope["raw_path"]):
            response.headers.update(API_VERSION)
        return response


async def _answer(v2: V2, visit: Visit, way_in: Doorway, incoming: Request) -> Response:
    target = split(way_in.entrance.path)
    allowed = METHODS[type(target)]
    if isinstance(target, Unknown):
        raise RegistryError(Code.NAME_UNKNOWN, "no such path in the registry API")
    if incoming.method not in allowed:
        raise unsupported(f"{incoming.method} is not supported here", allowed)
    match target:
        case Registry():
            await v2.guard.enter_registry(visit)
            return document({})
        case Token():
            return await token.answer(v2, visit, incoming)
        case Catalog():
            principal = await v2.guard.enter_catalog(visit)
            return await catalog.get(v2, visit, principal, incoming)
        case _:
            return await _image(v2, visit, target, incoming)


async def _image(v2: V2, visit: Visit, target: Target, incoming: Request) -> Response:
    route = ROUTES[type(target), incoming.method]
    if isinstance(target, Blob | Manifest) and incoming.method in {"GET", "HEAD"}:
        v2.lane.look(incoming)  # before anything is read for the answer
    if route.need is Action.PUSH:  # what is made now must be addressable by every client (row GEN-02)
        parse_name(target.name, address_bytes=len(f"{visit.external.host}/"))  # type: ignore[union-attr]
    call = await v2.guard.enter(visit, target.name, route.need)  # type: ignore[union-attr]  # the others went before
    response = await route.handler(v2, call, target, incoming)
    if visit.door.namespace is not None:
        response.headers[NAMESPACE] = visit.door.namespace
    return response
