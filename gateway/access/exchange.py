"""The token endpoint without HTTP: registry tokens for scopes, and refresh tokens.

A scope that is not granted is left out, never refused (row TOK-05), whatever the reason, so the answer tells nothing
about what exists. A token carries all rights that the caller holds on what it names, not only those asked: some
clients ask for pull and then push with the same token (clients.md 3.6).
A refresh token belongs to one account, one service and, if it was made through a personal token or robot key, to that;
it ends with any of them, with the account's epoch, or unused for its lifetime. It is not changed by use: clients send
the same one again and in parallel (row T9).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.access.actions import NO_ACTIONS, TOKEN_ACTIONS, Action
from gateway.access.authenticate import Authenticator
from gateway.access.errors import InvalidToken
from gateway.access.principal import Principal, TokenAccess
from gateway.access.rights import may_read_catalog, rights
from gateway.access.secrets import SecretKind, hash_secret, looks_like, mint
from gateway.access.tokens import TokenIssuer, fitting
from gateway.oci.scopes import REGISTRY, REPOSITORY, Scope
from gateway.repositories import routing
from storage import FRONT_DOOR, AccountRecord, CredentialRecord, Database, Door, Transaction
from storage.metadata import credentials

MAX_REFRESH_TOKENS: Final = 10_000
"""Refresh tokens of one account: every login of a fleet makes one. Beyond, the thousand longest unused are dropped."""

_KEPT_REFRESH_TOKENS: Final = 9_000
_EXPIRED_KEPT_S: Final = 30 * 86400  # so that people see which of their tokens ran out
_NOWHERE: Final = 0  # no repository has this id
_POINT_READS: Final = 8  # scopes looked up on the loop, 0.1 ms each; more go to a thread
_CATALOG: Final = Scope(REGISTRY, "catalog", frozenset({"*"}))


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What the token endpoint tells the client. `refresh_token` is None unless a new one was made; secret."""

    token: str
    expires_in_s: int
    issued_at: int
    refresh_token: str | None
    granted: tuple[Scope, ...]


class TokenService:
    """One per process; safe for any number of tasks."""

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        *,
        issuer: TokenIssuer,
        service: str,
        refresh_lifetime_s: int,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._issuer = issuer
        self._service = service
        self._refresh_lifetime_s = refresh_lifetime_s
        self._clock = clock

    async def grant(
        self, principal: Principal, scopes: Sequence[Scope], *, offline: bool, door: Door = FRONT_DOOR
    ) -> TokenAnswer:
        """A token with the rights the principal holds now on what the scopes name; perhaps with none at all.

        `door` is where the token is asked for: names mean there what they will mean in the requests to come. `offline`
        asks for a refresh token. None is made for anonymous callers, nor for those who came by one, which they go on
        using. Raises `InvalidToken` for callers that came by a registry token: it would never end.
        """
        if principal.token_access is not None:
            raise InvalidToken("a registry token cannot be exchanged for another")
        look = self._database.read if len(scopes) <= _POINT_READS else self._database.survey
        held = await look(_held, principal, scopes, door)
        access = fitting([entry for _, entry in held])
        kept = held[: len(access)]
        granted = _granted(kept)
        catalog = may_read_catalog(principal) and any(_is_catalog(scope) for scope in scopes)
        refresh_token = await self._offer_refresh_token(principal) if offline else None
        issued = self._issuer.issue(principal, access=access, catalog=catalog)
        return TokenAnswer(
            token=issued.text,
            expires_in_s=issued.expires_in_s,
            issued_at=issued.issued_at,
            refresh_token=refresh_token,
            granted=(*granted, _CATALOG) if catalog else tuple(granted),
        )

    async def refresh(self, text: str, *, service: str) -> Principal:
        """The account behind a refresh token, narrowed as it was when the token was made (rows OAU-06, OAU-07).

        Raises `InvalidToken` for every reason why it is not, or no longer, good for that service; and storage errors.
        """
        if service != self._service or not looks_like(text, SecretKind.REFRESH):
            raise InvalidToken("no refresh token of this service")
        found = await self._database.read(credentials.by_hash, hash_secret(text))
        if found is None:
            raise InvalidToken("unknown or revoked refresh token")
        credential, account = found
        limits = self._authenticator.usable_limits(credential, account)
        if limits is None or credential.kind != SecretKind.REFRESH or credential.service != service:
            raise InvalidToken("the refresh token has ended with its account, its parent or its service")
        if self._is_idle(credential):
            raise InvalidToken("the refresh token was not used for too long")
        self._authenticator.note_use(credential.id)
        return Principal(account, limits=limits, credential_id=credential.id)

    async def clean(self) -> None:
        """Remove the rows of secrets that ended; for a job, daily. Nothing depends on when it runs."""
        await self._database.transaction(self._clean)

    def _clean(self, tx: Transaction) -> None:
        now = int(self._clock())
        credentials.delete_expired(tx, now - _EXPIRED_KEPT_S)
        credentials.delete_idle(tx, SecretKind.REFRESH, since=now - self._refresh_lifetime_s)

    def _is_idle(self, credential: CredentialRecord) -> bool:
        last = max(credential.created_at, credential.last_used_at or 0)
        return last + self._refresh_lifetime_s <= self._clock()

    async def _offer_refresh_token(self, principal: Principal) -> str | None:
        if principal.account is None or principal.limits.epoch is not None:  # an epoch: it came by a refresh token
            return None
        text, secret_hash = mint(SecretKind.REFRESH)
        await self._database.transaction(self._keep, principal, principal.account, secret_hash)
        return text

    def _keep(self, tx: Transaction, principal: Principal, account: AccountRecord, secret_hash: str) -> None:
        """Store a refresh token that can do what the caller can, no more and no longer."""
        parent = None
        if principal.credential_id is not None:
            parent = credentials.get(tx, principal.credential_id)
            if parent is None:
                raise InvalidToken("the secret was revoked a moment ago")
        credentials.trim(tx, account.id, SecretKind.REFRESH, most=MAX_REFRESH_TOKENS - 1, keep=_KEPT_REFRESH_TOKENS)
        credentials.create(
            tx,
            account_id=account.id,
            kind=SecretKind.REFRESH,
            secret_hash=secret_hash,
            label="",
            limits=replace(principal.limits, epoch=account.epoch).to_json(),
            service=self._service,
            parent_id=parent.id if parent is not None else None,
            created_at=int(self._clock()),
            expires_at=parent.expires_at if parent is not None else None,
        )


