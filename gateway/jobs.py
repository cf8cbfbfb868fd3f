"""Every periodic job of a worker, in one nursery. Some run in each worker, some once per installation.

A job that is for the whole installation holds a lease in the database while it runs, measured by the database's clock:
one worker runs it, and another takes over when that one is gone. The lease is short and renewed; a worker that can no
longer renew it stops the job before the lease ends, so two never run at once. A job that fails is logged and tried
again at its next turn; it never ends the worker.
"""

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from gateway.logs import get_logger
from storage import Database, StorageError, Transaction
from storage.metadata import clock as clocks
from storage.metadata import leases

# A worker that dies keeps others from its job until its lease has ended and another has looked: 30 s at most.
_LEASE_S: Final = 20
_LOOK_S: Final = 10.0
_RENEW_S: Final = 6.0  # twice may fail
_TRY_AGAIN_S: Final = 1.0
_MARGIN_S: Final = 3.0  # for a job to stop, before the lease ends
_DEADLINE_S: Final = 270.0
_LAST_RUN_S: Final = 5.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """`run` every `every_s` seconds. `alone`: once per installation, under a lease of this name, else per worker.

    `at_end`: also once when the worker stops, under a short deadline, so that nothing collected is dropped.
    `deadline_s`: a run that lasts longer is cancelled; none may last for ever.
    """

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]
    alone: bool = False
    at_end: bool = False
    deadline_s: float = _DEADLINE_S


@dataclass(slots=True)
class Lease:
    """A lease that is held. Its holder says whether the work ended well; the lease says whether it was lost."""

    ended_well: bool = False
    is_lost: bool = False


async def run(jobs: Sequence[Job], *, database: Database, clock: Callable[[], float] = time.time) -> None:
    """Run the jobs until cancelled; then the last runs, shielded, each under its own deadline."""
    holder = secrets.token_hex(8)
    try:
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(_repeat, job, database, clock, holder)
    finally:
        for job in jobs:
            if job.at_end:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_RUN_S) as scope:
                    await _guarded(job)
                if scope.cancelled_caught:
                    _log.warning("job_last_run_out_of_time", job=job.name, deadline_s=_LAST_RUN_S)


async def take_turn(job: Job, *, database: Database, clock: Callable[[], float], holder: str) -> bool:
    """One turn of a job in the worker `holder`: whether it ran, and ended well.

    A job that runs `alone` does so only if nobody else is at it and it last ended well `every_s` ago or longer. Trouble
    of the job or of the database is logged, never raised. Cancelling ends the run and lets go of the lease at once.
    """
    if not job.alone:
        return await _guarded(job)

    try:
        async with hold_lease(job.name, database=database, clock=clock, holder=holder, every_s=job.every_s) as lease:
            if lease is None:
                return False
            lease.ended_well = await _guarded(job)
    except StorageError as error:
        _log.warning("job_lease_failed", job=job.name, error=str(error))
        return False
    if lease.is_lost:
        _log.warning("job_lease_lost", job=job.name)
    return lease.ended_well


@asynccontextmanager
async def hold_lease(
    name: str, *, database: Database, clock: Callable[[], float], holder: str, every_s: float = 0.0
) -> AsyncIterator[Lease | None]:
    """Hold the lease `name` for the block, renewing it for as long as the block takes.

    None if another holds it, or if the work last ended well less than `every_s` seconds ago. If the lease is lost, or
    cannot be renewed in time, the block is cancelled and left quietly, and `is_lost` is set. Raises `StorageError` if
    it cannot be taken; trouble in letting go is logged, as time puts it right.
    """
    began_at = trio.current_time()
    turn = _Turn(name, holder, clock, every_s)
    if not (await database.read(turn.is_due) and await database.transaction(turn.take)):
        yield None
        return
    lease, failure, is_over = Lease(), None, False
    try:
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = began_at + _LEASE_S - _MARGIN_S
            nursery.start_soon(_renew, turn, database, nursery.cancel_scope)
            try:
                yield lease
            except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it
                failure = error
            is_over = True
            nursery.cancel_scope.cancel()
        lease.is_lost = not is_over
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_RUN_S):
            await _release(turn, database, ended_well=lease.ended_well and is_over)
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a worker asks of the database about one lease."""

    name: str
    holder: str
    clock: Callable[[], float]
    every_s: float

    def is_due(self, tx: Transaction) -> bool:
        """A look that keeps no writer waiting: `take` decides."""
        now = clocks.now(tx, self.clock)
        last = leases.last_run_at(tx, self.name)
        if last is not None and 0 <= now - last < self.every_s:  # a time to come was written by a clock that was wrong
            return False
        return leases.is_free(tx, self.name, holder=self.holder, now=now, lifetime_s=_LEASE_S)

    def take(self, tx: Transaction) -> bool:
        if not self.is_due(tx):
            return False
        now = clocks.now(tx, self.clock)
        return leases.take(tx, self.name, holder=self.holder, now=now, lifetime_s=_LEASE_S)

    def renew(self, tx: Transaction) -> bool:
        now = clocks.now(tx, self.clock)
        return leases.renew(tx, self.name, holder=self.holder, now=now, lifetime_s=_LEASE_S)

    def release(self, tx: Transaction, *, ended_well: bool) -> None:
        leases.release(tx, self.name, self.holder, ended_well_at=clocks.now(tx, self.clock) if ended_well else None)


async def _renew(turn: _Turn, database: Database, held: trio.CancelScope) -> None:
    """Renew the lease until it is lost; the scope's deadline stands while the database does not answer."""
    pause_s = _RENEW_S
    while True:
        await trio.sleep(pause_s)
        began_at = trio.current_time()
        try:
            is_held = await database.transaction(turn.renew)
        except StorageError as error:
            _log.warning("job_lease_failed", job=turn.name, error=str(error))
            pause_s = _TRY_AGAIN_S
            continue
        if not is_held:
            held.cancel()
            return
        held.deadline = began_at + _LEASE_S - _MARGIN_S
        pause_s = _RENEW_S


async def _repeat(job: Job, database: Database, clock: Callable[[], float], holder: str) -> None:
    pause = min(job.every_s, _LOOK_S) if job.alone else job.every_s
    while True:
        await trio.sleep(pause)
        await take_turn(job, database=database, clock=clock, holder=holder)


async def _release(turn: _Turn, database: Database, *, ended_well: bool) -> None:
    """Let go of the lease; what fails here, time puts right."""
    try:
        await database.transaction(turn.release, ended_well=ended_well)
    except StorageError as error:
        _log.warning("job_lease_failed", job=turn.name, error=str(error))


async def _guarded(job: Job) -> bool:
    """One run under the deadline; False if it failed or did not end in time."""
    try:
        with trio.move_on_after(job.deadline_s) as scope:
            await job.run()
    except Exception as error:  # noqa: BLE001  # whatever it is, the next run may do better and the worker goes on
        _log.error("job_failed", job=job.name, exc_info=error)
        return False
    if scope.cancelled_caught:
        _log.warning("job_out_of_time", job=job.name, deadline_s=job.deadline_s)
    return not scope.cancelled_caught
