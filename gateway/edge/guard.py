"""The guard: the one prelude of every route. Who is it, what do they ask for, may they, now.

Nothing is decided elsewhere. Rights are read live from the database at every request, in the same snapshot that routes
the name, so a revocation works at once; a registry token can only narrow them. Whoever lacks a right gets one and the
same answer whether the thing exists or not (rows ACC-01, ACC-02).
"""

import base64
from dataclasses import dataclass
from typing import Final

from gateway.access.actions import Action
from gateway.access.authenticate import Authenticator
from gateway.access.errors import BadCredentials, InvalidToken
from gateway.access.principal import ANONYMOUS, Principal
from gateway.access.rights import may_read_catalog, rights, sees_everything
from gateway.edge.call import Call, Visit
from gateway.oci.errors import Code, RegistryError, name_unknown, shown
from gateway.oci.scopes import challenge
from gateway.repositories import routing
from gateway.repositories.routing import Place
from storage import Database, Door, RepositoryRecord, Transaction

# What a challenge asks for, by the right that was missing (row CH-03). A pusher reads what it pushed.
_SCOPE_ACTIONS: Final = {Action.PULL: "pull", Action.PUSH: "pull,push", Action.DELETE: "delete"}
CATALOG_SCOPE: Final = "registry:catalog:*"


def repository_scope(name: str, action: Action) -> str:
    """The scope that a client needs for `action` on an image."""
    return f"repository:{name}:{_SCOPE_ACTIONS[action]}"


class Guard:
    """See the module docstring. One per process."""

    def __init__(self, *, database: Database, authenticator: Authenticator, service: str) -> None:
        self._database = database
        self._authenticator = authenticator
        self._service = service

    async def identify(self, visit: Visit, *, scope: str | None = None) -> Principal:
        """Who this is; `ANONYMOUS` without credentials. Wrong credentials are refused, never taken for anonymous.

        Raises `RegistryError` 401 (with `scope` in its challenge) and `Overloaded` (503).
        """
        if not visit.authorization:
            return ANONYMOUS
        if len(visit.authorization) > 1:
            raise self.refusal(visit, scope=scope, error="invalid_token", message="several Authorization headers")
        scheme, _, value = visit.authorization[0].partition(" ")
        try:
            if scheme.lower() == "basic":
                return await self.by_basic(value)
            if scheme.lower() == "bearer":
                return await self._authenticator.bearer(value.strip())
        except InvalidToken:
            raise self.refusal(
                visit, scope=scope, error="invalid_token", message="the token is not valid (any more)"
            ) from None
        except BadCredentials as error:
            raise self.refusal(visit, scope=scope, message=str(error)) from None
        raise self.refusal(visit, scope=scope, message="use Basic or Bearer authentication")

    async def by_basic(self, value: str) -> Principal:
        """The principal of a Basic header's value, split at the first colon (row TOK-20).

        Raises `BadCredentials`, `Overloaded`.
        """
        try:
            user, colon, password = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
        except ValueError:  # not base64, not UTF-8, or not even ASCII
            raise BadCredentials from None
        if not colon:
            raise BadCredentials
        return await self.by_password(user, password)

    async def by_password(self, user: str, password: str) -> Principal:
        """The principal of a user name with a password, token or key; nobody for two empty strings (row TOK-08).

        Raises `BadCredentials`, `Overloaded`.
        """
        if not user and not password:
            return ANONYMOUS
        return await self._authenticator.basic(user, password)

    async def enter(self, visit: Visit, name: str, need: Action) -> Call:
        """Admit a request on an image that needs one right; raises `RegistryError` 401, or 404 to who sees all.

        To a namespace that nobody mirrors it is 404 for everybody: the table of them is no secret, and clients go on
        to the next registry then. Who pushes to a virtual repository is led on to the member that takes it.
        """
        scope = repository_scope(await self._full_name(visit, name), need)
        principal = await self.identify(visit, scope=scope)
        found = await self._database.read(_look, principal, name, visit.door, need)
        if found is None and sees_everything(principal):
            raise name_unknown(name)
        if found is None or need not in found.actions:
            raise self.insufficient(visit, principal, scope)
        return _call(visit, principal, name, found)

    async def also(self, call: Call, name: str, need: Action) -> Call | None:
        """The same caller on another image, for the source of a mount; None if they lack the right there."""
        found = await self._database.read(_look, call.principal, name, call.visit.door, need)
        if found is None or need not in found.actions:
            return None
        return _call(call.visit, call.principal, name, found)

    async def never_asked_for(self, call: Call, name: str) -> bool:
        """Whether the caller came by a registry token that does not mention this image: a new one may help.

        An image may stand there under its full name, if the caller holds anything there; else as it was asked for, so
        that this tells nothing of what exists.
        """
        entries = call.principal.token_access
        if entries is None or not call.principal.never_asked_for(name):
            return False
        place = await self._database.read(routing.find, name, call.visit.door)
        return place is None or (place.full_name, place.record.id) not in {
            (entry.name, entry.repository_id) for entry in entries
        }

    async def _full_name(self, visit: Visit, name: str) -> str:
        """What a token has to be asked for: a mirror's clients do not send `ns` to the token endpoint."""
        if visit.door.namespace is None:
            return name
        place = await self._database.read(routing.find, name, visit.door)
        if place is None:
            raise _namespace_unknown(visit.door.namespace)
        return place.full_name

    def confirmation(self, call: Call, need: Action) -> "Confirmation":
        """The same question once more, for the transaction that ends the request: bodies can take hours to come."""
        return Confirmation(self, call, need)

    def confirm(self, tx: Transaction, call: Call, need: Action) -> RepositoryRecord:
        """The repository as it is now, if the caller still holds the right there; else the refusal of `enter`."""
        principal = self._authenticator.renewed(tx, call.principal)
        found = None if principal is None else _look(tx, principal, call.name, call.visit.door, need)
        if found is None or found.place.record.id != call.repository.id or need not in found.actions:
            raise self.insufficient(call.visit, call.principal, repository_scope(call.token_name, need))
        return found.place.record

    async def enter_registry(self, visit: Visit) -> Principal:
        """Admit to `/v2/` itself: any account, or any token. Clients learn the scheme here (row CH-02)."""
        principal = await self.identify(visit)
        if principal.is_anonymous and principal.token_access is None:
            raise self.refusal(visit, scope=None, message="authentication required")
        return principal

    async def enter_catalog(self, visit: Visit) -> Principal:
        """Admit to the list of repositories, which the caller then sees filtered."""
        principal = await self.identify(visit, scope=CATALOG_SCOPE)
        if not may_read_catalog(principal):
            raise self.insufficient(visit, principal, CATALOG_SCOPE)
        return principal

    def insufficient(self, visit: Visit, principal: Principal, scope: str) -> RegistryError:
        """The refusal for a missing right: a challenge that makes clients ask again with the scope (row CH-08)."""
        if principal.is_anonymous and principal.token_access is None:
            return self.refusal(visit, scope=scope, message="authentication required")
        return self.refusal(visit, scope=scope, error="insufficient_scope", message="access to the resource is denied")

    def refusal(self, visit: Visit, *, scope: str | None, message: str, error: str | None = None) -> RegistryError:
        """401 with the one Bearer challenge (rows CH-02 to CH-09)."""
        header = challenge(realm=visit.realm(), service=self._service, scope=scope, error=error)
        return RegistryError(Code.UNAUTHORIZED, message, detail=_detail(scope), headers={"WWW-Authenticate": header})


