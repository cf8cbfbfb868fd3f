"""All of `gateway.access` put together over one database, with a clock that tests set by hand."""

from dataclasses import dataclass

from gateway.access.accounts import Accounts
from gateway.access.actions import Action
from gateway.access.authenticate import Authenticator
from gateway.access.exchange import TokenAnswer, TokenService
from gateway.access.keyring import Algorithm, Keyring
from gateway.access.passwords import Passwords
from gateway.access.principal import Principal
from gateway.access.rights import rights
from gateway.access.sealing import Sealer
from gateway.access.tokens import TokenIssuer
from gateway.oci.scopes import parse_scopes
from gateway.repositories import routing
from storage import AccountRecord, Database, RepositoryRecord, Transaction
from storage.metadata import projects, repositories, storages

SERVICE = "sluice"
SECRET_KEY = bytes(range(32))
START = 1_800_000_000
DAY = 86400


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        """Now."""
        return self.now


@dataclass
class House:
    """One process of the gateway, as far as access goes; several may share a database and a clock."""

    database: Database
    clock: Clock
    passwords: Passwords
    keyring: Keyring
    issuer: TokenIssuer
    authenticator: Authenticator
    tokens: TokenService
    accounts: Accounts

    @classmethod
    async def build(
        cls,
        database: Database,
        clock: Clock,
        *,
        algorithm: Algorithm = "HS256",
        service: str = SERVICE,
        rotation_s: int = 30 * DAY,
    ) -> "House":
        """A process that has started: its keys are loaded, or made if there were none."""
        passwords = Passwords(threads=2, queue=64)
        keyring = Keyring(
            database,
            sealer=Sealer(SECRET_KEY),
            algorithm=algorithm,
            rotation_s=rotation_s,
            token_lifetime_s=300,
            clock=clock,
        )
        await keyring.refresh()
        issuer = TokenIssuer(keyring, service=service, lifetime_s=300, clock=clock)
        authenticator = Authenticator(database, passwords, issuer=issuer, clock=clock)
        tokens = TokenService(
            database, authenticator, issuer=issuer, service=service, refresh_lifetime_s=90 * DAY, clock=clock
        )
        return cls(
            database,
            clock,
            passwords,
            keyring,
            issuer,
            authenticator,
            tokens,
            Accounts(database, passwords, clock=clock),
        )

    async def repository(
        self, project: str = "acme", name: str = "images", *, anonymous_read: bool = False, is_catch_all: bool = False
    ) -> RepositoryRecord:
        """A new hosted repository; its project is made with the first."""

        def create(tx: Transaction) -> RepositoryRecord:
            place = projects.find(tx, project) or projects.create(tx, name=project, description="", now=START)
            return repositories.create(
                tx,
                project_id=place.id,
                name=name,
                description="",
                format="docker",
                repository_type="hosted",
                storage_id=storages.ensure(tx, "default"),
                flat_alias_prefix=None,
                is_catch_all=is_catch_all,
                anonymous_read=anonymous_read,
                immutable_tags=(),
                now=START,
            )

        return await self.database.transaction(create)

    async def user(self, name: str = "alice") -> AccountRecord:
        """A user without a password, to be spared the hashing."""
        return await self.accounts.create_user(name, None)

    async def ask(self, principal: Principal, *scopes: str, offline: bool = False) -> TokenAnswer:
        """What the token endpoint answers."""
        return await self.tokens.grant(principal, parse_scopes(scopes), offline=offline)

    async def allowed(self, principal: Principal, name: str) -> set[str]:
        """What the guard would let the caller do on an image now."""

        def look(tx: Transaction) -> frozenset[Action]:
            place = routing.find(tx, name)
            return rights(tx, principal, place.record, place.full_name) if place else frozenset()

        return set(await self.database.read(look))

    async def allowed_with(self, token: str, name: str) -> set[str]:
        """The same for who sends that text as a bearer token; raises `InvalidToken`."""
        return await self.allowed(await self.authenticator.bearer(token), name)
