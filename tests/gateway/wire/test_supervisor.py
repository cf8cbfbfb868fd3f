"""Processes: workers share a port, one that dies is replaced while others serve, the stop is bounded and truthful."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gateway.wire.supervisor import supervise
from tests.gateway.wire.conftest import ROOT, Served, running
from tests.gateway.wire.raw_client import Cut, eventually, lasting

pytestmark = pytest.mark.slow

SILENCE_S = 3.0
"""Long enough for no worker to be silent only because the machine is busy."""


def workers_of(served: Served) -> set[int]:
    """The process ids of the workers."""
    return {child.pid for child in psutil.Process(served.process.pid).children()}


def serving(served: Served, *, among: int = 60) -> set[int]:
    """Who answers, asked on many connections."""
    return {served.state()["pid"] for _ in range(among)}


def ready_workers(served: Served, count: int) -> set[int]:
    """The workers, once that many answer."""

    def enough() -> set[int] | None:
        try:
            found = serving(served)
        except Cut:  # the kernel had put it into the queue of one that was being killed
            return None
        return found if len(found) == count else None

    found: set[int] = eventually(enough)
    return found


def test_workers_share_one_port(serve: Callable[..., Served]) -> None:
    """Every worker takes connections on the address that was asked for."""
    served = serve(workers=2)

    assert ready_workers(served, 2) == workers_of(served)


def test_h12_a_killed_worker_is_replaced_while_others_serve(serve: Callable[..., Served]) -> None:
    """H12: after SIGKILL of one worker no request of others fails, and soon there are two again."""
    served = serve(workers=2)
    victim, survivor = ready_workers(served, 2)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in workers_of(served))
    answers = serving(served)
    now = ready_workers(served, 2)

    assert victim not in answers
    assert survivor in now
    assert served.process.poll() is None


def test_h12_a_worker_that_keeps_dying_is_restarted_with_patience(serve: Callable[..., Served]) -> None:
    """The first restart is immediate, the second waits; the other worker serves throughout."""
    served = serve(workers=2)
    first, second = ready_workers(served, 2)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: first not in workers_of(served))
    (third,) = ready_workers(served, 2) - {second}
    with lasting(at_least_s=0.2, at_most_s=30):
        os.kill(third, signal.SIGKILL)
        eventually(lambda: third not in workers_of(served))
        ready_workers(served, 2)


def test_a_stopped_worker_is_replaced(serve: Callable[..., Served]) -> None:
    """One that does not run any more, and does not die either, is killed after the silence; the others serve."""
    served = serve(workers=2, silence_s=SILENCE_S)
    victim, survivor = ready_workers(served, 2)
    with lasting(at_least_s=SILENCE_S * 0.8, at_most_s=30):
        os.kill(victim, signal.SIGSTOP)
        eventually(lambda: victim not in workers_of(served))

    assert survivor in ready_workers(served, 2)
    assert "worker_hangs" in served.log.read_text()
    assert served.process.poll() is None


def test_a_worker_whose_loop_is_blocked_is_replaced(serve: Callable[..., Served]) -> None:
    """A handler that never gives the loop back costs its own worker's clients, and those only for a while."""
    served = serve(workers=2, silence_s=SILENCE_S)
    before = ready_workers(served, 2)
    with served.connect() as client:
        client.request("GET", "/hang")
        assert client.closed()  # its worker was killed

    assert len(before & ready_workers(served, 2)) == 1
    served.process.terminate()
    assert served.process.wait(60) == 0


def test_a_machine_that_slept_kills_nobody(serve: Callable[..., Served]) -> None:
    """When all stood still together, as in a paused container, the same workers go on afterwards."""
    served = serve(workers=2, silence_s=SILENCE_S)
    before = ready_workers(served, 2)
    everybody = (served.process.pid, *before)
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > 2 * SILENCE_S)
    for pid in everybody:  # the supervisor first: it must not take the others for dead
        os.kill(pid, signal.SIGCONT)

    assert ready_workers(served, 2) == before
    assert "worker_hangs" not in served.log.read_text()


