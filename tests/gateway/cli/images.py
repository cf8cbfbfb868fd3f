"""Images in an installation that no server runs on: pushed and looked at through the application in this process."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from gateway.app import build, open_services
from gateway.config import Settings, Storage
from tests.gateway.api.installation import Installation

T = TypeVar("T")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def within(data: Path, work: Callable[[Installation], Awaitable[T]]) -> T:
    """Do some work in the installation, and close it again."""

    async def opened() -> T:
        async with open_services(Settings(storage=Storage(data=data))) as services:
            return await work(Installation(services, build(services).test_client()))

    return trio.run(opened)


def sha256(content: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def image(layer: bytes) -> bytes:
    """A manifest of one layer and an empty configuration."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"{}"), "size": 2}
    described = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(layer), "size": len(layer)}
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [described]}).encode()


async def _push(installation: Installation, name: str, tag: str, layer: bytes) -> str:
    for content in (b"{}", layer):
        begun = await installation.call("POST", f"/v2/{name}/blobs/uploads/")
        put = await installation.call("PUT", f"{begun.headers['location']}?digest={sha256(content)}", body=content)
        assert put.status == 201, put
    manifest = image(layer)
    put = await installation.call(
        "PUT", f"/v2/{name}/manifests/{tag}", body=manifest, headers={"Content-Type": MANIFEST}
    )
    assert put.status == 201, put
    return sha256(manifest)


def push(data: Path, name: str, tag: str, layer: bytes) -> str:
    """Push an image of one layer; gives the manifest's digest."""
    return within(data, partial(_push, name=name, tag=tag, layer=layer))


def ask(data: Path, method: str, path: str) -> tuple[int, bytes]:
    """Status and body of one request of the admin."""

    async def asked(installation: Installation) -> tuple[int, bytes]:
        reply = await installation.call(method, path)
        return reply.status, reply.body

    return within(data, asked)
