"""Who is it? From what a client sends to a `Principal`, checked live: the account exists, is enabled, has not expired.

- A password that has the prefix of our random secrets is one, or nothing: it is looked up by its SHA-256 and names its
  owner by itself, whatever user name came with it. That is so for personal tokens and robot keys alike, as clients
  put all sorts of names there (`<token>`, `oauth2accesstoken`, ...), and no right hangs on a name.
- Anything else is the password of the named user. Robots have none.
- Refresh tokens are taken by `exchange` only, never as a password or bearer token.
Knows no HTTP: headers are taken apart in `gateway.edge`. Nothing here writes while a client waits, except a better
password hash; times of last use are collected and written by `flush_usage`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.access.account_names import USER, is_account_name
from gateway.access.errors import BadCredentials, InvalidToken, Overloaded
from gateway.access.passwords import Passwords
from gateway.access.principal import NO_LIMITS, Limits, Principal
from gateway.access.secrets import SecretKind, hash_secret, kind_of, looks_like
from gateway.access.tokens import Claims, TokenIssuer
from gateway.logs import get_logger
from storage import AccountRecord, CredentialRecord, Database, StorageError, Transaction
from storage.metadata import accounts, credentials

MAX_USAGE: Final = 10_000
"""Credentials whose last use waits to be written; about 1 MiB. More within one flush interval are not noted."""

_log = get_logger(__name__)


class Authenticator:
    """One per process; safe for any number of tasks."""

    def __init__(
        self, database: Database, passwords: Passwords, *, issuer: TokenIssuer, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._issuer = issuer
        self._clock = clock
        self._usage: dict[int, int] = {}

    async def basic(self, username: str, password: str) -> Principal:
        """The account behind a user name and password, or behind a secret sent as the password.

        Raises `BadCredentials`, one and the same for every reason and after the same work (row T7), `Overloaded`, and
        storage errors.
        """
        kind = kind_of(password)
        if kind is not None:
            principal = await self._by_secret(password, kind)
            if principal is None:
                raise BadCredentials
            return principal
        found = await self._database.read(self._password_user, username)
        account, stored = found if found is not None else (None, None)
        if not await self._passwords.verify(stored, password) or account is None or stored is None:
            raise BadCredentials
        if self._passwords.needs_rehash(stored):
            await self._renew_hash(account, stored, password)
        return Principal(account, valid_until=_earliest(account.expires_at))

    async def bearer(self, text: str) -> Principal:
        """The account behind a registry token, narrowed to what the token says; or behind a secret sent in its place.

        Raises `InvalidToken` for every token that is not, or no longer, good, and storage errors.
        """
        kind = kind_of(text)
        if kind is not None:
            principal = await self._by_secret(text, kind)
            if principal is None:
                raise InvalidToken("unknown, revoked or expired secret")
            return principal
        claims = await self._issuer.verify(text)
        if claims.account_id is None:
            return Principal(None, token_access=claims.access, catalog=False, valid_until=claims.valid_until)
        account, limits, valid_until = await self._database.read(self._subject, claims)
        return Principal(
            account,
            limits=limits,
            credential_id=claims.credential_id,
            token_access=claims.access,
            catalog=claims.catalog,
            valid_until=valid_until,
        )

    def note_use(self, credential_id: int) -> None:
        """Remember that a credential was shown now; costs no I/O. Called at every use, however it was recognised."""
        if credential_id in self._usage or len(self._usage) < MAX_USAGE:
            self._usage[credential_id] = int(self._clock())

    async def flush_usage(self) -> None:
        """Write down the times of last use; for a job, every few seconds, and once more at the end.

        If it fails or is cancelled, the next call writes them.
        """
        if not self._usage:
            return
        taken, self._usage = self._usage, {}
        try:
            await self._database.transaction(credentials.touch, taken)
        except BaseException:
            self._usage = taken | self._usage  # the newer time of each
            raise

    # --- the ways in ----------------------------------------------------------------------------------------------

    def _password_user(self, tx: Transaction, username: str) -> tuple[AccountRecord, str] | None:
        """The user whose password counts. Everyone else is nobody, so that all are refused by the same work."""
        account = accounts.find(tx, username) if is_account_name(username) else None
        if account is not None and (account.kind != USER or not self.is_live(account)):
            account = None
        stored = accounts.password_hash(tx, account.id if account is not None else 0)  # asked for either way
        return (account, stored) if account is not None and stored is not None else None

    async def _by_secret(self, text: str, kind: SecretKind) -> Principal | None:
        if kind is SecretKind.REFRESH or not looks_like(text, kind):
            return None
        found = await self._database.read(credentials.by_hash, hash_secret(text))
        if found is None:
            return None
        credential, account = found
        limits = self.usable_limits(credential, account)
        if limits is None or credential.kind != kind:
            return None
        self.note_use(credential.id)
        return Principal(
            account,
            limits=limits,
            credential_id=credential.id,
            valid_until=_earliest(account.expires_at, credential.expires_at),
        )

    def _subject(self, tx: Transaction, claims: Claims) -> tuple[AccountRecord, Limits, float]:
        """Account and limits behind a verified token, as they are now, and until when (rows A15, A17, TOK-21)."""
        account = accounts.get(tx, claims.account_id) if claims.account_id is not None else None
        if account is None or not self.is_live(account) or account.epoch != claims.epoch:
            raise InvalidToken("its account was removed, disabled, expired or changed")
        if claims.credential_id is None:
            return account, NO_LIMITS, _earliest(claims.valid_until, account.expires_at)
        credential = credentials.get(tx, claims.credential_id)
        limits = self.usable_limits(credential, account) if credential is not None else None
        if credential is None or limits is None:
            raise InvalidToken("the secret it was exchanged from was revoked or has expired")
        return account, limits, _earliest(claims.valid_until, account.expires_at, credential.expires_at)

    # --- live checks, for the exchange too ----------------------------------------------------------------------------

    def renewed(self, tx: Transaction, principal: Principal) -> Principal | None:
        """The same caller as they are now, for acts that end long after they began; None if they ended meanwhile."""
        if principal.account is None:
            return principal
        account = accounts.get(tx, principal.account.id)
        if account is None or not self.is_live(account) or account.epoch != principal.account.epoch:
            return None
        if principal.credential_id is None:
            return replace(principal, account=account)
        credential = credentials.get(tx, principal.credential_id)
        limits = self.usable_limits(credential, account) if credential is not None else None
        return replace(principal, account=account, limits=limits) if limits is not None else None

    def is_live(self, account: AccountRecord) -> bool:
        """Whether the account may be used at this instant."""
        return account.is_enabled and not self._is_past(account.expires_at)

    def usable_limits(self, credential: CredentialRecord, account: AccountRecord) -> Limits | None:
        """What the credential narrows its account to; None if either of the two is not usable at this instant."""
        if credential.account_id != account.id or not self.is_live(account) or self._is_past(credential.expires_at):
            return None
        try:
            limits = Limits.from_json(credential.limits)
        except ValueError:
            _log.error("credential_limits_unreadable", credential_id=credential.id)
            return None
        return limits if limits.epoch in {None, account.epoch} else None

    def _is_past(self, expires_at: int | None) -> bool:
        return expires_at is not None and expires_at <= self._clock()

    async def _renew_hash(self, account: AccountRecord, stored: str, password: str) -> None:
        """Replace a hash with old parameters by one with today's. The login is good whether or not this works out."""
        try:
            renewed = await self._passwords.hash(password)
            await self._database.transaction(accounts.renew_hash, account.id, stored, renewed)
        except (Overloaded, StorageError) as error:
            _log.warning("password_hash_not_renewed", account=account.name, reason=str(error))


def _earliest(*ends: float | None) -> float:
    """The first of these instants; None never comes."""
    return min((end for end in ends if end is not None), default=math.inf)
