"""From a request of the framework to a `Visit`: the only place that reads who speaks to us from where."""

import secrets

import structlog
from quart import Quart, Response, g
from quart.wrappers import Request

from gateway.edge.address import AddressRules, client_address, external
from gateway.edge.call import Visit


def install(app: Quart) -> None:
    """Give every request an id, in its log events and its answer, and tell browsers to guess no types."""

    @app.before_request
    async def begin() -> None:
        g.request_id = secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    async def mark(response: Response) -> Response:
        response.headers["X-Request-Id"] = request_id()
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def request_id() -> str:
    """The id of the request that is being answered."""
    return str(g.get("request_id", ""))


class Visits:
    """Makes visits under one set of address rules."""

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules

    def of(self, request: Request) -> Visit:
        """What is known of the request; raises `BadHost` and `UnknownHost`."""
        return Visit(
            request_id=request_id(),
            authorization=tuple(request.headers.getlist("Authorization")),
            external=external(request.scope, self._rules),
            client=client_address(request.scope, self._rules),
            user_agent=request.headers.get("User-Agent", "")[:256],
        )
