"""From a request of the framework to a `Visit`: the only place that reads who speaks to us from where."""

import secrets
from typing import Final

import structlog
from quart import Quart, Response, has_request_context, request
from quart.wrappers import Request

from gateway.edge.address import AddressRules, client_address, external, is_configured, named_host
from gateway.edge.call import Visit
from gateway.edge.doors import FRONT, Doorway
from storage import AddressKind, Database, Transaction
from storage.metadata import addresses

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
    """Makes visits under one set of address rules. `database` knows the hosts that belong to repositories."""

    def __init__(self, rules: AddressRules, database: Database) -> None:
        self._rules = rules
        self._database = database

    async def of(self, request: Request, doorway: Doorway = FRONT) -> Visit:
        """What is known of the request; raises `BadHost` and `UnknownHost`, and storage errors.

        Rows are read only in the registry API and for a host that the configuration does not know: whether this process
        is alive must not hang on the database.
        """
        host = named_host(request.scope, self._rules)
        is_open = doorway is not FRONT and not is_configured(host, self._rules)
        is_own = is_open and await self._database.read(_is_own, host)
        return Visit(
            request_id=request_id(),
            authorization=tuple(request.headers.getlist("Authorization")),
            external=external(request.scope, self._rules, mount=doorway.entrance.prefix, is_own=is_own),
            client=client_address(request.scope, self._rules),
            user_agent=request.headers.get("User-Agent", "")[:256],
            door=doorway.door(host),
        )


def _is_own(tx: Transaction, host: str) -> bool:
    """Whether the host belongs to a repository, or has one for all names that nobody else serves."""
    return any(addresses.find(tx, kind, host) for kind in (AddressKind.HOST, AddressKind.CATCH_ALL))
