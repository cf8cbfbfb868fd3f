"""The way into the management API: one look at the raw path, one guard, one check of the need, one handler.

It runs before Quart's own routing. The path is split before it is decoded, once, so that the object which is authorised
is the object which is served (security row A19). Bodies are read after the caller was admitted, never before.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ValidationError
from quart import Quart, Response, request
from quart.wrappers import Request

from gateway.access.principal import ANONYMOUS, Principal
from gateway.api import audit
from gateway.api.errors import Problem, Refused, invalid_model, not_found, refusal, unsupported_method
from gateway.api.fields import Body, Query
from gateway.api.needs import Need, admit, require_account
from gateway.api.route import Route, is_parameter
from gateway.api.routes import ROUTES
from gateway.api.services import Api, Ask, Reply
from gateway.edge.call import Visit
from gateway.edge.failures import unwrap
from gateway.edge.streams import read_whole

MAX_BODY_BYTES: Final = 64 * 1024
"""A repository with a hundred rules is 14 KiB."""

_ROOTS: Final = (b"/api", b"/health", b"/metrics")
_JSON: Final = "application/json"


def register(app: Quart, api: Api) -> None:
    """Answer everything below /api, /health and /metrics of this application."""

    @app.before_request
    async def dispatch() -> Response | None:
        raw_path: bytes = request.scope["raw_path"]
        if not any(raw_path == root or raw_path.startswith(root + b"/") for root in _ROOTS):
            return None
        try:
            route, path = find(raw_path, request.method)
        except Refused as refused:
            return _refuse(refused)
        return await _answer(api, route, path, request)


def find(raw_path: bytes, method: str) -> tuple[Route, Mapping[str, str]]:
    """The route of a path and method, and what stands where the route has parameters; `Refused` 404 or 405."""
    try:
        segments = [unquote_to_bytes(part).decode("utf-8") for part in raw_path.split(b"/")[1:]]
    except UnicodeDecodeError:
        raise not_found() from None
    routes = {route.method: route for route in ROUTES if _fits(route, segments)}
    if not routes:
        raise not_found()
    route = routes.get("GET" if method == "HEAD" else method)
    if route is None:
        raise unsupported_method([*routes, *(["HEAD"] if "GET" in routes else [])])
    return route, dict(zip(route.parameters, _values(route, segments), strict=True))


def _fits(route: Route, segments: list[str]) -> bool:
    if len(route.segments) != len(segments):
        return False
    pairs = zip(route.segments, segments, strict=True)
    return all(is_parameter(wanted) or wanted == given for wanted, given in pairs)


def _values(route: Route, segments: list[str]) -> list[str]:
    return [given for wanted, given in zip(route.segments, segments, strict=True) if is_parameter(wanted)]


async def _answer(api: Api, route: Route, path: Mapping[str, str], incoming: Request) -> Response:
    visit = await api.visits.of(incoming)
    entry = _Entry(route, visit, path)
    try:
        entry.principal = await _identify(api, visit, route)
        subject = await api.database.read(admit, entry.principal, route.need, path)
        entry.body = await _body(api, route, incoming)
        ask = Ask(api, visit, entry.principal, subject, path, _query(route, incoming), entry.body)
        reply = await route.handler(ask)
    except Exception as error:
        refused = refusal(unwrap(error))
        entry.note(outcome="failed" if refused is None else refused.code)
        if refused is None:  # trouble of ours: the table of failures answers
            raise
        return _refuse(refused)
    entry.note(outcome="ok", concerns=reply.concerns)
    return _respond(route, reply)


@dataclass(slots=True)
class _Entry:
    """What the audit will say of this request; grows as it is admitted."""

    route: Route
    visit: Visit
    path: Mapping[str, str]
    principal: Principal = ANONYMOUS
    body: Body | None = None

    def note(self, *, outcome: str, concerns: str = "") -> None:
        if self.route.changes_state:
            audit.record(
                self.visit,
                act=self.route.act,
                concerns=concerns or "/".join(self.path.values()),
                outcome=outcome,
                principal=self.principal,
                fields=sorted(self.body.model_fields_set) if self.body is not None else (),
            )


async def _identify(api: Api, visit: Visit, route: Route) -> Principal:
    if route.need is Need.NOTHING:
        return ANONYMOUS
    principal = await api.guard.identify(visit)
    require_account(principal)
    return principal


def _query(route: Route, incoming: Request) -> Query | None:
    """The parameters; an unknown or repeated one is an error, as it would be in a body."""
    if route.need is Need.NOTHING:
        return None  # probes add what they like
    given = incoming.args.to_dict(flat=False)
    if repeated := [name for name, values in given.items() if len(values) > 1]:
        raise Refused(400, "VALIDATION", *(Problem("is given more than once", name) for name in repeated))
    try:
        return (route.query or Query).model_validate_strings({name: values[0] for name, values in given.items()})
    except ValidationError as error:
        raise invalid_model(error) from None


async def _body(api: Api, route: Route, incoming: Request) -> Body | None:
    if route.body is None:
        return None
    if incoming.mimetype != _JSON:  # also what keeps other sites' forms from acting in a browser's name
        raise Refused(415, "UNSUPPORTED_TYPE", Problem(f"send Content-Type: {_JSON}"))
    idle_s = api.settings.server.body_idle_timeout_s
    content = await read_whole(incoming, limit_bytes=MAX_BODY_BYTES, idle_s=idle_s)
    try:
        return route.body.model_validate_json(content)
    except ValidationError as error:
        raise invalid_model(error) from None


def _respond(route: Route, reply: Reply) -> Response:
    status = reply.status or route.status
    if reply.text is not None:
        content = reply.text
    elif reply.value is None:
        content = b""
    elif isinstance(reply.value, BaseModel):
        content = reply.value.model_dump_json().encode()
    else:
        content = json.dumps(reply.value, separators=(",", ":")).encode()
    return _response(status, content, reply.headers)


def _refuse(refused: Refused) -> Response:
    return _response(refused.status, refused.document(), refused.headers)


def _response(status: int, content: bytes, headers: Mapping[str, str]) -> Response:
    # Answers hold rights and secrets: no cache may keep them.
    headers = {"Content-Type": _JSON, **headers, "Cache-Control": "no-store"}
    response = Response(content, status, headers=headers)
    if status == HTTPStatus.NO_CONTENT:
        response.headers.pop("Content-Type", None)
        response.headers.pop("Content-Length", None)
    return response
