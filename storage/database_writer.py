"""The one thread of a process that writes: callers queue, and those who wait together are committed together.

    queued ──claimed by the thread──> begun ──commit or failure──> finished
       └────caller cancelled────> withdrawn

A caller that is cancelled while its job is queued withdraws it: nothing happened. Once begun, the outcome is certain
before the caller goes on: it gets the result or the error, and meets its cancellation at its next checkpoint.

Each job runs inside its own savepoint of one transaction that holds the writers' lock, so a job that raises is undone
alone, and all others share one fsync. If the commit fails, all of them failed. A transaction that has lasted `_HOLD_S`
takes no further jobs: they go into the next one, and other processes get the write lock in between.

If the thread itself fails, everybody who waits gets `Unavailable`, and so does who comes later: nobody waits for ever.

Knows no particular database: a `Committer` begins, runs, commits and names what went wrong.
"""

import copy
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar, cast

import sqlalchemy as sa
import trio

from storage.errors import StorageError, StorageFull, Unavailable

T = TypeVar("T")

# Sharing one fsync among more callers than this gains nothing measurable, and the first waits for the last.
_BATCH: Final = 64
# Each waiting job is a request that waits; more of them than a worker accepts connections means trouble.
_WAITING: Final = 10_000
# Other workers wait this long and one job for the lock; about ten fsyncs of a slow disk, so sharing them still pays.
_HOLD_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """What the writer has done since it was made, and how many wait now. `pauses`: waits for the log to shrink."""

    waiting: int
    commits: int
    jobs: int
    largest_commit: int
    failed_commits: int
    failed_checkpoints: int
    pauses: int


class Committer(Protocol):
    """One connection on which acts are committed, opened when first needed. For the writer's thread only."""

    @property
    def name(self) -> str:
        """What messages call the database."""
        ...

    @property
    def pause_s(self) -> float:
        """How long to leave the lock alone between two transactions of a queue, so that other processes get it."""
        ...

    @property
    def pauses(self) -> int:
        """How often writing had to wait for the log to shrink."""
        ...

    def begin(self) -> None:
        """Begin a transaction and take the writers' lock, waiting its turn."""
        ...

    def attempt(self, work: Callable[[sa.Connection], T], *, alone: bool) -> tuple[T | None, BaseException | None]:
        """Run one act: its result, or what it raised; then it is undone, and those before it are not.

        `alone`: nobody came before it in this transaction, and nobody comes after it. Raises only if the transaction
        cannot go on: `RolledBack` if it is gone because of this act.
        """
        ...

    def commit(self) -> None:
        """Make all acts durable."""
        ...

    def failure(self, error: BaseException) -> BaseException:
        """Undo the transaction, close, and give what all callers are told about an error of the methods above."""
        ...

    def tidy(self) -> bool:
        """What is due between transactions; False if that failed, which the next one will explain."""
        ...

    def close(self) -> None:
        """Close the connection, undoing what is not committed; the next `begin` opens another."""
        ...


class RolledBack(Exception):
    """The database undid the whole transaction because of one act, whose error is `reason`."""

    def __init__(self, reason: BaseException | None) -> None:
        super().__init__(str(reason))
        self.reason = reason or Unavailable("the database ended the transaction")


class _Job(Generic[T]):
    """One call of `transaction` and the task that waits for it."""

    __slots__ = ("_lock", "_state", "error", "result", "task", "work")

    def __init__(self, work: Callable[[sa.Connection], T], task: trio.lowlevel.Task, lock: threading.Lock) -> None:
        self.work = work
        self.task = task
        self.result: T | None = None
        self.error: BaseException | None = None
        self._state = "queued"
        self._lock = lock

    def claim(self) -> bool:
        """The thread takes it; False if it was withdrawn."""
        return self._move_to("begun")

    def withdraw(self) -> bool:
        """The caller takes it back; False if it has begun."""
        return self._move_to("withdrawn")

    def finish(self) -> bool:
        """Its caller is told, once; False if it was told before, or withdrew."""
        return self._move_to("finished", came_from="begun")

    def _move_to(self, state: str, *, came_from: str = "queued") -> bool:
        with self._lock:
            if self._state != came_from:
                return False
            self._state = state
            return True