class Confirmation:
    """Called within the writing transaction; afterwards `repository` is the row as that transaction sees it."""

    def __init__(self, guard: Guard, call: Call, need: Action) -> None:
        self._guard, self._call, self._need = guard, call, need
        self.repository = call.repository

    def __call__(self, tx: Transaction) -> None:
        """Raise `RegistryError` 401 if the right has gone since the request began (row A17)."""
        self.repository = self._guard.confirm(tx, self._call, self._need)


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a request leads and what the caller may do there; `view`: the virtual repository that it came through."""

    place: Place
    actions: frozenset[Action]
    view: Place | None = None


def _look(tx: Transaction, principal: Principal, name: str, door: Door, need: Action) -> _Found | None:
    place = routing.find(tx, name, door)
    if place is None:
        return None
    found = _Found(place, rights(tx, principal, place.record, place.full_name))
    if need is not Action.PUSH or place.record.repository_type != routing.VIRTUAL or need not in found.actions:
        return found
    target = routing.destination(tx, place.record, place.image)
    return found if target is None else _Found(target, found.actions, view=place)


def _call(visit: Visit, principal: Principal, name: str, found: _Found) -> Call:
    return Call(visit, principal, found.place.record, found.place.image, name, found.actions, found.view)


def _namespace_unknown(namespace: str) -> RegistryError:
    return RegistryError(
        Code.NAME_UNKNOWN, f"no repository here mirrors {shown(namespace)}: give one that namespace, or ask elsewhere"
    )


def _detail(scope: str | None) -> list[dict[str, str]] | None:
    if scope is None:
        return None
    entries = []
    for part in scope.split(" "):
        kind, _, rest = part.partition(":")
        name, _, actions = rest.rpartition(":")
        entries += [{"Type": kind, "Name": name, "Action": action} for action in actions.split(",")]
    return entries
