"""What the edge knows of a request before any endpoint sees it (`Visit`), and what the guard made of it (`Call`)."""

from dataclasses import dataclass

from gateway.access.actions import Action
from gateway.access.principal import Principal
from gateway.access.rights import own_rights
from gateway.edge.address import External
from gateway.oci.paths import MOUNTS
from gateway.repositories.routing import Place
from storage import FRONT_DOOR, Door, RepositoryRecord, Transaction


@dataclass(frozen=True, slots=True)
class Visit:
    """One request from outside. `authorization`: every Authorization header as it came; `door`: where it came in."""

    request_id: str
    authorization: tuple[str, ...]
    external: External
    client: str
    user_agent: str
    door: Door = FRONT_DOOR

    def realm(self) -> str:
        """Where this client gets tokens: on the very host that it spoke to, by the same door (row CH-12)."""
        return self.external.url("/v2/token")

    def path(self, path: str) -> str:
        """A path of the registry API as this client has to write it (row UP-02)."""
        return self.external.prefix + path


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for repositories that look further than the one that was asked (`repositories.contract.Caller`)."""

    principal: Principal

    def may_pull(self, tx: Transaction, repository: RepositoryRecord) -> bool:
        """Whether the account itself may read there, whatever door its registry token names."""
        return Action.PULL in own_rights(tx, self.principal, repository)


@dataclass(frozen=True, slots=True)
class Call:
    """An admitted request on an image: who, where, and what else they may do there.

    `name` is the image's name as the client wrote it; answers repeat it (row TG-01). `repository` and `image` are what
    the request acts on: of a push to a virtual repository, the member that takes it, and `view` is the virtual one.
    """

    visit: Visit
    principal: Principal
    repository: RepositoryRecord
    image: str
    name: str
    actions: frozenset[Action]
    view: Place | None = None

    def path(self, rest: str) -> str:
        """The path of something of this image (`blobs/...`), as this client has to write it for the next request.

        A mirror's client sends its `ns` along only of its own accord: it gets the path of the repository, which leads
        there at every host.
        """
        door = self.visit.door
        if door.namespace is None or door.repository is not None:
            return self.visit.path(f"/v2/{self.name}/{rest}")
        place = self._named
        return self.visit.path(f"{MOUNTS}{place.record.full_name}/v2/{place.image}/{rest}")

    @property
    def token_name(self) -> str:
        """What the image is called where tokens are given: `ns` does not come there, so mirrors have full names."""
        return self.name if self.visit.door.namespace is None else self._named.full_name

    @property
    def _named(self) -> Place:
        """What the client has named, which may be a view."""
        return self.view or Place(self.repository, self.image)

    @property
    def account_id(self) -> int | None:
        """The caller's account; None for anonymous callers."""
        return self.principal.account.id if self.principal.account else None

    @property
    def caller(self) -> Caller:
        """The same, for repositories."""
        return Caller(self.principal)
