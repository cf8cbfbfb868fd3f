"""What a warm proxy costs: nothing more when its upstream is dead, and few counted pulls when it lives."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.people import Place
from tests.served import Served, send, sha256
from tests.upstream.proxied import IMPATIENT, blob_path, image_name, make_proxy, manifest_path
from tests.upstream.registry import Budget
from tests.upstream.script import Busy, Stall
from tests.upstream.scripted import ScriptedUpstream

pytestmark = [pytest.mark.served, pytest.mark.slow]

PULLS = 30
ADDED_S = 0.1
TAGS = 200
THREADS = 8


def pull_s(gateway: Served, paths: list[str], token: str) -> list[float]:
    """How long each of some pulls takes, one after the other on one connection."""
    took = []
    connection = gateway.connection()
    for _ in range(PULLS):
        began = time.perf_counter()
        assert [send(connection, "GET", path, auth=token).status for path in paths] == [200] * len(paths)
        took.append(time.perf_counter() - began)
    connection.close()
    return took


def test_a_dead_upstream_slows_no_warm_pull(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """The median of pulls by a tag that is due for a look grows by no more than 100 ms when nobody answers there."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    place = make_proxy(gateway, upstream, cache_ttl=0)
    token = gateway.token(f"repository:{place.name}/{name}:pull")
    paths = [manifest_path(place, name, "latest"), blob_path(place, name, sha256(layer))]
    pull_s(gateway, paths, token)
    alive_s = statistics.median(pull_s(gateway, paths, token))

    upstream.refuse()
    # The best of three: whatever else the machine does adds to each of them by chance, a wait of ours to all.
    refused_s = min(statistics.median(pull_s(gateway, paths, token)) for _ in range(3))

    assert refused_s <= alive_s + ADDED_S


def test_a_silent_upstream_is_waited_for_once(gateway: Served, upstream: ScriptedUpstream) -> None:
    """When nothing comes from it, a pull of each worker or two notice; all others have their copy at once."""
    name = image_name()
    upstream.shelf.image(name, "latest", b"content")
    place = make_proxy(gateway, upstream, cache_ttl=0, **IMPATIENT)
    token = gateway.token(f"repository:{place.name}/{name}:pull")
    paths = [manifest_path(place, name, "latest")]
    alive_s = statistics.median(pull_s(gateway, paths, token))
    upstream.script(Stall())

    took_s = [each for _ in range(3) for each in pull_s(gateway, paths, token)]

    assert statistics.median(took_s) <= alive_s + ADDED_S
    assert sum(each > IMPATIENT["idle_timeout"] * 0.9 for each in took_s) <= 6


def pull_tags(gateway: Served, place: Place, name: str, token: str, turns: range) -> list[tuple[int, bytes]]:
    """One client's share of all pulls: every tag in turn, again and again, on one connection."""
    connection = gateway.connection()
    replies = []
    for number in turns:
        path = manifest_path(place, name, f"v{number % TAGS}")
        reply = send(connection, "GET", path, auth=token)
        replies.append((reply.status, reply.body))
    connection.close()
    return replies


@pytest.mark.parametrize(("cache_ttl", "all_pulls"), [(300, 10_000), (0, 2_000)])
def test_ten_thousand_pulls_cost_a_pull_for_each_tag(
    gateway: Served, upstream: ScriptedUpstream, cache_ttl: int, all_pulls: int
) -> None:
    """Eight clients pull two hundred tags ten thousand times: the upstream counts each image once, at most.

    Also where every pull has to look whether the tag has moved: looking is free.
    """
    name = image_name()
    upstream.registry.budget = Budget(limit=TAGS, remaining=TAGS)
    images = {upstream.shelf.image(name, f"v{number}", bytes([number])).manifest.content for number in range(TAGS)}
    place = make_proxy(gateway, upstream, budget_reserve=0, cache_ttl=cache_ttl)
    shares = [range(first * 25, first * 25 + all_pulls // THREADS) for first in range(THREADS)]
    token = gateway.token(f"repository:{place.name}/{name}:pull")

    with ThreadPoolExecutor(THREADS) as pool:
        replies = [
            each
            for many in pool.map(lambda turns: pull_tags(gateway, place, name, token, turns), shares)
            for each in many
        ]

    assert len(replies) == all_pulls
    assert {status for status, _ in replies} == {200}
    assert {body for _, body in replies} == images
    assert upstream.registry.counted_pulls <= TAGS


def test_a_spent_budget_is_not_overdrawn(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """Below the reserve nothing is spent on what is cached; what is not is 429 with a time, and never 404."""
    name = image_name()
    first = upstream.shelf.image(name, "latest", layer)
    upstream.registry.budget = Budget(limit=100, remaining=6)
    place = make_proxy(gateway, upstream, cache_ttl=0, budget_reserve=5)
    assert gateway.admin("GET", manifest_path(place, name, "latest")).body == first.manifest.content
    assert upstream.registry.budget.remaining == 5

    upstream.shelf.image(name, "latest", b"a newer one")
    stale = [gateway.admin("GET", manifest_path(place, name, "latest")) for _ in range(10)]

    assert {reply.body for reply in stale} == {first.manifest.content}
    assert all("warning" in reply.headers for reply in stale)
    assert upstream.registry.budget.remaining == 5


def test_a_storm_of_429_is_not_answered_by_a_storm(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """Until the time that the upstream named it is left alone, by all pulls of all clients together."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    place = make_proxy(gateway, upstream, cache_ttl=0)
    path = manifest_path(place, name, "latest")
    assert gateway.admin("GET", path).status == 200
    upstream.script(Busy(60))
    upstream.forget()
    token = gateway.token(f"repository:{place.name}/{name}:pull")

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = set(pool.map(lambda number: gateway.request("GET", path, auth=token).status, range(100)))

    assert statuses == {200}
    assert 1 <= len(upstream.requests) <= 20
