"""Every fault of an upstream, two hundred pulls under each: nobody gets wrong bytes to the end, and nothing stays.

All faults are at work at once, each at an upstream of its own, before one gateway of two workers. The first half of the
pulls meets the fault with every request, the second half with every other one.
"""

import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
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
THREADS: Final = 60
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
    pulls: dict[str, list[Pulled]] = field(default_factory=lambda: defaultdict(list))
    parts: dict[str, list[Pulled]] = field(default_factory=lambda: defaultdict(list))
    """What came where only `PART` was asked for."""
    afterwards: dict[str, Pulled] = field(default_factory=dict)

    def when(self, chosen: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
        """Whom the fault befalls just now."""
        return lambda seen: chosen(seen) and (self.is_always or len(self.upstream.requests) % 2 == 0)

    def pull(self, digest: str, number: int) -> None:
        """One pull under the fault; every fourth asks for a part."""
        client = self.clients[digest]
        if number % 4:
            self.pulls[digest].append(client.pull())
        else:
            self.parts[digest].append(replace(client, span=PART).pull())

    def pull_again(self) -> None:
        """Pull everything until it is there; the upstream is well by now."""

        def is_good(digest: str) -> bool:
            self.afterwards[digest] = self.clients[digest].pull()
            return self.afterwards[digest].is_complete

        for digest in self.contents:
            wait_until(lambda digest=digest: is_good(digest), HEALED_S)  # type: ignore[misc]


def prepare(gateway: Served, upstream: ScriptedUpstream, faults: tuple[Fault, ...]) -> Case:
    """A proxy of its own whose manifest was pulled before anything went wrong."""
    layers = [os.urandom(SIZE) for _ in range(BLOBS)]
    image = upstream.shelf.image(IMAGE, "latest", *layers)
    place = make_proxy(gateway, upstream)
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


@pytest.fixture(scope="module")
def campaign(gateway: Served) -> Iterator[Mapping[str, Case]]:
    """All cases, after it is over."""
    with ExitStack() as stack:
        cases = {
            name: prepare(gateway, stack.enter_context(ScriptedUpstream()), faults) for name, faults in FAULTS.items()
        }
        errands = [
            (case, digest, number)
            for case in cases.values()
            for digest in case.contents
            for number in range(PULLS // BLOBS // 2)
        ]
        random.Random(5).shuffle(errands)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda errand: errand[0].pull(*errand[1:]), errands))
            for case in cases.values():
                case.is_always = False
            list(pool.map(lambda errand: errand[0].pull(*errand[1:]), errands))
            for case in cases.values():
                case.upstream.heal()
            list(pool.map(Case.pull_again, cases.values()))
        yield cases


@pytest.mark.parametrize("name", FAULTS)
def test_no_wrong_body_is_completed(campaign: Mapping[str, Case], name: str) -> None:
    """What a client would take for whole is whole, after any fault; and the fault did befall what was asked."""
    case = campaign[name]
    pulls = [(case.contents[digest], pulled) for digest, many in case.pulls.items() for pulled in many]

    parts = [(case.contents[digest], part) for digest, many in case.parts.items() for part in many]

    assert len(pulls) + len(parts) == PULLS
    assert all(rule.hits for rule in case.rules)
    assert [pulled.status for content, pulled in pulls if pulled.is_complete and pulled.body != content] == []
    assert [
        part.status for content, part in parts if part.is_complete and part.body != content[PART[0] : PART[1] + 1]
    ] == []


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_wrong_stays(campaign: Mapping[str, Case], name: str) -> None:
    """Once the upstream is well, every blob is there, whole and right, and is not asked for again after that."""
    case = campaign[name]

    assert {digest: pulled.status for digest, pulled in case.afterwards.items()} == dict.fromkeys(case.contents, 200)
    assert all(case.afterwards[digest].body == content for digest, content in case.contents.items())
    asked = len(case.upstream.requests)
    warm = {digest: client.pull().body for digest, client in case.clients.items()}
    assert warm == case.contents
    assert [str(seen) for seen in case.upstream.requests[asked:]] == []


@pytest.mark.parametrize("name", FAULTS)
def test_trouble_of_the_upstream_is_never_absence(campaign: Mapping[str, Case], name: str) -> None:
    """Nobody is told 404 or 401 for what the upstream has, whatever is wrong with it; 429, 502, 503 or 504 may be."""
    case = campaign[name]
    pulls = [pulled for many in (*case.pulls.values(), *case.parts.values()) for pulled in many]

    assert {pulled.status for pulled in pulls} <= {0, 200, 206, 429, 502, 503, 504}
