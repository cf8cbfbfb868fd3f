"""From a repository's row to the upstream that its settings name."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from gateway.upstream.answers import BudgetState
from gateway.upstream.http import Credential
from gateway.upstream.registry import UpstreamRegistry
from storage import Database, RepositoryRecord


class Upstreams:
    """All upstreams of this process; one per process."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, database: Database, unseal: Callable[[bytes, int, int], Credential], *, clock: Callable[[], float]
    ) -> AsyncIterator[Self]:
        """For as long as the context lasts."""
        raise NotImplementedError
        yield

    async def of(self, record: RepositoryRecord) -> UpstreamRegistry:
        """The upstream of the repository. Raises LookupError if its settings name none, StorageError."""
        raise NotImplementedError

    def budgets(self) -> list[BudgetState]:
        """For metrics."""
        raise NotImplementedError
