"""One Sluice before another: a real registry with real tokens as the upstream of a proxy and of a migration."""

import os
from collections.abc import Iterator

import pytest

from tests.people import Login, Place, make, make_place, make_robot
from tests.served import OCI_INDEX, OCI_MANIFEST, Reply, Served, descriptor, image_index, image_manifest, sha256
from tests.upstream.proxied import LOOPBACK, in_time, manifest_path

pytestmark = [pytest.mark.served, pytest.mark.slow]

LAYERS = tuple(os.urandom(size) for size in (100, 300_000, 2_000_000))
IMAGE = "app"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The registry that everybody used so far."""
    with Served(tmp_path_factory.mktemp("old")) as served:
        yield served


@pytest.fixture(scope="module")
def shelf(old: Served) -> Place:
    """A private repository there, with a multi-arch image that is tagged twice and signed."""
    place = make_place(old)
    name = f"{place.name}/{IMAGE}"
    children = [old.push_image(name, f"v1-{number}", layer)[1] for number, layer in enumerate(LAYERS)]
    index = image_index(*children)
    for tag in ("v1", "latest"):
        put = old.admin("PUT", f"/v2/{name}/manifests/{tag}", index, {"Content-Type": OCI_INDEX})
        assert put.status == 201, put
    old.push_blob(name, b"signature")
    about = {"subject": descriptor(index, OCI_INDEX), "artifactType": "application/x-signature"}
    signature = image_manifest(
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}', **about
    )
    signed = old.admin("PUT", f"/v2/{name}/manifests/{sha256(signature)}", signature, {"Content-Type": OCI_MANIFEST})
    assert signed.status == 201, signed
    return place


@pytest.fixture(scope="module")
def robot(old: Served, shelf: Place) -> Login:
    """Who may pull there."""
    return make_robot(old, ("reader", shelf))


def upstream_of(old: Served, login: Login) -> dict[str, object]:
    """What a proxy is told about it."""
    credentials = [{"username": login[0], "password": login[1]}]
    return {"remote_url": old.url, "private_networks": [LOOPBACK], "credentials": credentials}


def everything(gateway: Served, name: str) -> dict[str, bytes]:
    """All that a client gets of the image: documents and blobs by what they were asked for."""
    found: dict[str, bytes] = {}

    def ask(path: str) -> Reply:
        reply = gateway.admin("GET", f"/v2/{name}/{path}")
        assert reply.status == 200, (path, reply)
        found[path] = reply.body
        return reply

    index = ask("manifests/v1").json()
    for entry in index["manifests"]:
        manifest = ask(f"manifests/{entry['digest']}").json()
        for blob in (manifest["config"], *manifest["layers"]):
            assert sha256(ask(f"blobs/{blob['digest']}").body) == blob["digest"]
    return found


def names(gateway: Served, name: str) -> list[str]:
    """The tags."""
    return list(gateway.admin("GET", f"/v2/{name}/tags/list").json()["tags"])


def referrers(gateway: Served, name: str, digest: str) -> set[str]:
    """The digests of what belongs to a manifest."""
    listing = gateway.admin("GET", f"/v2/{name}/referrers/{digest}").json()["manifests"]
    return {entry["digest"] for entry in listing}


def test_a_proxy_shows_what_the_other_has(gateway: Served, old: Served, shelf: Place, robot: Login) -> None:
    """A private multi-arch image comes through byte for byte, with its tags and its signature."""
    place = make(
        gateway,
        "repos",
        {"project": "common", "name": shelf.repository, "repository_type": "proxy", **upstream_of(old, robot)},
    )
    name, origin = f"common/{place['name']}/{shelf.name}/{IMAGE}", f"{shelf.name}/{IMAGE}"

    assert everything(gateway, name) == everything(old, origin)
    assert names(gateway, name) == names(old, origin)
    digest = sha256(old.admin("GET", f"/v2/{origin}/manifests/v1").body)
    assert referrers(gateway, name, digest) == referrers(old, origin, digest) != set()


def test_a_login_that_fails_is_no_absence(gateway: Served, old: Served, shelf: Place, robot: Login) -> None:
    """A wrong password is told as trouble with the upstream, and the right one, given later, makes it good."""
    settings = upstream_of(old, (robot[0], "wrong"))
    place = make_place(gateway, repository_type="proxy", **settings)  # type: ignore[arg-type]
    path = manifest_path(place, f"{shelf.name}/{IMAGE}", "v1")
    assert gateway.admin("GET", path).status == 502

    credentials = [{"username": robot[0], "password": robot[1]}]
    assert gateway.api("PATCH", f"/api/v1/repos/{place.name}", {"credentials": credentials}).status == 200

    assert in_time(lambda: gateway.admin("GET", path), lambda reply: reply.status == 200).status == 200


def test_a_migration_keeps_what_was_pulled(gateway: Served, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A hosted repository with a fallback serves the old registry's image, lists it, and has it when that is gone."""
    with Served(tmp_path_factory.mktemp("gone")) as leaving:
        home = make_place(leaving)
        image = f"{home.name}/{IMAGE}"
        digest, manifest = leaving.push_image(image, "v1", *LAYERS)
        fallback: dict[str, object] = {"remote_url": leaving.url, "private_networks": [LOOPBACK]}
        fallback["credentials"] = [{"username": "admin", "password": "correct-horse-battery"}]
        place = make_place(gateway, fallback=fallback)
        name = f"{place.name}/{image}"
        assert gateway.admin("GET", f"/v2/{name}/manifests/v1").body == manifest
        for layer in LAYERS:
            assert gateway.admin("GET", f"/v2/{name}/blobs/{sha256(layer)}").body == layer
        own, _ = gateway.push_image(name, "v2", b"pushed here")

    assert gateway.admin("GET", f"/v2/{name}/manifests/v1").headers["docker-content-digest"] == digest
    assert gateway.admin("GET", f"/v2/{name}/manifests/v2").headers["docker-content-digest"] == own
    assert [gateway.admin("GET", f"/v2/{name}/blobs/{sha256(layer)}").body for layer in LAYERS] == list(LAYERS)
    assert {"v1", "v2"} <= set(names(gateway, name))