def _held(tx: Transaction, principal: Principal, scopes: Sequence[Scope], door: Door) -> list[tuple[str, TokenAccess]]:
    """For each scope: the name as it was asked, and what the principal holds there.

    An entry without rights stays in the token, the same for what is forbidden and what does not exist: it says that the
    client did ask, so that a mount from there is refused softly instead of by another challenge (row MT-03).
    """
    held = []
    for scope in scopes:
        if scope.kind == REPOSITORY:
            name = _without_address(scope.name)
            entries = list(_entries(tx, principal, name, door))
            held += [(scope.name, entry) for entry in entries or [TokenAccess(name, _NOWHERE, NO_ACTIONS)]]
    return held


def _entries(tx: Transaction, principal: Principal, name: str, door: Door) -> Iterator[TokenAccess]:
    """The images that the name may stand for: what it means at this door, and what it is in full.

    Challenges of mirrors (`ns`) have full names, and clients send them to the token endpoint of whatever host they use.
    """
    meant = routing.find(tx, name, door)
    in_full = meant if meant is not None and meant.full_name == name else routing.by_full_name(tx, name)
    for place in dict.fromkeys((meant, in_full)):
        if place is None:
            continue
        actions = rights(tx, principal, place.record, place.full_name) & TOKEN_ACTIONS
        if actions:
            yield TokenAccess(place.full_name, place.record.id, actions)


def _granted(kept: Sequence[tuple[str, TokenAccess]]) -> list[Scope]:
    """What was granted of what was asked, each name once."""
    actions: dict[str, frozenset[Action]] = {}
    for name, entry in kept:
        if entry.actions:
            actions[name] = actions.get(name, NO_ACTIONS) | entry.actions
    return [Scope(REPOSITORY, name, frozenset(granted)) for name, granted in actions.items()]


def _without_address(name: str) -> str:
    """The name as requests have it: some clients write `host:port/` before it in scopes (row TOK-03)."""
    return name.partition("/")[2] if ":" in name else name


def _is_catalog(scope: Scope) -> bool:
    return scope.kind == REGISTRY and scope.name == _CATALOG.name and "*" in scope.actions
