"""A proxy through /v2: trouble in the fields of answers, blobs that are still coming, large manifests."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.edge.pulls import Kind, Way
from gateway.v2.large import LARGE_BYTES
from tests.gateway.access.house import Clock
from tests.gateway.edge.visitors import Answer
from tests.gateway.registry import Registry
from tests.served import OCI_MANIFEST, image_manifest, sha256
from tests.upstream.script import Busy, Says, on
from tests.upstream.scripted import ScriptedUpstream
from tests.upstream.shelf import Manifest

LAYER = os.urandom(400_000)
DIGEST = sha256(LAYER)
PLACE = "common/mirror"
TTL_S = 100


@pytest.fixture
def clock() -> Clock:
    """The gateway's clock."""
    return Clock()


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream with `app:latest`."""
    with ScriptedUpstream() as scripted:
        scripted.shelf.image("app", "latest", LAYER)
        yield scripted


@pytest.fixture
async def registry(tmp_path: Path, clock: Clock, upstream: ScriptedUpstream) -> AsyncIterator[Registry]:
    """An application with a proxy of that upstream."""
    settings = {
        "project": "common",
        "name": "mirror",
        "repository_type": "proxy",
        "remote_url": upstream.url,
        "private_networks": ["127.0.0.0/8"],
        "cache_ttl": TTL_S,
    }
    async with Registry.open(tmp_path, clock=clock) as opened:
        body = json.dumps(settings).encode()
        made = await opened.ask("POST", "/api/v1/repos", body, {"Content-Type": "application/json"})
        assert made.status == 201, made
        yield opened


async def get(registry: Registry, path: str, method: str = "GET", **headers: str) -> Answer:
    """Ask for something of the image."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await registry.ask(method, f"/v2/{PLACE}/app/{path}", headers=named)


async def test_what_may_be_old_says_so(registry: Registry, clock: Clock, upstream: ScriptedUpstream) -> None:
    """PX-05: `Warning: 299` and `Age` while the upstream is in trouble, on 200, 304 and lists; nothing else differs."""
    fresh = await get(registry, "manifests/latest")
    await get(registry, "tags/list")
    referrers = f"referrers/{sha256(fresh.body)}"
    referring = await get(registry, referrers)
    upstream.script(Says(500))
    clock.now += TTL_S + 20

    old = await get(registry, "manifests/latest")
    same = await get(registry, "manifests/latest", If_None_Match=fresh.headers["etag"])
    listed = await get(registry, "tags/list")
    referred = await get(registry, referrers)

    assert [answer.status for answer in (fresh, old, same, listed, referred)] == [200, 200, 304, 200, 200]
    assert (old.body, referred.body) == (fresh.body, referring.body)
    for answer in (old, same, listed, referred):
        assert answer.headers["warning"].startswith('299 - "')
        assert answer.headers["age"] == str(TTL_S + 20)
    assert not {"warning", "age"} & (fresh.headers.keys() | referring.headers.keys())
    own = {"warning", "age", "x-request-id", "date"}
    assert {name: value for name, value in old.headers.items() if name not in own} == {
        name: value for name, value in fresh.headers.items() if name not in own
    }


async def test_trouble_has_its_own_status(registry: Registry, upstream: ScriptedUpstream) -> None:
    """P6: 502 and 429 with the time to wait, never 404, for manifests, blobs and lists."""
    upstream.script(Busy(33))
    for path in ("manifests/latest", f"blobs/{DIGEST}", "tags/list"):
        answer = await get(registry, path)
        assert (answer.status, answer.headers["retry-after"]) == (429, "33"), path
    upstream.heal()
    upstream.script(Says(500))
    for path in ("manifests/v2", f"blobs/{sha256(b'no')}"):
        assert (await get(registry, path)).status in {429, 502}, path


