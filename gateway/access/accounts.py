"""Acts on accounts, their secrets and their roles, for the command line and the management API alike.

Whether the caller may do them is decided before, by `rights`. Every act is one transaction and takes effect everywhere
at the next request. Errors: `InvalidField` for a value that cannot be used, `Conflict` for a taken name, `NotFound` for
an id that does not exist (or does not belong to the named account), `Overloaded` and storage errors to be tried again.
"""

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Unpack

from gateway.access.account_names import ROBOT, USER, parse_robot_name, parse_user_name
from gateway.access.actions import Role
from gateway.access.errors import InvalidField, LastAdmin, TooManySecrets
from gateway.access.passwords import MAX_PASSWORD_BYTES, Passwords
from gateway.access.principal import NO_LIMITS, Limits
from gateway.access.secrets import SecretKind, kind_of, mint
from storage import AccountRecord, CredentialRecord, Database, GrantRecord, NotFound, Transaction
from storage.metadata import accounts, credentials, grants, projects, repositories

MIN_PASSWORD_CHARS: Final = 8  # NIST SP 800-63B
MAX_ROBOT_KEYS: Final = 2
"""Live keys of one robot: the one in use and the one that replaces it."""

MAX_PERSONAL_TOKENS: Final = 100
DEFAULT_LIFETIME_S: Final = 365 * 86400
"""How long a personal token or robot key lives unless said otherwise: every secret ends (security.md 3.2)."""

_MAX_LIFETIME_S: Final = 10 * 365 * 86400
_MAX_LABEL_CHARS: Final = 128
FIRST_ADMIN: Final = "admin"
_RANDOM_PASSWORD_CHARS: Final = 24  # of 55: 138 bits
_UNAMBIGUOUS: Final = "".join(each for each in string.ascii_letters + string.digits if each not in "0OoIl1i")


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """The account made at the first start, and its password, which is nowhere else in the clear."""

    name: str
    password: str = field(repr=False)
    is_random: bool


@dataclass(frozen=True, slots=True)
class MintedSecret:
    """A new secret: its text, to be shown once, and its row."""

    text: str = field(repr=False)
    credential: CredentialRecord


