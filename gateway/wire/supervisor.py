"""Processes: one worker each, restarted when they die, stopped together. Knows no HTTP and never runs an event loop.

Workers are forked, not spawned: a fork takes a millisecond, shares the imported code, and inherits exactly the
configuration that was checked. That is safe only while this process has one thread and no open database, so whoever
calls `supervise` opens neither before. Signals are blocked and taken one at a time (sigtimedwait): no handlers, no
races.

    starting --lived settle_s or sibling did--> running --died--> waiting (back-off) --> starting
    any --silent (`heartbeat`)--> SIGKILL, and so died
    any --SIGTERM or SIGINT--> stopping: SIGTERM to all, stop_timeout_s later SIGKILL
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from gateway.logs import get_logger
from gateway.wire.heartbeat import Heartbeats
from gateway.wire.sockets import open_listeners, reserve

RunWorker = Callable[[int, Sequence[socket.socket]], None]
"""Serves on the listening sockets until SIGTERM, in a process of its own; the number is 0 to workers - 1."""

_STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS: Final = _STOPS | {signal.SIGCHLD}
"""What is waited for. CPython gives any number at all when SIGCONT interrupts the wait after its time is over."""
_BACK_OFF_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Waiting time before the n-th restart in a row: at once for the first, then patient with whatever is broken."""
_SETTLED_S: Final = 10.0
"""A worker that lived this long is not the victim of a broken installation; a guess."""
_AFTER_KILL_S: Final = 0.2
_NOTHING_DUE_S: Final = 3600.0
_PR_SET_PDEATHSIG: Final = 1
_TOLD_TO_STOP: Final = frozenset({-signal.SIGTERM, -signal.SIGINT})
"""A worker that serves catches these; one that dies of them had not begun to serve, or had finished (the signal can
come twice, from the terminal and from us)."""

_log = get_logger(__name__)


@dataclass(slots=True)
class _Slot:
    """One worker's place: its process while it lives, and when the next may start."""

    number: int
    pid: int | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    failures: int = 0


def supervise(
    run_worker: RunWorker,
    *,
    listen: str,
    workers: int,
    stop_timeout_s: float,
    user_timeout_s: float = 60.0,
    heartbeats: Heartbeats | None = None,
) -> int:
    """Run workers on `HOST:PORT` until SIGTERM or SIGINT; the exit status is the worst of theirs, 0 if all ended well.

    With one worker there is no supervisor: `run_worker` runs in this process and what it raises comes out. With more,
    each runs in a forked process with sockets of its own; one that dies is restarted with back-off while the others
    keep serving. With `heartbeats`, in which `run_worker` must have its worker's loop count (`Heartbeats.beating`), one
    that hangs is killed and so restarted. If every worker fails before any has lived 10 s, nothing is restarted and
    that status is returned.
    `stop_timeout_s` after the stop signal, what still runs is killed.

    Raises `ListenError` when the address is taken and RuntimeError when called with threads running.
    """
    with ExitStack() as held:
        reserved = [held.enter_context(sock) for sock in reserve(listen)]
        if workers == 1:
            run_worker(
                0, [held.enter_context(sock) for sock in open_listeners(reserved, user_timeout_s=user_timeout_s)]
            )
            return 0
        if threading.active_count() > 1:
            raise RuntimeError("workers are forked, so no thread may run yet: open databases inside the worker")

        def start(number: int) -> None:
            run_worker(number, open_listeners(reserved, user_timeout_s=user_timeout_s))

        return _Supervisor(start, workers=workers, stop_timeout_s=stop_timeout_s, heartbeats=heartbeats).run()


