"""Memory does not grow with what clients send or fail to read: measured on a served process, and printed."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from tests.served import ADMIN, Served, authorization, send, sha256

pytestmark = [pytest.mark.memory, pytest.mark.timeout(300)]

MIB = 1 << 20
UPLOADS, UPLOAD_BYTES, STORE_RATE = 4, 512 * MIB, 40 * MIB
READERS, READ_BYTES, ROUNDS = 200, 16 * 1024, 40
GROWTH_LIMIT = 100 * MIB


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Served]:
    """A gateway whose store takes 40 MiB/s per upload."""
    with Served(tmp_path, module=("tests.memory.slow_gateway", str(STORE_RATE))) as served:
        yield served


class Resident:
    """Samples a process's resident memory until told to stop."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.before = self.peak = self._now()
        self._thread = threading.Thread(target=self._watch)

    def _now(self) -> int:
        fields = Path(f"/proc/{self._pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGESIZE")

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, self._now())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def growth(self, what: str) -> int:
        """Bytes above the start, printed for whoever compares."""
        growth = self.peak - self.before
        before, peak = self.before / MIB, self.peak / MIB
        print(f"\n{what}: resident {before:.1f} MiB before, {peak:.1f} at the peak, growth {growth / MIB:.1f} MiB")
        return growth


def warm_up(gateway: Served) -> None:
    """One of everything, so that what is measured afterwards is growth and not first use."""
    for _ in range(4):
        digest = gateway.push_blob("memory/warm", os.urandom(4 * MIB))
        gateway.admin("GET", f"/v2/memory/warm/blobs/{digest}")


def upload(gateway: Served, number: int, statuses: list[int]) -> None:
    """Send 512 MiB in one PATCH as fast as the gateway takes them, and cancel."""
    location = gateway.admin("POST", f"/v2/memory/upload{number}/blobs/uploads/", b"").headers["location"]
    pieces = (piece for piece in [os.urandom(MIB)] for _ in range(UPLOAD_BYTES // MIB))
    connection = gateway.connection(timeout_s=120)
    try:
        headers = [("Content-Length", str(UPLOAD_BYTES))]
        statuses.append(send(connection, "PATCH", location, pieces, headers, auth=ADMIN).status)
    finally:
        connection.close()
    statuses.append(gateway.admin("DELETE", location).status)


def test_uploads_into_a_slow_store(gateway: Served) -> None:
    """Four uploads of 512 MiB, sent faster than the store takes them, grow memory by less than 100 MiB."""
    assert gateway.process is not None
    warm_up(gateway)
    statuses: list[int] = []
    threads = [threading.Thread(target=upload, args=(gateway, number, statuses)) for number in range(UPLOADS)]

    with Resident(gateway.process.pid) as resident:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(statuses) == [202] * UPLOADS + [204] * UPLOADS
    assert resident.growth(f"{UPLOADS} uploads of {UPLOAD_BYTES // MIB} MiB into a slow store") <= GROWTH_LIMIT


def test_slow_readers(gateway: Served) -> None:
    """Two hundred readers that take little and rarely grow memory by less than 100 MiB."""
    assert gateway.process is not None
    warm_up(gateway)
    content = os.urandom(64 * MIB)
    path = f"/v2/memory/slow/blobs/{gateway.push_blob('memory/slow', content)}"
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization(ADMIN)['Authorization']}\r\n\r\n"
    assert path.endswith(sha256(content))

    with Resident(gateway.process.pid) as resident, ExitStack() as readers:
        clients = [readers.enter_context(slow_reader(gateway, head)) for _ in range(READERS)]
        for _ in range(ROUNDS):
            for client in clients:
                assert client.recv(READ_BYTES)
        assert gateway.admin("GET", "/v2/").status == 200

    assert resident.growth(f"{READERS} slow readers of 64 MiB") <= GROWTH_LIMIT


def slow_reader(gateway: Served, head: str) -> socket.socket:
    """A client with a small window that has asked for the blob."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.settimeout(30)
    client.connect(("127.0.0.1", gateway.port))
    client.sendall(head.encode())
    return client
