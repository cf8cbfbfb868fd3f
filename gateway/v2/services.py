"""What the endpoints of /v2 work with; made once per process by the composition root."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.access.exchange import TokenService
from gateway.config import Limits
from gateway.edge.guard import Guard
from gateway.repositories.opening import OpenRepository
from gateway.v2.lane import Lane
from gateway.v2.large import LargeManifests
from gateway.v2.redirects import Redirects
from storage import Content, Database, Pool


@dataclass(frozen=True, slots=True)
class V2:
    """`cpu` runs what would hold the loop for more than a millisecond (parsing large manifests)."""

    guard: Guard
    tokens: TokenService
    open_repository: OpenRepository
    content: Content
    database: Database
    cpu: Pool
    large: LargeManifests
    lane: Lane
    redirects: Redirects
    limits: Limits
    service: str
    body_idle_s: float
    clock: Callable[[], float]
