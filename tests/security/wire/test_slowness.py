"""Slowness in each phase of a connection: the gateway waits as long as it is told to and no longer (H13, H16).

All attacks of a door run at once against an impatient gateway, each by a thread of its own; then each is judged.
"""

import select
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.gateway.wire.raw_client import PATIENCE_S
from tests.security.wire.attacker import Attacker, patient_reading
from tests.security.wire.cases import BODY, CHUNKED, GET, HOST, intrude, length, push
from tests.security.wire.conftest import IMPATIENT_S
from tests.security.wire.fortress import NAME, Fortress

pytestmark = pytest.mark.slow

DRIP_S = 0.15
"""A byte now and then, well within every timeout of a gateway that counts from the last byte."""
LATEST_S = 9.0
NEVER = b"A: " + b"b" * 10_000


@dataclass(frozen=True, slots=True)
class Seen:
    """How an attack ended, and after how long, from before it connected."""

    statuses: tuple[int, ...]
    lasted_s: float


def _waits(fortress: Fortress, *parts: bytes) -> Seen:
    """Send this and then nothing."""
    begun = time.monotonic()
    with fortress.attack() as attacker:
        attacker.force(b"".join(parts))
        return Seen(patient_reading(attacker).statuses, time.monotonic() - begun)


def _drips(fortress: Fortress, begin: bytes, endless: bytes) -> Seen:
    """Send this, and then a byte now and then, until there is an answer or an end."""
    begun = time.monotonic()
    with fortress.attack() as attacker:
        attacker.force(begin)
        _drip(attacker, endless)
        return Seen(patient_reading(attacker).statuses, time.monotonic() - begun)


def _drip(attacker: Attacker, endless: bytes) -> None:
    below = getattr(attacker.sock, "below", attacker.sock)
    for byte in endless:
        if select.select([below], [], [], DRIP_S)[0] and _more_than_tickets(attacker):
            return
        attacker.force(bytes([byte]))


def _more_than_tickets(attacker: Attacker) -> bool:
    """Whether what can be read is more than TLS's own: an answer, or the end."""
    attacker.sock.settimeout(0.01)
    try:
        attacker.buffer += attacker.sock.recv(65536)
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    else:
        return True
    finally:
        attacker.sock.settimeout(PATIENCE_S)


def _second(fortress: Fortress) -> Seen:
    """A whole request, and the next one byte by byte."""
    begun = time.monotonic()
    with fortress.attack() as attacker:
        first = attacker.force(GET).listen(count=1)
        _drip(attacker.force(GET[:-2]), NEVER)
        return Seen(first.statuses + patient_reading(attacker).statuses, time.monotonic() - begun)


def _does_not_read(fortress: Fortress, *, pipelined: int) -> Seen:
    """Ask for more than all buffers hold and read nothing, until the gateway has had enough; then what was left."""
    ask = (
        f"GET /v2/{NAME}/blobs/{fortress.layer_digest} HTTP/1.1\r\nAuthorization: Bearer {fortress.bearer}\r\n".encode()
    )
    begun = time.monotonic()
    with fortress.attack(receive_buffer=4096) as attacker:
        attacker.force((ask + HOST + b"\r\n") * pipelined)
        below = getattr(attacker.sock, "below", attacker.sock)
        poller = select.poll()
        poller.register(below, select.POLLRDHUP | select.POLLERR | select.POLLHUP)
        assert poller.poll(LATEST_S * 1000), "not dropped"
        return Seen((), time.monotonic() - begun)


def _shakes_no_hands(fortress: Fortress, begin: bytes) -> Seen:
    """Begin TLS, or do not, and wait."""
    begun = time.monotonic()
    with fortress.attack_below() as attacker:
        attacker.force(begin)
        assert attacker.closed() or attacker.closed()  # an alert may come first
        return Seen((), time.monotonic() - begun)