async def test_a_blob_is_not_asked_for_before_its_time(
    registry: Registry, clock: Clock, upstream: ScriptedUpstream
) -> None:
    """P6: a 429 to the bytes themselves reaches the client with its time, and until then nobody is asked for a blob."""
    await get(registry, "manifests/latest")
    upstream.script(Busy(33), on("blobs"))
    for wait_s in (33, 23):
        answer = await get(registry, f"blobs/{DIGEST}")
        assert (answer.status, answer.headers["retry-after"]) == (429, str(wait_s))
        clock.now += 10
    assert len(upstream.seen(on("blobs"))) == 1
    upstream.heal()
    clock.now += 13

    assert (await get(registry, f"blobs/{DIGEST}")).body == LAYER


async def test_what_is_not_available_for_a_time_says_so(registry: Registry, upstream: ScriptedUpstream) -> None:
    """P6: an upstream's 503 with a time is 502 with that time, for the bytes of a blob as for a manifest."""
    await get(registry, "manifests/latest")
    upstream.script(Says(503, fields=(("Retry-After", "44"),)))
    for path in ("manifests/other", f"blobs/{DIGEST}"):
        answer = await get(registry, path)
        assert (answer.status, answer.headers["retry-after"]) == (502, "44"), path


async def test_a_blob_that_is_coming_is_answered_like_any_other(registry: Registry, upstream: ScriptedUpstream) -> None:
    """BG-01 to BG-08 while it comes: HEAD without fetching, whole, a range, several ranges, 304 and 416."""
    await get(registry, "manifests/latest")
    path = f"blobs/{DIGEST}"

    head = await get(registry, path, "HEAD")
    known = await get(registry, path, If_None_Match=head.headers["etag"])
    beyond = await get(registry, path, Range="bytes=400000-")
    assert (head.status, head.headers["content-length"], known.status, beyond.status) == (200, "400000", 304, 416)
    assert upstream.all_gets() == {}
    part = await get(registry, path, Range="bytes=100-300000")
    assert (part.status, part.headers["content-range"]) == (206, "bytes 100-300000/400000")
    several = await get(registry, path, Range="bytes=0-9,399990-399999")
    whole = await get(registry, path)

    assert (part.body, whole.body) == (LAYER[100:300_001], LAYER)
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert LAYER[:10] in several.body
    assert LAYER[-10:] in several.body
    assert upstream.all_gets() == {DIGEST: 1}
    differing = {"x-request-id", "date", "content-length"}
    assert {each: head.headers[each] for each in head.headers.keys() - differing} == {
        each: whole.headers[each] for each in whole.headers.keys() - differing
    }
    noted = registry.services.pulls.statistics()
    assert noted[Kind.BLOB, Way.APPLICATION] == 5


async def test_a_large_manifest_comes_through(registry: Registry, upstream: ScriptedUpstream) -> None:
    """Read again for its answer when there is room for it, it asks the upstream for nothing more."""
    config = upstream.shelf.image("app", "small", LAYER).config
    content = image_manifest(config, annotations={"note": "x" * LARGE_BYTES})
    upstream.shelf.put_manifest("app", Manifest(content, OCI_MANIFEST), "large")

    for _ in range(2):
        answer = await get(registry, "manifests/large")
        assert (answer.status, answer.body == content) == (200, True)

    assert len(upstream.seen(on("manifests"))) == 2


async def test_a_proxy_takes_nothing(registry: Registry) -> None:
    """PX-06: pushes, deletions and uploads are 405 with what works, and change nothing."""
    manifest = {"Content-Type": OCI_MANIFEST}
    image = f"/v2/{PLACE}/app"

    for method, path in [
        ("PUT", "manifests/v1"),
        ("DELETE", "manifests/latest"),
        ("DELETE", f"blobs/{DIGEST}"),
        ("POST", "blobs/uploads/"),
        ("POST", f"blobs/uploads/?mount={DIGEST}"),
    ]:
        refused = await registry.ask(method, f"{image}/{path}", b"{}", manifest)
        assert (refused.status, refused.codes, refused.headers["allow"]) == (405, ["UNSUPPORTED"], "GET, HEAD")
    assert (await get(registry, "manifests/latest")).status == 200
