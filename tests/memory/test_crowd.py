"""A crowd on one worker: slow readers, stalled readers and idle clients cost little memory and hold up nobody."""

import multiprocessing
import os
import resource
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.memory.test_constant_memory import MIB, Resident, slow_reader, warm_up
from tests.served import ADMIN, Served, authorization

pytestmark = [pytest.mark.memory, pytest.mark.timeout(180)]

SLOW, STALLED, IDLE = 500, 200, 2_000
GROWTH_LIMIT = 150 * MIB
P99_S = 0.1
SEND_IDLE_S = 8
BLOB_BYTES = 64 * MIB
READ_BYTES = 128 * 1024
STRETCH = 100
"""Answers one after the other: some three seconds of them."""
DESCRIPTORS = 4 * (SLOW + STALLED + IDLE)


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Room for all clients in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Served]:
    """One worker that drops who takes less than 64 KiB in 8 s, and closes nobody who only rests."""
    environment = {
        "SLUICE_SERVER__SEND_IDLE_TIMEOUT_S": str(SEND_IDLE_S),
        "SLUICE_SERVER__IDLE_TIMEOUT_S": "600",
        "SLUICE_SERVER__DRAIN_TIMEOUT_S": "2",
    }
    with Served(tmp_path, environment=environment) as served:
        yield served


def open_files(gateway: Served) -> int:
    """How many descriptors the worker holds."""
    assert gateway.process is not None
    return sum(1 for _ in Path(f"/proc/{gateway.process.pid}/fd").iterdir())


def idle_client(gateway: Served, request: bytes) -> socket.socket:
    """A client that has had an answer and stays."""
    client = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    client.sendall(request)
    assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    return client


class Visitor:
    """Asks for `/v2/` over and over and notes how long each answer took; a process, so that nobody here delays it."""

    def __init__(self, gateway: Served, request: bytes) -> None:
        self.times_s: list[float] = []
        self._arguments = (gateway.port, request)

    @contextmanager
    def visiting(self) -> Iterator[None]:
        """For the duration of the block."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=visit, args=(theirs, *self._arguments))
        process.start()
        try:
            assert ours.recv() == "ready"
            yield
            ours.send("over")
            self.times_s = ours.recv()
        finally:
            process.join(30)

    def quantile_s(self, share: float) -> float:
        """What so many of all answers took at most, in the middle one of some stretches.

        A crowd that holds others up does so in each of them; what else the machine does comes and goes.
        """
        starts = range(0, len(self.times_s) - STRETCH + 1, STRETCH)
        return statistics.median_low(
            sorted(self.times_s[start : start + STRETCH])[int(STRETCH * share)] for start in starts
        )


def visit(pipe: Connection, port: int, request: bytes) -> None:
    """The life of a visitor: one request every 20 ms."""
    times_s = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        pipe.send("ready")
        while not pipe.poll(0.02):
            begun = time.monotonic()
            client.sendall(request)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            times_s.append(time.monotonic() - begun)
    pipe.send(times_s)


def read_slowly(clients: list[socket.socket], for_s: float) -> None:
    """Each takes a little, one after the other, for so long; none has been dropped."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        for client in clients:
            assert client.recv(READ_BYTES)


def was_dropped(client: socket.socket) -> bool:
    """Whether the connection ended before the blob did."""
    taken = 0
    try:
        while part := client.recv(MIB):
            taken += len(part)
    except ConnectionResetError:
        return True
    return taken < BLOB_BYTES


@pytest.mark.usefixtures("descriptors")
def test_a_crowd_costs_little_and_holds_up_nobody(gateway: Served) -> None:
    """500 slow, 200 stalled and 2,000 idle clients: at most 150 MiB more, `/v2/` p99 within 100 ms meanwhile.

    Who stalls is dropped after the send idle time, who is merely slow is not, and afterwards everything is back.
    """
    assert gateway.process is not None
    warm_up(gateway)
    digest = gateway.push_blob("memory/crowd", os.urandom(BLOB_BYTES))
    credentials = f"Authorization: {authorization(ADMIN)['Authorization']}\r\n\r\n"
    blob = f"GET /v2/memory/crowd/blobs/{digest} HTTP/1.1\r\nHost: x\r\n{credentials}"
    token = authorization(gateway.token("repository:memory/crowd:pull"))["Authorization"]
    ping = f"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode()
    files_before = open_files(gateway)
    visitor = Visitor(gateway, ping)

    with Resident(gateway.process.pid) as resident, ExitStack() as crowd:
        idle = [crowd.enter_context(idle_client(gateway, ping)) for _ in range(IDLE)]
        slow = [crowd.enter_context(slow_reader(gateway, blob)) for _ in range(SLOW)]
        stalled = [crowd.enter_context(slow_reader(gateway, blob)) for _ in range(STALLED)]
        with visitor.visiting():
            read_slowly(slow, SEND_IDLE_S + 4)
        assert all(was_dropped(client) for client in stalled)
        idle[0].sendall(ping)
        assert idle[0].recv(65536).startswith(b"HTTP/1.1 200 ")
    growth = resident.growth(f"{SLOW} slow, {STALLED} stalled and {IDLE} idle clients")
    median, p99 = visitor.quantile_s(0.5), visitor.quantile_s(0.99)
    print(f"/v2/ meanwhile: median {median * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms of {len(visitor.times_s)}")

    assert growth <= GROWTH_LIMIT
    assert p99 <= P99_S
    deadline = time.monotonic() + 20
    while open_files(gateway) > files_before + 16:  # files of blobs that the lane keeps open
        assert time.monotonic() < deadline, "connections were not given back"
        time.sleep(0.05)  # a real process is being waited for, with a deadline
    assert gateway.stop() == 0
