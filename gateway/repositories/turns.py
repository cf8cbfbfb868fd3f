"""Doing a thing once although many ask for it at the same time: in this process, and over all that share a database.

Within a process the first who asks starts a task that belongs to `Turns`, and everybody waits for what it gives; who
leaves, the first one too, ends nothing. Over processes a lease holds the others off while they look whether the thing
has come, so one that dies delays them for a while and stops nobody. Of what is done it knows only which trouble is to
be expected.
"""

import copy
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

import trio

from gateway.logs import get_logger
from gateway.upstream.errors import UpstreamBusy, UpstreamError
from storage import Database, StorageError, Transaction, Unavailable, open_background
from storage.metadata import clock as clocks
from storage.metadata import leases

T = TypeVar("T")

Look = Callable[[Transaction], T | None]
"""Whether the thing is there: what it gives, or None."""

_NAME: Final = "turn/"
"""How the names of these leases begin."""
_LEASE_S: Final = 20
"""How long one that died holds the others off. Who takes longer than this may be overtaken: then it is done twice."""
_PATIENCE_S: Final = 30.0
"""After that everybody helps themselves: longer than a lease, shorter than clients wait for a manifest."""
_MOST: Final = 4096
"""At a time: some 20 KB each, with what its question takes."""
_SHARE: Final = 8
"""One may have this part of them: who asks a registry of their own, which never answers, stops nobody else's."""
_LOOK_S: Final = 0.02
_LONGEST_LOOK_S: Final = 0.25
_RELEASE_DEADLINE_S: Final = 5.0
_log = get_logger(__name__)


class Flight(Generic[T]):
    """Something that is being done; made by `Turns.begin`."""

    def __init__(self) -> None:
        self._ended = trio.Event()
        self._value: T | None = None
        self._failure: Exception | None = None
        self._waiters = 0

    async def outcome(self) -> T:
        """Wait for it to end and give its result, or raise what it failed with. Leaving does not end it."""
        self._waiters += 1
        try:
            await self._ended.wait()
        finally:
            self._waiters -= 1
        if self._failure is not None:
            raise _own_copy(self._failure) from self._failure
        return self._value  # type: ignore[return-value]  # it has ended without failing, so this is a T

    async def ended(self) -> None:
        """Wait for it to end, however it does."""
        await self._ended.wait()
        await trio.lowlevel.checkpoint()

    async def run(self, work: Callable[[], Awaitable[T]]) -> None:
        """Do it; for the task of `Turns`. Trouble is kept for who waits, and does not end the task's nursery."""
        try:
            self._value = await work()
        except Exception as error:  # noqa: BLE001 - whoever waits for it raises it
            self._failure = error
            if not isinstance(error, UpstreamError | StorageError):
                _log.error("turn_failed", exc_info=error)
            elif not self._waiters:
                _log.info("turn_in_vain", error=f"{type(error).__name__}: {error}")
        except BaseException:
            self._failure = Unavailable("this process is stopping: retry")
            raise
        finally:
            self._ended.set()


@dataclass(frozen=True, slots=True)
class _Seen(Generic[T]):
    """What a look found; `value` None: nothing, and `is_ours` tells whether we are to do it."""

    value: T | None
    is_ours: bool = False


