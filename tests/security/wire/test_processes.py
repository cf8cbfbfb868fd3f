"""What happens to processes: one is killed, all are told to stop while clients play games (H12, H13, H17).

H20, crashes on Python 3.14, cannot be shown before that Python is supported.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.wire.raw_client import eventually
from tests.security.wire.cases import GET, HOST, intrude, length
from tests.security.wire.fortress import NAME, Fortress, impatient

pytestmark = pytest.mark.slow

DRAIN_S = 5.0


@pytest.fixture
def castle(tmp_path: Path) -> Iterator[Fortress]:
    """A gateway of two workers that may be damaged."""
    with Fortress(tmp_path, environment=impatient(DRAIN_S), arguments=("--workers", "2")) as fortress:
        fortress.settle()
        yield fortress


def test_h12_a_worker_that_is_killed_takes_nobody_with_it(castle: Fortress) -> None:
    """H12: after SIGKILL the other worker answers all, the dead one is replaced, and the end is a good one."""
    killed, survivor = castle.pids
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not _lives(killed))
    for _ in range(50):
        with castle.attack() as attacker:
            assert attacker.force(GET).listen(count=1).statuses == (200,)
    eventually(lambda: len(_workers(castle)) == 2)

    with pytest.raises(AssertionError):
        castle.assert_stands()  # what every other test asks at its end is not blind to this
    assert survivor in _workers(castle)
    assert killed not in _workers(castle)
    assert castle.stop() == 0


def test_what_is_held_is_seen(castle: Fortress) -> None:
    """Open connections and downloads are counted, and a logged error is a complaint: the checks are not blind."""
    ask = f"GET /v2/{NAME}/blobs/{castle.layer_digest} HTTP/1.1\r\nAuthorization: Bearer {castle.bearer}\r\n".encode()
    attackers = [castle.attack(receive_buffer=4096).force(ask + HOST + b"\r\n") for _ in range(5)]
    eventually(lambda: castle.holdings().sockets == castle.base.sockets + 5)
    eventually(lambda: castle.holdings().layers >= 1)
    for attacker in attackers:
        attacker.reset()
    castle.assert_stands()
    assert castle.complaints() == []
    with castle.log_path.open("a") as log:
        log.write('{"event": "connection_failed", "level": "error"}\nTraceback (most recent call last):\n')

    assert len(castle.complaints()) == 2


def test_h13_h17_a_stop_is_not_held_up(castle: Fortress) -> None:
    """H13, H17: with clients that stall in every phase, nobody new is let in and all ends within the drain, well."""
    ask = f"GET /v2/{NAME}/blobs/{castle.layer_digest} HTTP/1.1\r\nAuthorization: Bearer {castle.bearer}\r\n".encode()
    stalling = (ask + HOST + b"\r\n", GET[:20], intrude(length(b"99")), GET, b"")
    attackers = [castle.attack(receive_buffer=4096).force(begin) for begin in stalling * 10]
    statuses: list[int] = []
    stopping = threading.Thread(target=lambda: statuses.append(castle.stop()))
    begun = time.monotonic()
    stopping.start()
    eventually(lambda: not _is_let_in(castle.port), within_s=DRAIN_S)
    stopping.join(60)
    lasted_s = time.monotonic() - begun
    for attacker in attackers:
        attacker.sock.close()

    assert statuses == [0]
    assert lasted_s < DRAIN_S + 20
    assert castle.complaints() == []


def _is_let_in(port: int) -> bool:
    with socket.socket() as newcomer:
        newcomer.settimeout(1)
        return newcomer.connect_ex(("127.0.0.1", port)) == 0


def _workers(castle: Fortress) -> list[int]:
    assert castle.process is not None
    pid = castle.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
