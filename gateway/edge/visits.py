"""From a request of the framework to a `Visit`: the only place that reads who speaks to us from where."""

import secrets

import structlog
from quart.wrappers import Request

from gateway.edge.address import AddressSettings, client_address, external
from gateway.edge.call import Visit


class Visits:
    """Makes visits under one set of address rules."""

    def __init__(self, settings: AddressSettings) -> None:
        self._settings = settings

    def new_request_id(self) -> str:
        """A fresh id, also put into every log event of this request's task."""
        request_id = secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        return request_id

    def of(self, request: Request, request_id: str) -> Visit:
        """What is known of the request; raises `BadHost` and `UnknownHost`."""
        scope = request.scope
        return Visit(
            request_id=request_id,
            authorization=tuple(request.headers.getlist("Authorization")),
            external=external(scope, self._settings),
            client=client_address(scope, self._settings),
            user_agent=request.headers.get("User-Agent", "")[:256],
        )
