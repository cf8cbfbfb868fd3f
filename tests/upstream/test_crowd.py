"""One cold blob and a crowd that wants it: the upstream is asked once, whatever the clients do meanwhile.

The crowd comes at random times to a gateway of two workers; some leave early, some are slow, some want a part.
"""

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.served import Served, sha256
from tests.servers.processes import descendants, wait_until
from tests.upstream.proxied import blob_path, image_name, make_proxy, manifest_path
from tests.upstream.pulling import Client, at_random_times, crowd
from tests.upstream.script import Cut, Says, Slow, Stall, Wait, on
from tests.upstream.scripted import ScriptedUpstream

pytestmark = [pytest.mark.served, pytest.mark.slow]

CLIENTS = 200
SIZE = 6_000_000
WITHIN_S = 3.0
GETS = on("blobs", method="GET")


def cold(gateway: Served, upstream: ScriptedUpstream, content: bytes) -> tuple[str, str]:
    """The path of a blob that only the upstream has, below a manifest that the proxy knows; and a token for it."""
    name = image_name()
    upstream.shelf.image(name, "latest", content)
    place = make_proxy(gateway, upstream, idle_timeout=60.0)
    assert gateway.admin("GET", manifest_path(place, name, "latest")).status == 200
    return blob_path(place, name, sha256(content)), gateway.token(f"repository:{place.name}/{name}:pull")


@pytest.mark.parametrize("seed", [1, 2])
def test_two_hundred_clients_cost_one_fetch(gateway: Served, upstream: ScriptedUpstream, seed: int) -> None:
    """Each gets what it asked for, byte for byte; the upstream sends the blob once, whole, and never again."""
    content = os.urandom(SIZE)
    path, token = cold(gateway, upstream, content)
    upstream.script(Slow(SIZE / WITHIN_S), GETS)
    clients = crowd(gateway, path, token, SIZE, clients=CLIENTS, seed=seed)

    pulls = at_random_times(clients, WITHIN_S, seed=seed)

    assert len(Counter(client.manner for client in clients)) == 5
    assert [pulled.status for pulled in pulls if pulled.status not in {200, 206}] == []
    assert all(pulled.is_part_of(content) for pulled in pulls)
    stayed = [(client, pulled) for client, pulled in zip(clients, pulls, strict=True) if client.leave_at is None]
    assert all(pulled.is_complete for _, pulled in stayed)
    assert all(pulled.body == content for client, pulled in stayed if client.span is None)
    assert upstream.gets(sha256(content)) == 1
    assert upstream.bytes_sent(sha256(content)) == SIZE


