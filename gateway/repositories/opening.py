"""From a repository's row to the object that serves it: one closed match on its type."""

from collections.abc import Callable

from gateway.repositories.contract import Caller, OpenRepository, Repository
from gateway.repositories.hosted import HostedRepository
from gateway.repositories.virtual import VirtualRepository
from storage import Content, Database, RepositoryRecord, Unavailable

__all__ = ["OpenRepository", "opener"]


def opener(*, database: Database, content: Content, clock: Callable[[], float]) -> OpenRepository:
    """The function that opens repositories for one process."""

    def open_repository(record: RepositoryRecord, caller: Caller) -> Repository:
        match record.repository_type:
            case "hosted":
                return HostedRepository(record, database=database, content=content, clock=clock)
            case "virtual":
                return VirtualRepository(
                    record, caller, database=database, content=content, open_repository=open_repository
                )
            case unknown:
                raise Unavailable(f"repository {record.full_name} has the unknown type {unknown!r}: upgrade Sluice")

    return open_repository