class Writer:
    """Started and stopped by its database; see the module docstring."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._queue: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._taken: list[_Job[object]] = []  # from the queue, and not yet told the outcome; the thread's own
        self._lock = threading.Lock()
        self._is_broken = False  # under the lock, as is putting: whoever is in the queue by then is told
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._commits = self._jobs = self._largest = self._failed = self._failed_checkpoints = 0

    def start(self) -> None:
        """Start the thread; call it from the Trio run whose tasks will write."""
        self._token = trio.lowlevel.current_trio_token()
        # A daemon, so that an interpreter that exits without aclose() does not hang; open transactions roll back.
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    def stop_nowait(self) -> threading.Thread | None:
        """Take no more jobs; the thread finishes what is queued and ends. Gives the thread, to be joined."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
        return thread

    @property
    def is_running(self) -> bool:
        """Whether jobs are taken."""
        return self._thread is not None and self._thread.is_alive() and not self._is_broken

    async def run(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in the thread and give its result once it is durable."""
        if not self.is_running:
            raise Unavailable(f"{self._committer.name} is not open for writing")
        if self._queue.qsize() >= _WAITING:
            raise Unavailable(f"{_WAITING} writes wait for {self._committer.name} already")
        job = _Job(work, trio.lowlevel.current_task(), self._lock)
        with self._lock:
            if self._is_broken:
                raise Unavailable(f"{self._committer.name} is not open for writing")
            self._queue.put(cast("_Job[object]", job))  # the queue does not look at results

        def abort(_: object) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.SUCCEEDED if job.withdraw() else trio.lowlevel.Abort.FAILED

        await trio.lowlevel.wait_task_rescheduled(abort)
        error, job.error = job.error, None  # the error's traceback refers to frames that refer to the job
        try:
            if error is not None:
                raise error
            return cast("T", job.result)  # no error: `work` returned, and what it returned is a T
        finally:
            del error

    def statistics(self) -> WriterStatistics:
        """A snapshot for metrics."""
        return WriterStatistics(
            waiting=self._queue.qsize(),
            commits=self._commits,
            jobs=self._jobs,
            largest_commit=self._largest,
            failed_commits=self._failed,
            failed_checkpoints=self._failed_checkpoints,
            pauses=self._committer.pauses,
        )

    # --- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised again in the tasks that wait
            self._give_up(error)
        self._committer.close()

    def _serve(self) -> None:
        running = True
        while running:
            running = self._take_waiting()
            while self._taken:
                self._commit_some()
                if self._taken and self._committer.pause_s:
                    time.sleep(self._committer.pause_s)

    def _take_waiting(self) -> bool:
        """Take everybody who waits, `_BATCH` at most, after waiting for the first; False when the thread shall end."""
        try:
            item = self._queue.get()
            while item is not None:
                self._taken.append(item)
                if len(self._taken) == _BATCH:
                    return True
                item = self._queue.get_nowait()
        except queue.Empty:
            return True
        return False

    def _commit_some(self) -> None:
        """One transaction for as many of those taken as there is time for, who are then told."""
        batch = self._taken
        try:
            count = self._commit(batch)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised again in the tasks that wait for these jobs
            self._fail(batch, self._committer.failure(error))
            count = len(batch)
        self._wake(batch[:count])
        self._taken = batch[count:]
        if not self._committer.tidy():
            self._failed_checkpoints += 1

    def _give_up(self, error: BaseException) -> None:
        """Nobody is served any more: tell those who wait, and refuse those who come."""
        with self._lock:
            self._is_broken = True
        jobs, self._taken = self._taken, []
        while not self._queue.empty():
            if (job := self._queue.get_nowait()) is not None:
                jobs.append(job)
        reason = Unavailable(f"the writer of {self._committer.name} ended: restart this process")
        reason.__cause__ = error
        self._fail(jobs, reason)
        self._wake(jobs)

    def _commit(self, batch: list[_Job[object]]) -> int:
        """Run jobs in one transaction until `_HOLD_S` have passed, and commit it; gives how many have their outcome.

        On any trouble of the database they all fail.
        """
        done = count = 0
        try:
            self._committer.begin()
            until = time.monotonic() + _HOLD_S
            while count < len(batch) and (count == 0 or time.monotonic() < until):
                job = batch[count]
                count += 1
                if job.claim():
                    job.result, job.error = self._committer.attempt(job.work, alone=len(batch) == 1)
                    done += job.error is None
            self._committer.commit()
        except RolledBack as error:
            self._committer.close()
            self._fail(batch, error.reason)
            return len(batch)
        self._commits += 1
        self._jobs += done
        self._largest = max(self._largest, done)
        return count

    def _fail(self, batch: list[_Job[object]], error: BaseException) -> None:
        """Nothing of this batch is stored, and everybody hears `error`.

        Also those whose own act raised: they may have seen what others did before them, which now never happened, so
        their "not found" or "exists already" could be wrong.
        """
        self._failed += 1
        for job in batch:
            job.claim()
            job.error = _again(error)

    def _wake(self, batch: list[_Job[object]]) -> None:
        def reschedule() -> None:
            for job in batch:
                if job.finish():
                    trio.lowlevel.reschedule(job.task)

        if batch and self._token is not None:
            try:
                self._token.run_sync_soon(reschedule)
            except trio.RunFinishedError:
                return  # nobody is left to hear it


def _again(error: BaseException) -> StorageError:
    """`error` for one more task: an exception that is raised in two tasks would mix their tracebacks.

    What is wrong with one act only (a conflict, a bug) is not the fault of the others: they may try again.
    """
    if isinstance(error, Unavailable | StorageFull):
        twin: StorageError = copy.copy(error)
        twin.__cause__ = error.__cause__
    else:
        twin = Unavailable(f"the write was not carried out because of {type(error).__name__}")
        twin.__cause__ = error
    return twin
