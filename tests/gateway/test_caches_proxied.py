"""A cache before a scripted upstream, from the first pull to the sweep: what is warm stays whole when the rest goes."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import worker_jobs
from storage import Digest
from storage.metadata import pulls, repositories
from tests.gateway.access.house import Clock
from tests.gateway.registry import Registry
from tests.upstream.scripted import ScriptedUpstream

pytestmark = pytest.mark.slow

DAY_S = 86400
CACHE, FACE = "hub/cache", "hub/face"


@pytest.fixture
def clock() -> Clock:
    """Moved by hand."""
    return Clock()


@pytest.fixture
async def registry(data_directory: Path, clock: Clock) -> AsyncIterator[Registry]:
    """An installation that can keep credentials."""
    async with Registry.open(data_directory, clock=clock) as opened:
        yield opened


@pytest.fixture
def upstream() -> Any:
    """An upstream without content."""
    with ScriptedUpstream() as scripted:
        yield scripted


async def api(registry: Registry, method: str, path: str, **fields: Any) -> None:
    """A request to the management API that must do what it says."""
    answer = await registry.ask(method, path, json.dumps(fields).encode(), {"Content-Type": "application/json"})
    assert answer.status < 300, answer


async def furnish(registry: Registry, upstream: ScriptedUpstream) -> None:
    """A proxy, and a virtual repository in front of it."""
    made = {"repository_type": "proxy", "remote_url": upstream.url, "private_networks": ["127.0.0.0/8"]}
    await api(registry, "POST", "/api/v1/projects", name="hub")
    await api(registry, "POST", "/api/v1/repos", project="hub", name="cache", connect_timeout=2, **made)
    members = [{"repository": CACHE}]
    await api(registry, "POST", "/api/v1/repos", project="hub", name="face", repository_type="virtual", members=members)


async def run(registry: Registry, name: str) -> None:
    """One run of the worker's job."""
    await {job.name: job for job in worker_jobs(registry.services)}[name].run()


async def pull(registry: Registry, image: str, *layers: bytes, through: str = CACHE) -> int:
    """A whole image by its tag; gives the worst status."""
    answer = await registry.ask("GET", f"/v2/{through}/{image}/manifests/latest")
    statuses = [answer.status]
    for layer in layers:
        blob = await registry.ask("GET", f"/v2/{through}/{image}/blobs/{Digest.of(layer)}")
        assert blob.status != 200 or blob.body == layer
        statuses.append(blob.status)
    fetching = registry.services.fetching
    assert fetching is not None
    await fetching.arrivals._intakes.wait_idle()  # what was read is published a moment later
    return max(statuses)


async def size(registry: Registry) -> int:
    """What the cache holds."""
    place = await registry.services.database.read(repositories.find, *CACHE.split("/"))
    assert place is not None
    return await registry.services.database.survey(pulls.stored_bytes, place.id)


async def test_row_p8_of_images_that_share_layers_the_warm_one_stays_whole(
    registry: Registry, upstream: ScriptedUpstream, clock: Clock
) -> None:
    """Pulled through a virtual repository lately, it outlives the other, two sweeps and its upstream; row P8."""
    shared, own, other = (os.urandom(50_000) for _ in range(3))
    upstream.shelf.image("team/warm", "latest", shared, own)
    upstream.shelf.image("team/cold", "latest", shared, other)
    await furnish(registry, upstream)
    for image, layer in (("team/warm", own), ("team/cold", other)):
        assert await pull(registry, image, shared, layer) == 200
    clock.now += 3600
    assert await pull(registry, "team/warm", through=FACE) == 200
    await run(registry, "pull_times")
    clock.now += 3600

    whole = await size(registry)
    await api(registry, "PATCH", f"/api/v1/repos/{CACHE}", max_bytes=whole - 1)
    await run(registry, "cache_bounds")
    assert await size(registry) < whole - 50_000
    for _ in range(3):
        clock.now += 2 * DAY_S
        await run(registry, "garbage")

    upstream.refuse()
    assert await pull(registry, "team/warm", shared, own) == 200
    assert await pull(registry, "team/warm", shared, own, through=FACE) == 200
    assert await pull(registry, "team/cold") in {502, 504}
    upstream.heal()
