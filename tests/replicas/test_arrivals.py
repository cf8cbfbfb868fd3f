"""Two replicas over one database and one bucket, which share no disk, pull a blob from an upstream once."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.people import Place
from tests.replicas.pair import Replicas, serve
from tests.served import Served, sha256
from tests.servers.installation import Installation
from tests.servers.processes import wait_until
from tests.upstream.proxied import blob_path, image_name, make_proxy, manifest_path
from tests.upstream.pulling import Client, Pulled
from tests.upstream.script import Stall, on
from tests.upstream.scripted import ScriptedUpstream

pytestmark = [pytest.mark.replicas, pytest.mark.slow]

SIZE = 9_000_000
READERS = 20
GETS = on("blobs", method="GET")
KNOWN_S = 20.0
"""In which a replica learns of a repository that another one has made."""


def cold(replicas: Replicas, upstream: ScriptedUpstream, content: bytes, **settings: object) -> tuple[Place, str, str]:
    """A proxy with an image that only the upstream has; a token for it that both replicas take."""
    name = image_name()
    upstream.shelf.image(name, "latest", content)
    place = make_proxy(replicas.members[0], upstream, idle_timeout=60.0, **settings)
    token = replicas.members[0].token(f"repository:{place.name}/{name}:pull")
    assert wait_until(lambda: known(replicas, manifest_path(place, name, "latest"), token), KNOWN_S)
    return place, name, token


def known(replicas: Replicas, path: str, token: str) -> bool:
    """Whether every replica answers this."""
    return all(member.request("GET", path, auth=token).status == 200 for member in replicas.members)


def test_both_together_fetch_once(replicas: Replicas) -> None:
    """Readers of both replicas wait for one fetch and get the blob from it, or from the bucket when it is there."""
    content = os.urandom(SIZE)
    with ScriptedUpstream() as upstream:
        place, name, token = cold(replicas, upstream, content)
        upstream.script(Stall(SIZE // 2), GETS, times=1)

        def pull(gateway: Served) -> Pulled:
            return Client(gateway, blob_path(place, name, sha256(content)), token).pull()

        with ThreadPoolExecutor(READERS) as pool:
            pulling = [pool.submit(pull, gateway) for gateway in replicas.members * (READERS // 2)]
            assert wait_until(lambda: upstream.bytes_sent(sha256(content)) >= SIZE // 2, 30)
            upstream.release()
            pulls = [each.result() for each in pulling]

        assert [pulled.status for pulled in pulls] == [200] * READERS
        assert all(pulled.is_complete and pulled.body == content for pulled in pulls)
        assert upstream.gets(sha256(content)) == 1
        assert upstream.bytes_sent(sha256(content)) == SIZE
    assert wait_until(lambda: replicas.stored(sha256(content)) == 1, 30)


def test_a_manifest_is_fetched_once_for_both(replicas: Replicas) -> None:
    """A tag that nobody has pulled is asked for at both at once: one counted pull at the upstream."""
    name = image_name()
    with ScriptedUpstream() as upstream:
        image = upstream.shelf.image(name, "first", b"first")
        place = make_proxy(replicas.members[0], upstream, cache_ttl=600)
        token = replicas.members[0].token(f"repository:{place.name}/{name}:pull")
        assert wait_until(lambda: known(replicas, manifest_path(place, name, "first"), token), KNOWN_S)
        assert upstream.gets(image.digest) + upstream.gets("first") == 1

        second = upstream.shelf.image(name, "second", b"second")

        def pull(gateway: Served) -> bytes:
            return gateway.request("GET", manifest_path(place, name, "second"), auth=token).body

        with ThreadPoolExecutor(READERS) as pool:
            bodies = set(pool.map(pull, replicas.members * (READERS // 2)))

        assert bodies == {second.manifest.content}
        assert upstream.gets(second.digest) + upstream.gets("second") == 1


def test_a_dead_replica_holds_nobody_up(installation: Installation, tmp_path: Path) -> None:
    """Killed in the middle of a fetch, it is waited for until its lease lapses; then the other one fetches, once."""
    content = os.urandom(SIZE)
    with serve(installation, tmp_path) as replicas, ScriptedUpstream() as upstream:
        place, name, token = cold(replicas, upstream, content)
        upstream.script(Stall(SIZE // 2), GETS, times=1)
        path, (first, second) = blob_path(place, name, sha256(content)), replicas.members
        assert len(Client(first, path, token, leave_at=SIZE // 4).pull().body) >= SIZE // 4

        with ThreadPoolExecutor(READERS) as pool:
            pulling = [pool.submit(Client(second, path, token).pull) for _ in range(READERS)]
            first.kill()
            pulls = [each.result() for each in pulling]

        assert [(pulled.status, pulled.is_complete) for pulled in pulls] == [(200, True)] * READERS
        assert all(pulled.body == content for pulled in pulls)
        assert len(upstream.seen(GETS)) == 2
        assert wait_until(lambda: replicas.stored(sha256(content)) == 1, 30)
