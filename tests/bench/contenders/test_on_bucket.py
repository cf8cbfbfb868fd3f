"""Registries over a bucket keep what every contender promises, and tell what they ask of the service."""

import pytest

from bench.contenders.contender import Trait
from bench.contenders.on_bucket import BucketServer
from bench.contenders.setup import ask
from bench.content import KIB, OCI_MANIFEST, Layer, image
from tests.bench.conftest import Stand

pytestmark = [pytest.mark.slow, pytest.mark.s3]


def test_it_serves_what_was_put(bucket_stand: Stand) -> None:
    """Blobs and manifests come back as they were, for who has a token."""
    server = bucket_stand.server
    name = server.name("contract")
    made = image("contract", Layer("contract", 300 * KIB))
    for blob in made.blobs:
        server.put_blob(name, blob)
    server.put_manifest(name, made.manifest, "latest")
    headers = {"Authorization": server.authorization(name) or "", "Accept": OCI_MANIFEST}

    layer = made.layers[0]
    got = ask(server.endpoint, "GET", f"/v2/{name}/blobs/{layer.digest}", headers=headers)
    manifest = ask(server.endpoint, "GET", f"/v2/{name}/manifests/latest", headers=headers)

    assert (got.status, got.body) == (200, b"".join(map(bytes, layer.chunks())))
    assert (manifest.status, manifest.body) == (200, made.manifest.body)
    assert ask(server.endpoint, "GET", f"/v2/{name}/blobs/{layer.digest}").status == 401
    assert Trait.BUCKET in bucket_stand.contender.traits
    assert server.version
    assert server.processes is not None
    assert server.files_of(layer) == []


def test_it_tells_what_it_asked_for(bucket_stand: Stand) -> None:
    """A push writes, a first pull reads at least the blob, and each server sees its own bucket only."""
    server = bucket_stand.server
    assert isinstance(server, BucketServer)
    name, layer = server.name("traffic"), Layer("traffic", 700 * KIB)
    headers = {"Authorization": server.authorization(name) or ""}
    start = server.mark()
    server.put_blob(name, layer)
    pushed = server.traffic(start)
    middle = server.mark()
    assert ask(server.endpoint, "GET", f"/v2/{name}/blobs/{layer.digest}", headers=headers).status == 200
    pulled = server.traffic(middle)

    assert pushed.requests["PUT"] >= 2
    assert pulled.requests["GET"] >= 1
    assert pulled.read_bytes >= layer.size_bytes
    assert pulled.requests.get("PUT", 0) == 0
