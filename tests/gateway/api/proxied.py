"""A proxy in the installation of a test, before a scripted upstream on a real socket."""

from typing import Any

import trio

from tests.gateway.api.installation import Installation
from tests.upstream.scripted import ScriptedUpstream

HUB = "/api/v1/repos/team/hub"
_TURN_S = 0.02


async def make_proxy(installation: Installation, upstream: ScriptedUpstream, **more: Any) -> None:
    """The proxy `team/hub` of this upstream."""
    body = {
        "project": "team",
        "name": "hub",
        "repository_type": "proxy",
        "remote_url": upstream.url,
        "private_networks": ["127.0.0.0/8"],
        **more,
    }
    made = await installation.call("POST", "/api/v1/repos", body)
    assert made.status == 201, made


async def pull(installation: Installation, image: str, reference: str, *blobs: str) -> None:
    """A manifest by way of the proxy, and blobs of it."""
    found = await installation.call("GET", f"/v2/team/hub/{image}/manifests/{reference}")
    assert found.status == 200, found
    for digest in blobs:
        assert (await installation.call("GET", f"/v2/team/hub/{image}/blobs/{digest}")).status == 200


async def ended(installation: Installation, location: str) -> dict[str, Any]:
    """The warm-up when nobody is at it any more; a test's own deadline bounds the wait."""
    with trio.fail_after(30):
        while True:
            found: dict[str, Any] = (await installation.call("GET", location)).value
            if found["state"] != "running":
                return found
            await trio.sleep(_TURN_S)
