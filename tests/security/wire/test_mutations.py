"""1,000 damaged requests per run and door: whatever comes of them, it is no 5xx, no hang, and nothing stays.

The damage knows what a request is made of. It is seeded by the run (pytest-randomly's seed, which every run prints
and `--randomly-seed=N` repeats); the seed and the bytes are in the message of a failure.
"""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway.wire.raw_client import Answer
from tests.security.wire.attacker import Ending, patient_reading
from tests.security.wire.cases import BODY, CHUNKED, CHUNKS, GET, HOST, SMUGGLED, ask, bytes_of, intrude, length, push
from tests.security.wire.cases import served as row
from tests.security.wire.fortress import Fortress

pytestmark = pytest.mark.slow

ROUNDS = 1000
AT_ONCE = 4
SEEDS = (
    GET,
    ask(b'Range: bytes=0-1\r\nIf-None-Match: "x"\r\n'),
    b"HEAD /v2/attacked/images/app/blobs/@LAYER@ HTTP/1.1\r\n" + HOST + b"@BEARER@\r\n",
    b"GET /v2/attacked/images/app/blobs/@LAYER@ HTTP/1.1\r\n" + HOST + b"@BEARER@Range: bytes=5-9\r\n\r\n",
    push(length(b"12"), BODY),
    push(CHUNKED, CHUNKS),
    push(b"Expect: 100-continue\r\n" + length(b"12"), BODY),
    intrude(length(b"12"), BODY) + GET,
    intrude(CHUNKED, CHUNKS) + SMUGGLED,
    GET * 3,
)
TOKENS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\0",
        b"\xff",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"0\r\n\r\n",
        b"0",
        b"-1",
        b"+",
        b"%",
    ),
    *(b"%00", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"chunked", CHUNKED, b"ffffffffffffffff\r\n", GET, HOST),
    *(b"Content-Length: 3\r\n", b"Content-Length: 99999\r\n", b"Host: evil\r\n", b"Connection: close\r\n"),
    *(b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n"),
)
Damage = Callable[[random.Random, bytes], bytes]


def _insert(chance: random.Random, data: bytes) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + chance.choice(TOKENS) * chance.choice((1, 1, 1, 2, 50)) + data[place:]


def _replace_byte(chance: random.Random, data: bytes) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]


def _flip_bit(chance: random.Random, data: bytes) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def _drop(chance: random.Random, data: bytes) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + data[place + chance.randrange(1, 12) :]


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def _swap_lines(chance: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\r\n".join(lines)


def _repeat_line(chance: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    place = chance.randrange(len(lines))
    return b"\r\n".join([*lines[:place], *[lines[place]] * chance.choice((2, 3, 200)), *lines[place + 1 :]])


def _drop_line(chance: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    lines.pop(chance.randrange(len(lines)))
    return b"\r\n".join(lines)


def _other_ends(chance: random.Random, data: bytes) -> bytes:
    return data.replace(b"\r\n", chance.choice((b"\n", b"\r", b"\r\r\n", b"\n\r")), chance.randrange(1, 9))


def _other_number(chance: random.Random, data: bytes) -> bytes:
    return data.replace(b"12", chance.choice((b"11", b"13", b"0", b"-12", b"12, 12", b"1" * 30, b"0x12", b"")), 1)


def _splice(chance: random.Random, data: bytes) -> bytes:
    other = chance.choice(SEEDS)
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


DAMAGES: tuple[Damage, ...] = (
    *(_insert, _replace_byte, _flip_bit, _drop, _cut),
    *(_swap_lines, _repeat_line, _drop_line, _other_ends, _other_number, _splice),
)


def damaged(chance: random.Random) -> bytes:
    """A request, or a few, with one to four wounds; never empty."""
    data = chance.choice(SEEDS)
    for _ in range(chance.randint(1, 4)):
        data = chance.choice(DAMAGES)(chance, data) or GET
    return data


def verdict(data: bytes, ending: Ending) -> str | None:
    """What is wrong about what came of it, or None."""
    if any(status >= 500 for status in ending.statuses):
        return "an answer 5xx"
    if ending.rest:
        return "an answer that is cut"
    if len([status for status in ending.statuses if status != 100]) > data.count(b"HTTP/1.") + 1:
        return "more answers than requests"  # one more: the refusal of what is left
    return None


def test_1000_mutations_end_well(fortress: Fortress, request: pytest.FixtureRequest) -> None:
    """Each damaged request ends within 10 s, in whole answers below 500, not more of them than were asked for."""
    seed = request.config.getoption("randomly_seed", 0)
    chance = random.Random(f"{seed} {fortress.trust is None}")
    attacks = [bytes_of(row("", "", damaged(chance)), fortress) for _ in range(ROUNDS)]

    def attack(number: int) -> None:
        with fortress.attack() as attacker:
            to_heads = None if b"HEAD" in attacks[number] else False
            ending = patient_reading(attacker.force(attacks[number]).end(), to_heads=to_heads)
        wrong = verdict(attacks[number], ending)
        assert wrong is None, f"seed {seed}, mutation {number}: {wrong}\n{attacks[number]!r}\n{ending}"

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(attack, range(ROUNDS)))


def test_what_is_wrong_with_an_answer_is_noticed() -> None:
    """The verdict finds a 5xx, a cut answer and an answer too many, and nothing where nothing is wrong."""
    answer = _answers(200, 404)

    assert verdict(GET * 2, answer) is None
    assert verdict(GET, _answers(500)) == "an answer 5xx"
    assert verdict(GET, Ending((), b"HTTP/1.1 2")) == "an answer that is cut"
    assert verdict(GET, _answers(200, 404, 400)) == "more answers than requests"


def test_mutations_are_repeatable_and_differ() -> None:
    """The same seed gives the same damage, another seed another; hardly any is left as it was."""
    first, again, other = ([damaged(chance) for _ in range(200)] for chance in map(random.Random, (1, 1, 2)))

    assert first == again != other
    assert sum(each in SEEDS for each in first) < 20


def _answers(*statuses: int) -> Ending:
    return Ending(tuple(Answer(status, {}, b"") for status in statuses))
