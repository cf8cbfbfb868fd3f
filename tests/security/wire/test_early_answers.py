"""H19: uploads that are answered early. Every client sees the status, and 100 Continue only who may send."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.security.wire.attacker import Ending
from tests.security.wire.cases import BODY, CHUNKED, SMUGGLED, intrude, length, push
from tests.security.wire.fortress import Fortress

pytestmark = pytest.mark.slow

UPLOADS = 100
SIZE_BYTES = 50 << 20
BLOCK = bytes(1 << 20)


def _upload_that_only_writes(fortress: Fortress, number: int) -> Ending:
    """50 MiB from a client that reads nothing before it has sent everything, or cannot send any more."""
    framing = length(b"%d" % SIZE_BYTES) if number % 2 else CHUNKED
    part = BLOCK if number % 2 else b"100000\r\n" + BLOCK + b"\r\n"
    with fortress.attack() as attacker:
        attacker.force(intrude(framing))
        for _ in range(SIZE_BYTES // len(BLOCK)):
            if attacker.refuses_bytes:
                break
            attacker.force(part)
        return attacker.listen()


def test_h19_an_early_401_is_seen_100_times_of_100(fortress: Fortress) -> None:
    """H19, CH-10: 100 uploads of 50 MiB without an account, in both framings: each client reads its 401."""
    with ThreadPoolExecutor(4) as threads:
        endings = list(threads.map(lambda number: _upload_that_only_writes(fortress, number), range(UPLOADS)))

    assert [ending.statuses for ending in endings] == [(401,)] * UPLOADS


def test_h19_an_early_401_and_a_small_body_keep_the_connection(fortress: Fortress) -> None:
    """Up to 1 MiB that nobody asked for is taken, and the connection carries the next of 20 uploads."""
    with fortress.attack() as attacker:
        for number in range(20):
            size = 40_000 * (number % 5 + 1)
            attacker.force(intrude(length(b"%d" % size), SMUGGLED + bytes(size - len(SMUGGLED))))
            assert attacker.listen(count=1).statuses == (401,)


def test_100_continue_comes_after_authorisation_only(fortress: Fortress) -> None:
    """Who may push hears 100, then 201, and goes on; who may not hears 401 and no 100, 50 times each."""
    expect = b"Expect: 100-continue\r\n" + length(b"12")
    may = push(expect).replace(b"@BEARER@", f"Authorization: Bearer {fortress.bearer}\r\n".encode())
    with fortress.attack() as attacker:
        for _ in range(50):
            assert attacker.force(may).listen(count=1).statuses == (100,)
            assert attacker.force(BODY).listen(count=1).statuses == (201,)
    for _ in range(50):
        with fortress.attack() as attacker:
            assert attacker.force(intrude(expect)).listen().statuses == (401,)