def test_h17_the_stop_closes_the_port_at_once_and_drains(serve: Callable[..., Served]) -> None:
    """H17: no connection hangs in a backlog during the drain; running answers complete; status 0."""
    served = serve(workers=2, drain_timeout_s=90, send_idle_timeout_s=90, stop_timeout_s=100)
    ready_workers(served, 2)
    clients = [served.connect() for _ in range(4)]
    for client in clients:
        client.request("GET", f"/blob/{32 << 20}").take(1000)
    served.process.terminate()
    eventually(lambda: refuses(served.port))  # while the answers, more than all buffers hold, wait for their readers
    for client in clients:
        client.buffer = b""
        assert len(client.rest()) > 31 << 20

    assert served.process.wait(60) == 0


def test_a_worker_that_does_not_stop_is_killed_and_told(serve: Callable[..., Served]) -> None:
    """After the deadline SIGKILL, and the exit status says so."""
    served = serve(workers=2, drain_timeout_s=60, send_idle_timeout_s=60, stop_timeout_s=1.0)
    ready_workers(served, 2)
    with served.connect(receive_buffer=4096) as stalled:
        stalled.request("GET", f"/blob/{64 << 20}").take(1000)
        with lasting(at_least_s=0.7, at_most_s=30):
            served.process.terminate()
            assert served.process.wait(30) == 128 + signal.SIGKILL


def test_an_interrupt_of_the_whole_group_is_one_stop(serve: Callable[..., Served]) -> None:
    """Ctrl-C reaches workers twice, from the terminal and from the supervisor: still an orderly end."""
    served = serve(workers=2, drain_timeout_s=30, stop_timeout_s=40)
    ready_workers(served, 2)
    with served.connect() as client:
        client.request("GET", "/drip/5/0.1").take(1000)
        for pid in (served.process.pid, *workers_of(served)):
            os.kill(pid, signal.SIGINT)
        client.buffer = b""
        assert len(client.rest()) > 512 << 10

    assert served.process.wait(60) == 0


def test_workers_end_with_their_supervisor(serve: Callable[..., Served]) -> None:
    """A supervisor that is killed leaves no orphan that keeps the port."""
    served = serve(workers=2)
    ready_workers(served, 2)
    workers = workers_of(served)
    served.process.kill()
    served.process.wait()

    eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    assert refuses(served.port)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_cannot_start_end_with_their_status(tmp_path: Path, workers: int) -> None:
    """A broken installation is told at once with its status, not retried forever."""
    with lasting(at_most_s=40), pytest.raises(AssertionError), running(tmp_path / "log", workers=workers, broken=True):
        pass


def test_the_status_of_workers_that_cannot_start() -> None:
    """It is the workers' own."""
    program = "from gateway.wire.supervisor import supervise\nimport sys\n"
    program += "def run(number, sockets):\n    sys.exit(3)\n"
    program += "sys.exit(supervise(run, listen='127.0.0.1:0', workers=2, stop_timeout_s=5))\n"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=False)

    assert ended.returncode == 3


def test_forking_with_threads_is_refused() -> None:
    """A thread would be lost in the child with whatever lock it holds."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="thread"):
            supervise(lambda *_: None, listen="127.0.0.1:0", workers=2, stop_timeout_s=1)
    finally:
        over.set()
        thread.join()


def test_one_worker_runs_in_this_process() -> None:
    """No supervisor, no fork: what the worker raises comes out, and its socket listens."""
    seen: list[tuple[int, int]] = []

    def worker(number: int, sockets: object) -> None:
        seen.append((number, os.getpid()))
        raise KeyError

    with pytest.raises(KeyError):
        supervise(worker, listen="127.0.0.1:0", workers=1, stop_timeout_s=1)
    assert seen == [(0, os.getpid())]


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0