class Turns:
    """One per process; for the event loop only. See the module docstring."""

    def __init__(
        self, nursery: trio.Nursery, database: Database, *, clock: Callable[[], float], most: int = _MOST
    ) -> None:
        """`most` things are done at once, an eighth of them for one."""
        self._nursery = nursery
        self._most = most
        self._database = database
        self._clock = clock
        self._flights: dict[Hashable, Flight[Any]] = {}
        self._counts: Counter[Hashable] = Counter()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, database: Database, *, clock: Callable[[], float] = time.time, most: int = _MOST
    ) -> AsyncIterator[Self]:
        """For as long as the context lasts; what is being done then is cancelled, and who waits is told `Unavailable`.

        What is raised inside comes out as it is, not in a nursery's group.
        """
        async with open_background() as nursery:
            yield cls(nursery, database, clock=clock, most=most)

    def begin(self, key: Hashable, work: Callable[[], Awaitable[T]], *, whose: Hashable) -> Flight[T]:
        """Do it in a task of ours, unless that is happening already under this key; waits for nothing.

        Raises `UpstreamBusy` when too much is being done, at all or for `whose` it is (the repository): clients may
        leave, and what they asked for goes on.
        """
        flight: Flight[T] | None = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= self._most or self._counts[whose] >= self._most // _SHARE:
                raise UpstreamBusy("too many questions to other registries at once: retry shortly", retry_after_s=1)
            flight = Flight()
            self._nursery.start_soon(self._fly, key, flight, work, whose)
            self._flights[key] = flight
            self._counts[whose] += 1
        return flight

    async def share(self, key: Hashable, work: Callable[[], Awaitable[T]], *, whose: Hashable) -> T:
        """The result of doing it once for all who ask under this key meanwhile; see `begin`."""
        return await self.begin(key, work, whose=whose).outcome()

    async def wait_idle(self) -> None:
        """Wait until nothing is being done in this process."""
        while self._flights:
            await next(iter(self._flights.values())).ended()

    async def alone(self, name: str, look: Look[T], work: Callable[[], Awaitable[T]]) -> T:
        """What `look` finds, or the result of `work`, which is done by one process at a time under this name.

        `look` is a point read and may be run many times. Raises what `work` raises; then the next process tries.
        """
        lease, holder = f"{_NAME}{name}", secrets.token_hex(8)
        give_up_at = trio.current_time() + _PATIENCE_S

        def take(tx: Transaction) -> _Seen[T]:
            found = look(tx)
            if found is not None:
                return _Seen(found)
            now = clocks.now(tx, self._clock)
            return _Seen(None, is_ours=leases.take(tx, lease, holder=holder, now=now, lifetime_s=_LEASE_S))

        while True:
            seen = await self._database.transaction(take)
            if seen.value is not None:
                return seen.value
            if seen.is_ours or trio.current_time() >= give_up_at:
                break
            await self._wait(lease, holder, look, give_up_at)
        try:
            return await work()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _RELEASE_DEADLINE_S):
                await self._release(lease, holder)

    async def tidy(self) -> None:
        """Remove the leases that processes left when they died; for a job, now and then."""

        def drop(tx: Transaction) -> None:
            leases.drop_expired(tx, _NAME, before=clocks.now(tx, self._clock) - 10 * _LEASE_S)

        await self._database.transaction(drop)

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _fly(self, key: Hashable, flight: Flight[T], work: Callable[[], Awaitable[T]], whose: Hashable) -> None:
        try:
            await flight.run(work)
        finally:
            del self._flights[key]
            self._counts[whose] -= 1
            if not self._counts[whose]:
                del self._counts[whose]

    async def _wait(self, lease: str, holder: str, look: Look[T], give_up_at: float) -> None:
        """Until it is there, or nobody is at it any more, or `give_up_at`."""

        def is_over(tx: Transaction) -> bool:
            now = clocks.now(tx, self._clock)
            return look(tx) is not None or leases.is_free(tx, lease, holder=holder, now=now, lifetime_s=_LEASE_S)

        pause_s = _LOOK_S
        while trio.current_time() < give_up_at:  # noqa: ASYNC110 - another process cannot set an event of ours
            await trio.sleep(pause_s)
            if await self._database.read(is_over):
                return
            pause_s = min(pause_s * 1.5, _LONGEST_LOOK_S)

    async def _release(self, lease: str, holder: str) -> None:
        """Let go of the lease; what fails here, time puts right."""
        try:
            await self._database.transaction(leases.drop, lease, holder)
        except StorageError as error:
            _log.warning("lease_release_failed", lease=lease, error=str(error))


def _own_copy(error: Exception) -> Exception:
    """One like it for each who waits: a traceback belongs to one task."""
    try:
        return copy.copy(error)
    except TypeError:  # made with more than its arguments say
        return error
