"""From a repository's row to the object that serves it: one closed match on its type."""

from collections.abc import Callable

from gateway.repositories.contract import Caller, OpenRepository, Repository
from gateway.repositories.hosted import HostedRepository
from gateway.repositories.migrating import MigratingRepository
from gateway.repositories.proxy import ProxyRepository
from gateway.repositories.pulling import PATIENCE_S, Means
from gateway.repositories.turns import Turns
from gateway.repositories.virtual import VirtualRepository
from gateway.upstream.opening import Upstreams
from gateway.upstream.settings import UpstreamSettings, upstream_of
from storage import Arrivals, Content, Database, RepositoryRecord, Unavailable

__all__ = ["OpenRepository", "opener"]


def opener(
    *,
    database: Database,
    content: Content,
    clock: Callable[[], float],
    upstreams: Upstreams | None = None,
    arrivals: Arrivals | None = None,
    turns: Turns | None = None,
    patience_s: float = PATIENCE_S,
) -> OpenRepository:
    """The function that opens repositories for one process; it raises `Unavailable` for what this program cannot serve.

    Without `upstreams`, `arrivals` and `turns` only what needs no upstream is opened. `patience_s`: see `Means`.
    """
    means: Means | None = None
    if upstreams is not None and arrivals is not None and turns is not None:
        means = Means(database, content, upstreams, arrivals, turns, clock, patience_s=patience_s)

    def open_repository(record: RepositoryRecord, caller: Caller) -> Repository:
        settings = _upstream(record)
        match record.repository_type:
            case "hosted" if settings is None:
                return HostedRepository(record, database=database, content=content, clock=clock, caller=caller)
            case "hosted" if means is not None and settings is not None:
                return MigratingRepository(record, settings, means, caller=caller)
            case "proxy" if means is not None and settings is not None:
                return ProxyRepository(record, settings, means)
            case "virtual":
                return VirtualRepository(record, caller, database=database, open_repository=open_repository)
            case "hosted" | "proxy":
                wanting = "names no upstream" if settings is None else "needs an upstream, which this process has not"
                raise Unavailable(f"repository {record.full_name} {wanting}")
            case unknown:
                raise Unavailable(f"repository {record.full_name} has the unknown type {unknown!r}: upgrade Sluice")

    return open_repository


def _upstream(record: RepositoryRecord) -> UpstreamSettings | None:
    try:
        return upstream_of(record.settings)
    except ValueError as error:
        raise Unavailable(f"repository {record.full_name} has settings of a newer version: upgrade Sluice") from error
