"""Large uploads that go wrong: cut, reset and idle ones. No thread is held, nothing is stored, others go on."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway.wire.raw_client import eventually
from tests.security.wire.cases import UPLOADS, length
from tests.security.wire.fortress import NAME, Fortress
from tests.served import sha256

pytestmark = pytest.mark.slow

SIZE_BYTES = 4 << 20
LONGEST_S = 10.0
IDLE = 150
"""More than any pool of threads."""
MORE_THREADS = 32
"""All pools of a worker together, and some."""


def _begin(fortress: Fortress, content: bytes, framing: bytes) -> bytes:
    """The head of an upload of this content by somebody who may."""
    query = f"?digest={sha256(content)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {fortress.bearer}\r\n"
    return b"POST " + UPLOADS + query.encode() + framing + b"\r\n"


def _chunks(content: bytes) -> bytes:
    """The content in chunks of sizes that fit no buffer."""
    size = 77_777
    parts = (content[place : place + size] for place in range(0, len(content), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_upload_that_is_cut_is_never_stored(framing: str, fortress: Fortress) -> None:
    """30 uploads of 4 MiB, cut anywhere by a reset or an end: no 201, no blob, no socket or thread left."""
    chance = random.Random(framing)
    content = chance.randbytes(SIZE_BYTES)
    body = content if framing == "length" else _chunks(content)
    head = _begin(
        fortress, content, length(b"%d" % SIZE_BYTES) if framing == "length" else b"Transfer-Encoding: chunked\r\n"
    )
    cuts = [chance.randrange(len(body)) for _ in range(28)] + [0, len(body) - 1]

    def attack(number: int) -> tuple[int, ...]:
        with fortress.attack() as attacker:
            attacker.force(head + body[: cuts[number]])
            if number % 2:
                attacker.reset()
                return ()
            return attacker.end().listen().statuses

    with ThreadPoolExecutor(4) as threads:
        statuses = set(threads.map(attack, range(len(cuts))))
    assert statuses == {(), (400,)}
    with fortress.attack() as attacker:
        ask = f"HEAD /v2/{NAME}/blobs/{sha256(content)} HTTP/1.1\r\nHost: localhost\r\n"
        attacker.force(f"{ask}Authorization: Bearer {fortress.bearer}\r\n\r\n".encode())
        assert attacker.listen(count=1, to_heads=True).statuses == (404,)
        attacker.force(head + body)  # the whole of it is taken, on the same connection
        assert attacker.listen(count=1).statuses == (201,)


def test_idle_bodies_hold_no_thread_and_little_memory(harbour: Fortress) -> None:
    """150 uploads stop in their middle, three times: honest ones go through, and neither threads nor memory pile up."""
    content = random.Random(5).randbytes(SIZE_BYTES)
    head = _begin(harbour, content, length(b"%d" % SIZE_BYTES))
    for turn in range(3):
        idle = [harbour.attack().force(head + content[:300_000]) for _ in range(IDLE)]
        begun = time.monotonic()
        harbour.push_blob(NAME, content[turn:])
        lasted_s = time.monotonic() - begun
        held = harbour.holdings()
        for attacker in idle:
            attacker.reset()
        assert lasted_s < LONGEST_S
        assert held.threads <= harbour.base.threads + MORE_THREADS
    eventually(lambda: harbour.holdings().sockets <= harbour.base.sockets)
    grown_mib = (harbour.holdings().memory_bytes - harbour.base.memory_bytes) / 2**20
    print(f"3 times {IDLE} uploads that stop leave {grown_mib:.0f} MiB behind")
    assert grown_mib <= 150