def test_who_began_may_leave(gateway: Served, upstream: ScriptedUpstream) -> None:
    """The first client, for whom the fetch began, is gone before the end; the others get everything, of one fetch."""
    content = os.urandom(SIZE)
    path, token = cold(gateway, upstream, content)
    upstream.script(Stall(SIZE // 2), GETS)

    first = Client(gateway, path, token, leave_at=100_000).pull()
    clients = [Client(gateway, path, token) for _ in range(20)]
    with ThreadPoolExecutor(len(clients)) as pool:
        pulling = [pool.submit(client.pull) for client in clients]
        upstream.release()
        pulls = [each.result() for each in pulling]

    assert 0 < len(first.body) < SIZE
    assert all(pulled.is_complete and pulled.body == content for pulled in pulls)
    assert upstream.gets(sha256(content)) == 1


def test_a_first_try_that_fails_is_followed_by_one(gateway: Served, upstream: ScriptedUpstream) -> None:
    """The upstream refuses once while clients of both workers wait: what is fetched after that is fetched once."""
    content = os.urandom(150_000)
    path, token = cold(gateway, upstream, content)
    upstream.script(Wait(0.5), GETS)
    upstream.script(Says(500), GETS, times=1)
    client = Client(gateway, path, token)

    with ThreadPoolExecutor(16) as pool:
        pulls = list(pool.map(lambda _: client.pull(), range(16)))
    assert wait_until(lambda: client.pull().is_complete, 30)

    assert all(pulled.body == content for pulled in pulls if pulled.is_complete)
    assert {pulled.status for pulled in pulls} <= {200, 502}
    assert [seen.status for seen in upstream.seen(GETS)].count(200) == 1


def test_nobody_waits_for_the_slowest(gateway: Served, upstream: ScriptedUpstream) -> None:
    """While the upstream pauses, everybody has what has come so far, also who came last.

    Only the end of what was asked for, be it a part, is given when the whole blob was found right.
    """
    content = os.urandom(SIZE)
    path, token = cold(gateway, upstream, content)
    upstream.script(Stall(5_000_000), GETS)

    early = [Client(gateway, path, token, leave_at=3_000_000).pull() for _ in range(3)]
    with ThreadPoolExecutor(2) as pool:
        middle = pool.submit(Client(gateway, path, token, "range", span=(2_000_000, 2_500_000)).pull)
        late = pool.submit(Client(gateway, path, token).pull)
        upstream.heal()

    assert all(len(pulled.body) >= 3_000_000 and pulled.is_part_of(content) for pulled in early)
    assert (middle.result().status, middle.result().body) == (206, content[2_000_000:2_500_001])
    assert late.result().body == content
    assert upstream.gets(sha256(content)) == 1


def test_a_killed_gateway_goes_on_where_it_was(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Killed in the middle of a fetch and started again, it serves the blob right, and asks for the rest only."""
    content = os.urandom(SIZE)
    with Served(tmp_path / "gateway", workers=2) as gateway:
        path, token = cold(gateway, upstream, content)
        upstream.script(Stall(SIZE // 2), GETS, times=1)
        assert len(Client(gateway, path, token, leave_at=SIZE // 3).pull().body) >= SIZE // 3
        gateway.kill()
        upstream.release()
        gateway.start()

        pulled = Client(gateway, path, token).pull()

        assert pulled.is_complete
        assert pulled.body == content
        asked = upstream.seen(GETS)
        assert len(asked) == 2
        assert asked[1].header("range") is not None
        assert asked[1].sent_bytes < SIZE
        warm = Client(gateway, path, token).pull()
        assert warm.body == content
        assert len(upstream.seen(GETS)) == 2


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_worker_takes_nobody_else_along(tmp_path: Path, upstream: ScriptedUpstream, number: int) -> None:
    """When one of two workers dies in the middle, the other's readers get everything, whoever of them fetched."""
    content = os.urandom(SIZE)
    with Served(tmp_path / "gateway", workers=2) as gateway:
        path, token = cold(gateway, upstream, content)
        upstream.script(Stall(SIZE // 2), GETS, times=1)
        assert gateway.process is not None
        workers = descendants(gateway.process.pid)
        clients = [Client(gateway, path, token) for _ in range(24)]
        with ThreadPoolExecutor(len(clients)) as pool:
            pulling = [pool.submit(client.pull) for client in clients]
            assert wait_until(lambda: upstream.bytes_sent(sha256(content)) >= SIZE // 2, 30)
            os.kill(workers[number], signal.SIGKILL)
            upstream.release()
            pulls = [each.result() for each in pulling]

        assert all(pulled.is_part_of(content) for pulled in pulls)
        assert any(pulled.is_complete for pulled in pulls)
        assert all(pulled.body == content for pulled in pulls if pulled.is_complete)
        assert Client(gateway, path, token).pull().body == content
        assert len(upstream.seen(GETS)) <= 2


def test_a_dropped_connection_is_taken_up_again(gateway: Served, upstream: ScriptedUpstream) -> None:
    """The upstream hangs up twice on the way: no client notices, and the rest is asked for by ranges."""
    content = os.urandom(SIZE)
    path, token = cold(gateway, upstream, content)
    upstream.script(Cut(2_000_000), GETS, times=2)

    pulled = Client(gateway, path, token).pull()

    assert pulled.is_complete
    assert pulled.body == content
    asked = upstream.seen(GETS)
    assert [each.header("range") is not None for each in asked] == [False, True, True]
    assert wait_until(lambda: upstream.bytes_sent(sha256(content)) >= SIZE, 10)
    assert upstream.bytes_sent(sha256(content)) < SIZE + 500_000
