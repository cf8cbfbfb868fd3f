"""Every periodic job of a worker, in one nursery. Some run in each worker, some once per installation.

A job that is for the whole installation holds a lease in the database: one worker runs it, and another takes over
when that one is gone. Every run has a deadline shorter than the lease, so two never run at once. A job that fails is
logged and tried again at its next turn; it never ends the worker.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from gateway.logs import get_logger
from storage import Database, StorageError, Transaction
from storage.metadata import leases

# A worker that dies keeps others from the job for this long at most.
_LEASE_S: Final = 300
_DEADLINE_S: Final = _LEASE_S - 30
# How often a job that must run once per installation looks whether it is due, if that is not sooner.
_LOOK_S: Final = 30.0
_LAST_RUN_S: Final = 5.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """`run` every `every_s` seconds. `alone`: once per installation, under a lease of this name, else per worker.

    `at_end`: also once when the worker stops, under a short deadline, so that nothing collected is dropped.
    """

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]
    alone: bool = False
    at_end: bool = False


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

    def take(tx: Transaction) -> bool:
        now = int(clock())
        last = leases.last_run_at(tx, job.name)
        if last is not None and 0 <= now - last < job.every_s:  # a time to come was written by a clock that was wrong
            return False
        return leases.take(tx, job.name, holder=holder, now=now, lifetime_s=_LEASE_S)

    try:
        if not await database.transaction(take):
            return False
    except StorageError as error:
        _log.warning("job_lease_failed", job=job.name, error=str(error))
        return False
    ended_well = False
    try:
        ended_well = await _guarded(job)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_RUN_S):
            await _release(job, database, holder, int(clock()) if ended_well else None)
    return ended_well


async def _repeat(job: Job, database: Database, clock: Callable[[], float], holder: str) -> None:
    pause = min(job.every_s, _LOOK_S) if job.alone else job.every_s
    while True:
        await trio.sleep(pause)
        await take_turn(job, database=database, clock=clock, holder=holder)


async def _release(job: Job, database: Database, holder: str, ended_well_at: int | None) -> None:
    """Let go of the lease; what fails here, time puts right."""
    try:
        await database.transaction(leases.release, job.name, holder, ended_well_at=ended_well_at)
    except StorageError as error:
        _log.warning("job_lease_failed", job=job.name, error=str(error))


async def _guarded(job: Job) -> bool:
    """One run under the deadline; False if it failed or did not end in time."""
    try:
        with trio.move_on_after(_DEADLINE_S) as scope:
            await job.run()
    except Exception as error:  # noqa: BLE001  # whatever it is, the next run may do better and the worker goes on
        _log.error("job_failed", job=job.name, exc_info=error)
        return False
    if scope.cancelled_caught:
        _log.warning("job_out_of_time", job=job.name, deadline_s=_DEADLINE_S)
    return not scope.cancelled_caught