class Accounts:
    """One per process; safe for any number of tasks."""

    def __init__(self, database: Database, passwords: Passwords, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._passwords = passwords
        self._clock = clock

    # --- users ----------------------------------------------------------------------------------------------------

    async def create_user(
        self,
        name: str,
        password: str | None,
        *,
        description: str = "",
        is_admin: bool = False,
        is_auditor: bool = False,
        expires_at: int | None = None,
    ) -> AccountRecord:
        """A new, enabled user without roles. With `password` None only personal tokens work, once there are some."""
        parse_user_name(name)
        password_hash = None if password is None else await self._hash(password)

        def create(tx: Transaction) -> AccountRecord:
            return accounts.create(
                tx,
                name=name,
                kind=USER,
                description=description,
                password_hash=password_hash,
                is_admin=is_admin,
                is_auditor=is_auditor,
                expires_at=expires_at,
                now=self._now(),
            )

        return await self._database.transaction(create)

    async def ensure_admin(self, password: str | None) -> FirstAdmin | None:
        """Make the user `admin` if there is no account at all, with that password or (None or empty) a random one.

        Of several processes that start at once, one makes it and is given the password; the others get None.
        """
        if await self._database.read(_has_accounts):
            return None
        chosen = password or random_password()
        password_hash = await self._hash(chosen)

        def create(tx: Transaction) -> bool:
            if _has_accounts(tx):
                return False
            accounts.create(
                tx, name=FIRST_ADMIN, kind=USER, password_hash=password_hash, is_admin=True, now=self._now()
            )
            return True

        made = await self._database.transaction(create)
        return FirstAdmin(FIRST_ADMIN, chosen, is_random=not password) if made else None

    async def set_password(self, account_id: int, password: str) -> None:
        """Give a user another password. Ends its registry and refresh tokens; personal tokens go on."""
        password_hash = await self._hash(password)

        def change(tx: Transaction) -> None:
            _require(tx, account_id, kind=USER)
            accounts.set_password(tx, account_id, password_hash, self._now())
            credentials.delete_of_account(tx, account_id, SecretKind.REFRESH)

        await self._database.transaction(change)

    # --- robots ---------------------------------------------------------------------------------------------------

    async def create_robot(
        self, name: str, *, project_id: int | None = None, description: str = "", expires_at: int | None = None
    ) -> AccountRecord:
        """A new robot `sa$name` without keys and roles; with `project_id` it can have roles in that project only."""
        full_name = parse_robot_name(name)

        def create(tx: Transaction) -> AccountRecord:
            if project_id is not None and projects.get(tx, project_id) is None:
                raise NotFound(f"project {project_id} does not exist")
            return accounts.create(
                tx,
                name=full_name,
                kind=ROBOT,
                description=description,
                project_id=project_id,
                expires_at=expires_at,
                now=self._now(),
            )

        return await self._database.transaction(create)

    async def issue_key(
        self, robot_id: int, *, label: str = "", limits: Limits = NO_LIMITS, lifetime_s: int = DEFAULT_LIFETIME_S
    ) -> MintedSecret:
        """A new key of a robot. `TooManySecrets` if it has two live ones: revoke the older first."""
        return await self._mint(
            robot_id,
            SecretKind.ROBOT,
            owner=ROBOT,
            most=MAX_ROBOT_KEYS,
            label=label,
            limits=limits,
            lifetime_s=lifetime_s,
            parent_id=None,
        )

    # --- both -----------------------------------------------------------------------------------------------------

    async def create_personal_token(
        self,
        account_id: int,
        *,
        label: str,
        limits: Limits = NO_LIMITS,
        lifetime_s: int = DEFAULT_LIFETIME_S,
        parent_id: int | None = None,
    ) -> MintedSecret:
        """A new personal token of a user, usable as the password with any user name.

        `parent_id` is the credential that the caller came by: the new token can do no more, lives no longer, and ends
        with it (row A5).
        """
        return await self._mint(
            account_id,
            SecretKind.PERSONAL,
            owner=USER,
            most=MAX_PERSONAL_TOKENS,
            label=label,
            limits=limits,
            lifetime_s=lifetime_s,
            parent_id=parent_id,
        )

    async def revoke(self, account_id: int, credential_id: int) -> None:
        """End a secret of that account, and all that was made through it."""

        def delete(tx: Transaction) -> None:
            credential = credentials.get(tx, credential_id)
            if credential is None or credential.account_id != account_id:
                raise NotFound(f"the account has no secret {credential_id}")
            credentials.delete(tx, credential_id)

        await self._database.transaction(delete)

    async def update(self, account_id: int, **changes: Unpack[accounts.AccountChanges]) -> AccountRecord:
        """Change what is named. `LastAdmin` instead of leaving no enabled admin; robots get no flags."""

        def change(tx: Transaction) -> AccountRecord:
            before = _require(tx, account_id)
            if before.kind == ROBOT and (changes.get("is_admin") or changes.get("is_auditor")):
                raise InvalidField("is_admin" if changes.get("is_admin") else "is_auditor", "robots have roles only")
            after = accounts.update(tx, account_id, now=self._now(), **changes)
            _require_an_admin(tx, before)
            if after is None:
                raise NotFound(f"account {account_id} does not exist")
            return after

        return await self._database.transaction(change)

    async def disable(self, account_id: int) -> AccountRecord:
        """Refuse the account in every way from now on, until it is enabled by `update`."""
        return await self.update(account_id, is_enabled=False)

    async def delete(self, account_id: int) -> None:
        """Remove an account with its secrets, roles and upload sessions. Its id is never used again."""

        def remove(tx: Transaction) -> None:
            before = _require(tx, account_id)
            accounts.delete(tx, account_id)
            _require_an_admin(tx, before)

        await self._database.transaction(remove)

    # --- roles ----------------------------------------------------------------------------------------------------

    async def put_grant(
        self, account_id: int, role: Role, *, project_id: int | None = None, repository_id: int | None = None
    ) -> GrantRecord:
        """Give an account that role on one project or one repository, in place of the one it has there."""

        def put(tx: Transaction) -> GrantRecord:
            account = _require(tx, account_id)
            home = _project_of(tx, project_id=project_id, repository_id=repository_id)
            if account.project_id is not None and account.project_id != home:
                raise InvalidField("account", "a robot of a project has roles in its project only")
            return grants.put(
                tx,
                account_id=account_id,
                project_id=project_id,
                repository_id=repository_id,
                role=role,
                now=self._now(),
            )

        return await self._database.transaction(put)

    async def remove_grant(self, grant_id: int) -> None:
        """Take a role away. The caller has checked whose it is, and where."""

        def remove(tx: Transaction) -> None:
            if not grants.remove(tx, grant_id):
                raise NotFound(f"role {grant_id} does not exist")

        await self._database.transaction(remove)

    # --- details --------------------------------------------------------------------------------------------------

    async def _mint(
        self,
        account_id: int,
        kind: SecretKind,
        *,
        owner: str,
        most: int,
        label: str,
        limits: Limits,
        lifetime_s: int,
        parent_id: int | None,
    ) -> MintedSecret:
        if not 0 < lifetime_s <= _MAX_LIFETIME_S:
            raise InvalidField("lifetime_s", "use 1 second to 10 years")
        if len(label) > _MAX_LABEL_CHARS or not label.isprintable():
            raise InvalidField("label", f"use at most {_MAX_LABEL_CHARS} printable characters")
        text, secret_hash = mint(kind)

        def create(tx: Transaction) -> CredentialRecord:
            now = self._now()
            _require(tx, account_id, kind=owner)
            _require_room(tx, account_id, kind, most=most, now=now)
            narrowed, expires_at = limits, now + lifetime_s
            if parent_id is not None:
                parent = credentials.get(tx, parent_id)
                if parent is None or parent.account_id != account_id:
                    raise NotFound(f"the account has no secret {parent_id}")
                narrowed = limits.narrowed_by(Limits.from_json(parent.limits))
                expires_at = min(expires_at, parent.expires_at or expires_at)
            return credentials.create(
                tx,
                account_id=account_id,
                kind=kind,
                secret_hash=secret_hash,
                label=label,
                limits=narrowed.to_json(),
                service=None,
                parent_id=parent_id,
                created_at=now,
                expires_at=expires_at,
            )

        return MintedSecret(text, await self._database.transaction(create))

    async def _hash(self, password: str) -> str:
        """The hash of an acceptable password; `InvalidField` for others."""
        if len(password) < MIN_PASSWORD_CHARS:
            raise InvalidField("password", f"use at least {MIN_PASSWORD_CHARS} characters")
        if kind_of(password) is not None:
            raise InvalidField("password", "it begins like a generated token and would be taken for one")
        try:
            return await self._passwords.hash(password)
        except ValueError as error:
            raise InvalidField("password", f"use at most {MAX_PASSWORD_BYTES} bytes of UTF-8") from error

    def _now(self) -> int:
        return int(self._clock())


def _has_accounts(tx: Transaction) -> bool:
    return bool(accounts.page(tx, after="", limit=1))


def _require(tx: Transaction, account_id: int, *, kind: str | None = None) -> AccountRecord:
    account = accounts.get(tx, account_id)
    if account is None:
        raise NotFound(f"account {account_id} does not exist")
    if kind is not None and account.kind != kind:
        raise InvalidField("account", f"{account.name} is no {kind}")
    return account


def _require_an_admin(tx: Transaction, changed: AccountRecord) -> None:
    """After a change, inside its transaction: raising undoes the change."""
    if changed.is_admin and changed.is_enabled and accounts.count_admins(tx) == 0:
        raise LastAdmin


def _require_room(tx: Transaction, account_id: int, kind: SecretKind, *, most: int, now: int) -> None:
    """Forget secrets of that kind that have expired, and refuse if as many as may be are still alive."""
    live = 0
    for each in credentials.of_account(tx, account_id, kind):
        if each.expires_at is not None and each.expires_at <= now:
            credentials.delete(tx, each.id)
        else:
            live += 1
    if live >= most:
        raise TooManySecrets(f"the account has {live} live secrets of this kind: revoke one first")


def _project_of(tx: Transaction, *, project_id: int | None, repository_id: int | None) -> int:
    """The id of the project in which a role is given."""
    if (project_id is None) == (repository_id is None):
        raise InvalidField("project_id", "name either a project or a repository")
    if project_id is not None:
        if projects.get(tx, project_id) is None:
            raise NotFound(f"project {project_id} does not exist")
        return project_id
    repository = repositories.get(tx, repository_id) if repository_id is not None else None
    if repository is None:
        raise NotFound(f"repository {repository_id} does not exist")
    return repository.project_id


def random_password() -> str:
    """A password that nobody guesses and everybody can type: 24 unambiguous letters and digits, 138 bits."""
    return "".join(secrets.choice(_UNAMBIGUOUS) for _ in range(_RANDOM_PASSWORD_CHARS))
