"""From a request of the framework to a `Visit`: the only place that reads who speaks to us from where."""

import secrets
from typing import Final

import structlog
from quart import Quart, Response, has_request_context, request
from quart.wrappers import Request

from gateway.edge.address import AddressRules, client_address, external
from gateway.edge.call import Visit

# In the request's scope, not in the framework's `g`: an answer that fails at its first byte gets a context of its own.
_KEY: Final = "gateway.request_id"


def install(app: Quart) -> None:
    """Give every request an id, in its log events and its answer, and tell browsers to guess no types."""

    @app.before_request
    async def begin() -> None:
        made = secrets.token_hex(8)
        request.scope[_KEY] = made  # type: ignore[typeddict-unknown-key]  # servers and frameworks add keys, too
        structlog.contextvars.bind_contextvars(request_id=made)

    @app.after_request
    async def mark(response: Response) -> Response:
        response.headers["X-Request-Id"] = request_id()
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def request_id() -> str:
    """The id of the request that is being answered."""
    return str(request.scope.get(_KEY, "")) if has_request_context() else ""


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
