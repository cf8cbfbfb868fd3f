"""Every fault of an upstream, two hundred pulls under each: nobody gets wrong bytes to the end, and nothing stays.

The gateway has two workers. The first half of the pulls meets the fault with every request, the second half with every
other one.
"""

import os
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from tests.served import Served, sha256
from tests.servers.processes import wait_until
from tests.upstream.proxied import HEALED_S, blob_path, make_proxy, manifest_path
from tests.upstream.pulling import Client, Pulled
from tests.upstream.script import (
    HTML,
    Busy,
    Cut,
    Fault,
    Gzipped,
    IgnoresRange,
    Other,
    Reset,
    Rule,
    Says,
    Seen,
    Stall,
    TooLong,
    Truncated,
    WrongByte,
    WrongLength,
    WrongRange,
    on,
    with_range,
)
from tests.upstream.scripted import ScriptedUpstream

pytestmark = [pytest.mark.served, pytest.mark.slow, pytest.mark.timeout(240)]

BLOBS: Final = 25
PULLS: Final = 200
SIZE: Final = 150_000
IMAGE: Final = "team/harmed"
THREADS: Final = 40
_HALF: Final = SIZE // 2
PART: Final = (_HALF - 1000, _HALF + 999)
"""The bytes, first and last, that some ask for alone: where most faults are."""

FAULTS: Final[Mapping[str, tuple[Fault, ...]]] = {
    "a wrong byte": (WrongByte(_HALF),),
    "the last byte wrong": (WrongByte(SIZE - 1),),
    "truncated": (Truncated(1000),),
    "too long": (TooLong(),),
    "HTML with 200": (HTML,),
    "gzip": (Gzipped(),),
    "gzip unsaid": (Gzipped(is_named=False),),
    "a length too large": (WrongLength(100),),
    "a length too small": (WrongLength(-100),),
    "a stall": (Stall(_HALF),),
    "a reset": (Reset(_HALF),),
    "cut, then a wrong range": (Cut(_HALF), WrongRange(7)),
    "cut, then a range that lies": (Cut(_HALF), WrongRange(7, is_named=False)),
    "cut, then everything again": (Cut(_HALF), IgnoresRange()),
    "another object": (Other(os.urandom(SIZE)),),
    "errors of the server": (Says(500, b"oops"),),
    "a storm of 429": (Busy(1),),
}
"""By name. The second of two befalls only who asks for a range, the first only who does not."""


@dataclass(slots=True)
class Case:
    """One fault at work, and all that came."""

    upstream: ScriptedUpstream
    rules: list[Rule]
    clients: dict[str, Client]
    contents: dict[str, bytes]
    is_always: bool = True
    pulls: list[tuple[bytes, Pulled]] = field(default_factory=list)
    """What was wanted, and what came."""

    def when(self, chosen: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
        """Whom the fault befalls just now."""
        return lambda seen: chosen(seen) and (self.is_always or len(self.upstream.requests) % 2 == 0)

    def pull(self, digest: str, number: int) -> None:
        """One pull under the fault; every fourth asks for a part."""
        client = self.clients[digest]
        if number % 4:
            self.pulls.append((self.contents[digest], client.pull()))
        else:
            self.pulls.append((self.contents[digest][PART[0] : PART[1] + 1], replace(client, span=PART).pull()))

    def pull_again(self, digest: str) -> Pulled:
        """Pull it until it is there, or for as long as that may take; the upstream is well by now."""
        pulls: list[Pulled] = []

        def is_good() -> bool:
            pulls.append(self.clients[digest].pull())
            return pulls[-1].is_complete

        wait_until(is_good, HEALED_S)
        return pulls[-1]


def prepare(gateway: Served, upstream: ScriptedUpstream, faults: tuple[Fault, ...]) -> Case:
    """A proxy of its own whose manifest was pulled before anything went wrong."""
    layers = [os.urandom(SIZE) for _ in range(BLOBS)]
    image = upstream.shelf.image(IMAGE, "latest", *layers)
    place = make_proxy(gateway, upstream, idle_timeout=0.7)
    assert gateway.admin("GET", manifest_path(place, IMAGE, "latest")).body == image.manifest.content
    contents = {sha256(layer): layer for layer in layers}
    token = gateway.token(f"repository:{place.name}/{IMAGE}:pull")
    clients = {digest: Client(gateway, blob_path(place, IMAGE, digest), token) for digest in contents}
    case = Case(upstream, [], clients, contents)
    blobs = on("blobs", method="GET")
    chosen = [lambda seen: blobs(seen) and not with_range(seen), lambda seen: blobs(seen) and with_range(seen)]
    for fault, when in zip(faults, chosen if len(faults) > 1 else [blobs], strict=True):
        case.rules.append(upstream.script(fault, case.when(when)))
    return case


@pytest.mark.parametrize("name", FAULTS)
def test_two_hundred_pulls_under_a_fault(gateway: Served, upstream: ScriptedUpstream, name: str) -> None:
    """Nobody gets wrong bytes to the end, nobody is told that something is absent, and afterwards all is well.

    Then every blob is there, whole and right, and is not asked for again.
    """
    case = prepare(gateway, upstream, FAULTS[name])
    errands = [(digest, number) for digest in case.contents for number in range(PULLS // BLOBS // 2)]
    random.Random(name).shuffle(errands)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda errand: case.pull(*errand), errands))
        case.is_always = False
        list(pool.map(lambda errand: case.pull(*errand), errands))
        upstream.heal()
        afterwards = list(pool.map(case.pull_again, case.contents))

    assert len(case.pulls) == PULLS
    assert all(rule.hits for rule in case.rules)
    assert [pulled.status for wanted, pulled in case.pulls if pulled.is_complete and pulled.body != wanted] == []
    assert {pulled.status for _, pulled in case.pulls} <= {0, 200, 206, 429, 502, 503, 504}
    assert [pulled.status for pulled in afterwards] == [200] * BLOBS
    assert [pulled.body for pulled in afterwards] == list(case.contents.values())
    asked = len(upstream.requests)
    assert {digest: client.pull().body for digest, client in case.clients.items()} == case.contents
    assert [str(seen) for seen in upstream.requests[asked:]] == []
