"""What a process needs to fetch from other registries: opened together, because each ends before what it stands on.

    Warm-ups -> Turns (who asks for all) -> Upstreams (who is asked, and how) -> Arrivals (blobs to come) -> Intakes

Knows in which order these open and close, and nothing of what is asked.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.config import Settings
from gateway.jobs import Job
from gateway.logs import get_logger
from gateway.repositories.turns import Turns
from gateway.repositories.warming import WarmUps
from gateway.upstream.opening import Unseal, Upstreams
from storage import Arrivals, Content, Database, Intakes, Pool

_TIDY_S: Final = 60.0
"""Between two looks at arrivals that nobody came back for."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fetching:
    """One per process that serves pulls."""

    upstreams: Upstreams
    arrivals: Arrivals
    turns: Turns
    warm_ups: WarmUps

    def jobs(self) -> Sequence[Job]:
        """What is to be done for it beside answering."""
        return [Job("arrivals", _TIDY_S, self._tidy)]

    async def _tidy(self) -> None:
        await self.turns.tidy()
        if removed := await self.arrivals.upkeep():
            _log.info("arrivals_removed", count=removed)


@asynccontextmanager
async def open_fetching(
    settings: Settings, database: Database, content: Content, unseal: Unseal, *, clock: Callable[[], float]
) -> AsyncIterator[Fetching]:
    """Open all of it over an open database and prepared content. On leaving, what is being fetched is given up.

    What is raised inside comes out as it is, not in the groups of the nurseries that are opened here. Raises
    `Unavailable` or `StorageFull` where the directory of arrivals cannot be used.
    """
    async with AsyncExitStack() as stack:
        intakes = await stack.enter_async_context(Intakes.open())
        arrivals = Arrivals(
            settings.storage.arrivals,
            content=content,
            database=database,
            intakes=intakes,
            pool=Pool("arrivals", settings.storage.threads),
            is_shared=settings.storage.database_url is not None,
            clock=clock,
        )
        await arrivals.prepare()
        upstreams = await stack.enter_async_context(Upstreams.open(database, unseal, clock=clock))
        turns = await stack.enter_async_context(Turns.open(database, clock=clock))
        warm_ups = await stack.enter_async_context(WarmUps.open(database, clock=clock))
        yield Fetching(upstreams, arrivals, turns, warm_ups)
