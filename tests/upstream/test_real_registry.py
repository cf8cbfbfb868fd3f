"""A proxy of the registry that most people run, with tokens from elsewhere: what comes through is what is there."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.people import Place, make_place
from tests.served import OCI_INDEX, OCI_MANIFEST, Served, image_index, sha256
from tests.upstream.proxied import LOOPBACK, blob_path, manifest_path
from tests.upstream.pulling import Client, at_random_times
from tests.upstream.real_registry import RealRegistry, serve

pytestmark = [pytest.mark.served, pytest.mark.slow]

USER, PASSWORD = "mirror", "a-password-there"
LAYERS = tuple(os.urandom(size) for size in (1, 70_000, 3_000_000))
NAME = "library/app"
ACCEPT = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
"""Without it docker-registry has no OCI documents."""


@pytest.fixture(scope="module")
def registry(program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """docker-registry with a multi-arch image."""
    with serve(program("docker-registry"), tmp_path_factory.mktemp("registry"), {USER: PASSWORD}) as running:
        token = running.token(NAME)
        children = [running.client.push_image(NAME, f"c{at}", layer, auth=token)[1] for at, layer in enumerate(LAYERS)]
        path, typed = f"/v2/{NAME}/manifests/latest", {"Content-Type": OCI_INDEX}
        assert running.client.request("PUT", path, image_index(*children), typed, auth=token).status == 201
        yield running


def proxy_of(gateway: Served, registry: RealRegistry, password: str = PASSWORD) -> Place:
    """A proxy that may log in there; the token server is at another port, so it is named."""
    settings: dict[str, Any] = {"remote_url": registry.client.url, "private_networks": [LOOPBACK]}
    settings["token_hosts"] = [registry.token_server.address]
    settings["credentials"] = [{"username": USER, "password": password}]
    return make_place(gateway, repository_type="proxy", **settings)


def test_an_image_comes_through_as_it_is(gateway: Served, registry: RealRegistry) -> None:
    """Index, children, configs, layers and tags are the registry's own, byte for byte, for one login per worker."""
    place, token = proxy_of(gateway, registry), registry.token(NAME)
    registry.tokens.logins.clear()

    def both(path: str) -> bytes:
        ours = gateway.admin("GET", f"/v2/{place.name}/{NAME}/{path}")
        theirs = registry.client.request("GET", f"/v2/{NAME}/{path}", headers=ACCEPT, auth=token)
        assert (ours.status, ours.body) == (theirs.status, theirs.body) == (200, ours.body)
        same = ("content-type", "docker-content-digest", "content-length")
        assert [ours.headers.get(name) for name in same] == [theirs.headers.get(name) for name in same]
        return ours.body

    index = both("manifests/latest")
    found = gateway.admin("GET", manifest_path(place, NAME, "latest"))
    assert found.headers["docker-content-digest"] == sha256(index)
    for entry in found.json()["manifests"]:
        both(f"manifests/{entry['digest']}")
        manifest = gateway.admin("GET", manifest_path(place, NAME, entry["digest"])).json()
        for blob in (manifest["config"], *manifest["layers"]):
            both(f"blobs/{blob['digest']}")
    assert gateway.admin("GET", f"/v2/{place.name}/{NAME}/tags/list").json()["tags"] == ["c0", "c1", "c2", "latest"]
    assert 1 <= len(registry.tokens.logins) <= 2


def test_a_crowd_gets_a_layer(gateway: Served, registry: RealRegistry) -> None:
    """Fifty clients at random times have the largest layer, whole."""
    place, layer = proxy_of(gateway, registry), LAYERS[-1]
    token = gateway.token(f"repository:{place.name}/{NAME}:pull")
    clients = [Client(gateway, blob_path(place, NAME, sha256(layer)), token) for _ in range(50)]

    pulls = at_random_times(clients, 0.5, seed=7)

    assert all(pulled.is_complete and pulled.body == layer for pulled in pulls)


def test_what_is_not_there_is_not_found(gateway: Served, registry: RealRegistry) -> None:
    """Absence, which the registry tells, is 404; a password that it does not take is 502, and never absence."""
    place, wrong = proxy_of(gateway, registry), proxy_of(gateway, registry, "wrong")

    assert gateway.admin("GET", manifest_path(place, NAME, "absent")).codes() == ["MANIFEST_UNKNOWN"]
    assert gateway.admin("GET", blob_path(place, NAME, sha256(b"absent"))).codes() == ["BLOB_UNKNOWN"]
    assert gateway.admin("GET", manifest_path(wrong, NAME, "latest")).status == 502