class _Supervisor:
    def __init__(
        self, start: Callable[[int], None], *, workers: int, stop_timeout_s: float, heartbeats: Heartbeats | None
    ) -> None:
        self._start_worker = start
        self._heartbeats = heartbeats
        self._slots = [_Slot(number) for number in range(workers)]
        self._stop_timeout_s = stop_timeout_s
        self._kill_at: float | None = None
        self._settled = False
        self._status = 0
        self._caller_mask: Iterable[int] = ()

    def run(self) -> int:
        self._caller_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            while self._start_due() or self._alive() or self._kill_at is None:
                arrived = signal.sigtimedwait(_SIGNALS, self._next_event_s())
                if arrived is not None and arrived.si_signo in _STOPS and self._kill_at is None:
                    self._stop(signal.Signals(arrived.si_signo).name)
                self._reap()
                self._end_silent()
                if self._kill_at is not None and time.monotonic() >= self._kill_at:
                    self._signal_all(signal.SIGKILL)
            return self._status
        finally:
            self._signal_all(signal.SIGKILL)  # only after an exception of our own is anybody left
            signal.pthread_sigmask(signal.SIG_SETMASK, self._caller_mask)

    def _start_due(self) -> bool:
        """Start every worker whose time has come; True while any is to be started later."""
        if self._kill_at is not None:
            return False
        now = time.monotonic()
        for slot in self._slots:
            if slot.pid is None and slot.restart_at <= now:
                slot.started_at = now
                slot.pid = self._fork(slot)
                if self._heartbeats is not None:
                    self._heartbeats.forget(slot.number)
                _log.info("worker_started", worker=slot.number, pid=slot.pid)
        return any(slot.pid is None for slot in self._slots)

    def _fork(self, slot: _Slot) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(slot.number, supervisor)
        return pid

    def _become_worker(self, number: int, supervisor: int) -> NoReturn:
        """The life of the forked process; leaves by `_exit`, so that nothing of the parent's runs twice."""
        status = 1
        try:
            _die_with(supervisor)
            for each in (signal.SIGINT, signal.SIGTERM):  # before and after serving they just end the process
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._caller_mask)
            self._start_worker(number)
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:  # noqa: ASYNC103, BLE001  # the process ends here, and says why
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _alive(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.pid is not None]

    def _next_event_s(self) -> float:
        now = time.monotonic()
        if self._kill_at is not None:  # killed ones take a moment to be gone; that is told by SIGCHLD
            return self._kill_at - now if self._kill_at > now else _AFTER_KILL_S
        waiting = [slot.restart_at - now for slot in self._slots if slot.pid is None]
        if self._heartbeats is not None:
            waiting.append(self._heartbeats.due_in_s())
        return max(min(waiting, default=_NOTHING_DUE_S), 0)

    def _end_silent(self) -> None:
        """Kill the workers that hang. During a stop there is a deadline anyway, and a loop that closes may be busy."""
        if self._heartbeats is None or self._kill_at is not None or self._heartbeats.due_in_s() > 0:
            return
        for number in self._heartbeats.look():
            pid = self._slots[number].pid
            if pid is not None:
                _log.error("worker_hangs", worker=number, pid=pid)
                os.kill(pid, signal.SIGKILL)
                self._heartbeats.forget(number)  # once per process; one that the kernel holds dies when it lets go

    def _stop(self, reason: str) -> None:
        _log.info("supervisor_stopping", reason=reason, workers=len(self._alive()))
        self._kill_at = time.monotonic() + self._stop_timeout_s
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for slot in self._alive():
            with suppress(ProcessLookupError):
                os.kill(slot.pid or 0, number)

    def _reap(self) -> None:
        for slot in self._alive():
            pid, code = os.waitpid(slot.pid or 0, os.WNOHANG)
            if pid:
                self._ended(slot, os.waitstatus_to_exitcode(code))

    def _ended(self, slot: _Slot, code: int) -> None:
        lived_s = time.monotonic() - slot.started_at
        is_wanted = self._kill_at is not None and (code == 0 or code in _TOLD_TO_STOP)
        say = _log.info if is_wanted else _log.warning
        say("worker_ended", worker=slot.number, pid=slot.pid, status=code, lived_s=round(lived_s, 1))
        slot.pid = None
        if self._kill_at is not None:
            if code not in _TOLD_TO_STOP:
                self._status = self._status or _shell_status(code)
            return
        self._settled = self._settled or lived_s >= _SETTLED_S
        slot.failures = 1 if lived_s >= _SETTLED_S else slot.failures + 1
        slot.restart_at = time.monotonic() + _BACK_OFF_S[min(slot.failures, len(_BACK_OFF_S)) - 1]
        if code > 0 and not self._settled and all(each.failures for each in self._slots):
            self._status = code
            self._stop("no worker starts")


def _shell_status(code: int) -> int:
    return code if code >= 0 else 128 - code


def _die_with(supervisor: int) -> None:
    """Have the kernel stop this worker when the supervisor is gone, even by SIGKILL: no orphan keeps the port."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:  # it died before we asked
        raise SystemExit(1)
