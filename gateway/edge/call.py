"""What the edge knows of a request before any endpoint sees it (`Visit`), and what the guard made of it (`Call`)."""

from dataclasses import dataclass, replace

from gateway.access.actions import Action
from gateway.access.principal import Principal
from gateway.access.rights import rights
from gateway.edge.address import External
from storage import RepositoryRecord, Transaction


@dataclass(frozen=True, slots=True)
class Visit:
    """One request from outside. `authorization` holds every Authorization header as it came."""

    request_id: str
    authorization: tuple[str, ...]
    external: External
    client: str
    user_agent: str

    def realm(self) -> str:
        """Where this client gets tokens: on the very host that it spoke to (row CH-12)."""
        return self.external.url("/v2/token")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for repositories that look further than the one that was asked (`repositories.contract.Caller`)."""

    principal: Principal

    def may_pull(self, tx: Transaction, repository: RepositoryRecord) -> bool:
        """Whether the account itself may read there, whatever door its registry token names."""
        return Action.PULL in rights(tx, replace(self.principal, token_access=None), repository, None)

    def may_push(self, tx: Transaction, repository: RepositoryRecord) -> bool:
        """Whether the account itself may write there."""
        return Action.PUSH in rights(tx, replace(self.principal, token_access=None), repository, None)


@dataclass(frozen=True, slots=True)
class Call:
    """An admitted request on an image: who, where, and what else they may do there.

    `name` is the image's name as the client wrote it; answers repeat it (row TG-01).
    """

    visit: Visit
    principal: Principal
    repository: RepositoryRecord
    image: str
    name: str
    actions: frozenset[Action]

    @property
    def account_id(self) -> int | None:
        """The caller's account; None for anonymous callers."""
        return self.principal.account.id if self.principal.account else None

    @property
    def caller(self) -> Caller:
        """The same, for repositories."""
        return Caller(self.principal)
