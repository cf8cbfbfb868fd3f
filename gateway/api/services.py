"""What the handlers of the management API work with, what they are given, and what they give back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from gateway.access.accounts import Accounts
from gateway.access.principal import Principal
from gateway.access.upstream_credentials import UpstreamCredentials
from gateway.api.checks import Checks
from gateway.config import Settings
from gateway.edge.call import Visit
from gateway.edge.guard import Guard
from gateway.edge.visits import Visits
from gateway.repositories.contract import OpenRepository
from gateway.repositories.warming import WarmUps
from gateway.upstream.opening import Upstreams
from storage import AccountRecord, Arrivals, Content, Database, ProjectRecord, RepositoryRecord

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Api:
    """The services of one worker."""

    guard: Guard
    visits: Visits
    database: Database
    content: Content
    accounts: Accounts
    credentials: UpstreamCredentials
    open_repository: OpenRepository
    settings: Settings
    clock: Callable[[], float]
    checks: Checks = field(default_factory=Checks)
    upstreams: Upstreams | None = None
    """None in a process that fetches nothing from other registries; and so are the next two."""
    warm_ups: WarmUps | None = None
    arrivals: Arrivals | None = None

    def now(self) -> int:
        """Unix seconds of the clock that all rows are written with."""
        return int(self.clock())


@dataclass(frozen=True, slots=True)
class Subject:
    """What the path names, as it was found in the snapshot in which the right to it was checked."""

    project_found: ProjectRecord | None = None
    repository_found: RepositoryRecord | None = None
    account_found: AccountRecord | None = None

    @property
    def project(self) -> ProjectRecord:
        """The project that the path names."""
        return _present(self.project_found)

    @property
    def repository(self) -> RepositoryRecord:
        """The repository that the path names."""
        return _present(self.repository_found)

    @property
    def account(self) -> AccountRecord:
        """The user or robot that the path names."""
        return _present(self.account_found)


@dataclass(frozen=True, slots=True)
class Ask:
    """An admitted request: who asks, for what, with which parameters and body."""

    api: Api
    visit: Visit
    principal: Principal
    subject: Subject
    path: Mapping[str, str]
    query: BaseModel | None = None
    body: BaseModel | None = None

    def parameters(self, model: type[ModelT]) -> ModelT:
        """The parameters of the URL; the route names the model."""
        return _of(self.query, model)

    def given(self, model: type[ModelT]) -> ModelT:
        """The body; the route names the model."""
        return _of(self.body, model)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer: JSON, or a `text` of the media type that `headers` name.

    `concerns` names the object in the audit; `status` overrides the route's.
    """

    value: BaseModel | Mapping[str, object] | None = None
    text: bytes | None = None
    concerns: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


FoundT = TypeVar("FoundT")


def _present(found: FoundT | None) -> FoundT:
    if found is None:
        raise TypeError("the need of this route does not look that up")
    return found


def _of(value: BaseModel | None, model: type[ModelT]) -> ModelT:
    if not isinstance(value, model):
        raise TypeError(f"the route does not say that it takes {model.__name__}")
    return value