ATTACKS: Mapping[str, tuple[tuple[int, ...], Callable[[Fortress], Seen]]] = {
    "nothing": ((), lambda gateway: _waits(gateway, b"")),
    "empty-line": ((408,), lambda gateway: _waits(gateway, b"\r\n")),
    "method": ((408,), lambda gateway: _waits(gateway, GET[:2])),
    "request-line": ((408,), lambda gateway: _waits(gateway, GET[:20])),
    "field": ((408,), lambda gateway: _waits(gateway, GET[:-6])),
    "head": ((408,), lambda gateway: _waits(gateway, GET[:-2])),
    "last-byte-of-head": ((408,), lambda gateway: _waits(gateway, GET[:-1])),
    "body": ((408,), lambda gateway: _waits(gateway, _authorised(gateway, length(b"12")), BODY[:5])),
    "no-body": ((408,), lambda gateway: _waits(gateway, _authorised(gateway, length(b"12")))),
    "chunk-size": ((408,), lambda gateway: _waits(gateway, _authorised(gateway, CHUNKED), b"c")),
    "chunk": ((408,), lambda gateway: _waits(gateway, _authorised(gateway, CHUNKED), b"c\r\nhello")),
    "chunk-end": ((408,), lambda gateway: _waits(gateway, _authorised(gateway, CHUNKED), b"c\r\nhello, layer\r")),
    "last-chunk": (
        (408,),
        lambda gateway: _waits(gateway, _authorised(gateway, CHUNKED), b"c\r\nhello, layer\r\n0\r\n"),
    ),
    "trailer": ((408,), lambda gateway: _waits(gateway, _authorised(gateway, CHUNKED), b"0\r\nA: b\r\n")),
    "expected-body": (
        (100, 408),
        lambda gateway: _waits(gateway, _authorised(gateway, b"Expect: 100-continue\r\n" + length(b"12"))),
    ),
    "refused-body": ((401,), lambda gateway: _waits(gateway, intrude(length(b"12")))),
    "refused-chunk": ((401,), lambda gateway: _waits(gateway, intrude(CHUNKED, b"c\r\n"))),
    "between-requests": ((200,), lambda gateway: _waits(gateway, GET)),
    "between-pipelined": ((200, 408), lambda gateway: _waits(gateway, GET, GET[:9])),
    "after-many": ((200,) * 50, lambda gateway: _waits(gateway, GET * 50)),
    "drip-request-line": ((408,), lambda gateway: _drips(gateway, b"GET /", b"a" * 10_000)),
    "drip-field": ((408,), lambda gateway: _drips(gateway, GET[:-2], NEVER)),
    "drip-second-head": ((200, 408), _second),
    "drip-empty-lines": ((408,), lambda gateway: _drips(gateway, b"", b"\r\n" * 5000)),
    "drip-refused-body": ((401,), lambda gateway: _drips(gateway, intrude(length(b"99999")), b"x" * 10_000)),
    "h13-no-reading": ((), lambda gateway: _does_not_read(gateway, pipelined=1)),
    "h13-no-reading-pipelined": ((), lambda gateway: _does_not_read(gateway, pipelined=20)),
    "handshake-stall": ((), lambda gateway: _shakes_no_hands(gateway, b"")),
}


def _authorised(fortress: Fortress, fields: bytes) -> bytes:
    return push(fields).replace(b"@BEARER@", f"Authorization: Bearer {fortress.bearer}\r\n".encode())


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Seen | BaseException]]:
    """What came of all attacks, by door; each door's are made once."""
    return {}


def _all_at_once(fortress: Fortress) -> dict[str, Seen | BaseException]:
    with ThreadPoolExecutor(len(ATTACKS)) as threads:
        running = {name: threads.submit(attack, fortress) for name, (_, attack) in ATTACKS.items()}
    return {name: each.exception() or each.result() for name, each in running.items()}


@pytest.mark.parametrize("name", ATTACKS)
def test_slowness_is_ended_in_time(
    name: str, door: str, impatient_fortress: Fortress, outcomes: dict[str, dict[str, Seen | BaseException]]
) -> None:
    """In every phase: after the configured time and before 10 s, with the answer that fits the phase."""
    if door not in outcomes:
        outcomes[door] = _all_at_once(impatient_fortress)
    seen = outcomes[door][name]

    assert isinstance(seen, Seen), seen
    assert seen.statuses == ATTACKS[name][0]
    assert IMPATIENT_S * 0.8 <= seen.lasted_s <= LATEST_S


def test_h16_resting_connections_end_by_themselves(impatient_fortress: Fortress) -> None:
    """H16: 60 clients that asked and stay, ask to close, or speak HTTP/1.0: none is left."""
    attackers = [impatient_fortress.attack() for _ in range(60)]
    for number, attacker in enumerate(attackers):
        version = b"1.0" if number % 3 == 0 else b"1.1"
        field = b"Connection: close\r\n" if number % 3 == 1 else b""
        attacker.force(GET.replace(b"1.1", version)[:-2] + field + b"\r\n")
    begun = time.monotonic()
    assert [patient_reading(attacker).statuses for attacker in attackers] == [(200,)] * 60
    lasted_s = time.monotonic() - begun
    for attacker in attackers:
        attacker.sock.close()

    assert lasted_s < LATEST_S
