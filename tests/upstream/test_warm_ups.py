"""Images fetched ahead by a gateway of two workers: whichever is asked tells how far it is."""

from typing import Any

import pytest

from tests.served import Served
from tests.servers.processes import wait_until
from tests.upstream.proxied import blob_path, make_proxy
from tests.upstream.script import Stall, on
from tests.upstream.scripted import ScriptedUpstream

pytestmark = pytest.mark.slow


def test_any_worker_tells_how_far_a_list_is(gateway: Served, upstream: ScriptedUpstream) -> None:
    """While it runs and when it is done; the blobs came once and are served without the upstream."""
    images = [upstream.shelf.image("team/app", tag, tag.encode() * 100_000) for tag in ("one", "two")]
    place = make_proxy(gateway, upstream, idle_timeout=30.0)
    path = f"/api/v1/repos/{place.name}/warm"
    held = upstream.script(Stall(0), on("blobs"), times=1)

    begun = gateway.api("POST", path, {"images": ["team/app:one", "team/app:two"]})
    location = begun.headers["location"]
    wait_until(lambda: held.hits > 0, 30.0)
    running = [gateway.api("GET", location).json()["state"] for _ in range(8)]
    upstream.heal()
    found: list[dict[str, Any]] = []

    def is_done() -> bool:
        found.append(gateway.api("GET", location).json())
        return bool(found[-1]["state"] == "done")

    wait_until(is_done, 60.0)
    upstream.refuse()
    blobs = {digest for image in images for digest in image.blobs}
    served = [gateway.admin("GET", blob_path(place, "team/app", digest)) for digest in blobs]

    assert begun.status == 201
    assert set(running) == {"running"}
    assert (found[-1]["images_done"], found[-1]["failures"]) == (2, [])
    assert {each.status for each in served} == {200}
    assert [gateway.api("GET", location).json()["state"] for _ in range(8)] == ["done"] * 8
