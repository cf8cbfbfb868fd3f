"""Who may not read a proxy gets nothing of it: not by a digest, not while it arrives, and not through somebody else.

Rows A1, A6, A13 and A18 of the security reference, where repositories have upstreams.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.people import Login, Place, grant, make_place, make_user
from tests.served import OCI_MANIFEST, Reply, Served, image_manifest, sha256
from tests.servers.processes import wait_until
from tests.upstream.login import Bearer
from tests.upstream.proxied import blob_path, image_name, make_proxy, make_virtual, manifest_path
from tests.upstream.script import Stall, on
from tests.upstream.scripted import ScriptedUpstream
from tests.upstream.shelf import Image

pytestmark = [pytest.mark.served, pytest.mark.slow]

USER, SECRET = "robot", "the-password-there"


@dataclass(frozen=True, slots=True)
class Scene:
    """A private proxy with credentials that only its reader may read, and a stranger's own proxy without them.

    Both lead to the same upstream, which shows its private image to its own users only.
    """

    gateway: Served
    upstream: ScriptedUpstream
    private: Place
    own: Place
    reader: Login
    stranger: Login
    image: Image
    layer: bytes

    def secrets(self, place: Place) -> list[str]:
        """The paths of everything that is private, in this repository."""
        name = self.image.name
        return [
            manifest_path(place, name, "latest"),
            manifest_path(place, name, self.image.digest),
            *(blob_path(place, name, digest) for digest in self.image.blobs),
            f"/v2/{place.name}/{name}/tags/list",
            f"/v2/{place.name}/{name}/referrers/{self.image.digest}",
        ]


@pytest.fixture
def scene(gateway: Served, upstream: ScriptedUpstream, layer: bytes) -> Scene:
    """As above; nothing was pulled yet."""
    upstream.registry.auth = Bearer({USER: SECRET})
    image = upstream.shelf.image(image_name(), "latest", layer)
    private = make_proxy(gateway, upstream, credentials=[{"username": USER, "password": SECRET}])
    own = make_proxy(gateway, upstream)
    reader, stranger = make_user(gateway), make_user(gateway)
    grant(gateway, reader, "reader", private)
    grant(gateway, stranger, "maintainer", own)
    return Scene(gateway, upstream, private, own, reader, stranger, image, layer)


def is_nothing(reply: Reply) -> bool:
    """Whether it tells no more than that there is nothing: an unknown thing's referrers are an empty list."""
    return reply.status in {404, 502} or (reply.status, reply.json().get("manifests")) == (200, [])


def pull_all(scene: Scene) -> None:
    """The reader pulls everything, so that it is here."""
    for path in scene.secrets(scene.private):
        assert scene.gateway.request("GET", path, auth=scene.reader).status == 200, path


def test_nothing_of_a_private_proxy_for_strangers(scene: Scene) -> None:
    """Warm or cold: no path into it answers anything but 401, and the upstream does not hear of the attempt."""
    for is_warm in (False, True):
        if is_warm:
            pull_all(scene)
        asked = len(scene.upstream.requests)
        for path in scene.secrets(scene.private):
            for method in ("GET", "HEAD"):
                for auth in (None, scene.stranger):
                    assert scene.gateway.request(method, path, auth=auth).status == 401, (method, path)
        assert len(scene.upstream.requests) == asked


def test_a_digest_is_no_key(scene: Scene) -> None:
    """What another repository has from the same upstream is not given out where the upstream itself refuses it."""
    pull_all(scene)

    for path in scene.secrets(scene.own):
        reply = scene.gateway.request("GET", path, auth=scene.stranger)
        assert is_nothing(reply), path
        assert scene.layer[:50] not in reply.body


def test_a_refusal_is_nobody_elses(scene: Scene) -> None:
    """That the stranger's proxy was refused does not make the image unknown to who may have it."""
    for path in scene.secrets(scene.own):
        assert is_nothing(scene.gateway.request("GET", path, auth=scene.stranger)), path

    pull_all(scene)


def test_what_arrives_is_not_shared_between_repositories(scene: Scene) -> None:
    """While a private blob is half here, a stranger's repository neither reads along nor gets what is here."""
    assert scene.gateway.request("GET", scene.secrets(scene.private)[0], auth=scene.reader).status == 200
    digest = sha256(scene.layer)
    scene.upstream.script(Stall(len(scene.layer) // 2), on("blobs", method="GET", reference=digest))
    with ThreadPoolExecutor(1) as pool:
        path = blob_path(scene.private, scene.image.name, digest)
        reading = pool.submit(scene.gateway.request, "GET", path, auth=scene.reader)
        assert wait_until(lambda: scene.upstream.gets(digest) == 1, 20)

        reply = scene.gateway.request("GET", blob_path(scene.own, scene.image.name, digest), auth=scene.stranger)

        assert reply.status in {404, 502}
        scene.upstream.heal()
        assert reading.result().body == scene.layer


def test_a6_what_is_here_is_not_linked_by_its_digest(scene: Scene) -> None:
    """A stranger's hosted repository gets a private blob neither by HEAD, nor by a mount, nor by naming it."""
    pull_all(scene)
    gateway, digest = scene.gateway, sha256(scene.layer)
    place = make_place(gateway)
    grant(gateway, scene.stranger, "maintainer", place)
    name = f"{place.name}/own"
    uploads = f"/v2/{name}/blobs/uploads/"
    origin = f"{scene.private.name}/{scene.image.name}"

    assert gateway.request("HEAD", f"/v2/{name}/blobs/{digest}", auth=scene.stranger).status == 404
    for query in (f"mount={digest}", f"mount={digest}&from={origin}", f"mount={digest}&from={scene.own.name}/x"):
        assert gateway.request("POST", f"{uploads}?{query}", b"", auth=scene.stranger).status == 202, query
    manifest = image_manifest(b"{}", scene.layer)
    gateway.push_blob(name, b"{}", auth=scene.stranger)
    typed = {"Content-Type": OCI_MANIFEST}
    put = gateway.request("PUT", f"/v2/{name}/manifests/latest", manifest, typed, auth=scene.stranger)
    assert put.status in {400, 404}
    assert gateway.request("GET", f"/v2/{name}/blobs/{digest}", auth=scene.stranger).status == 404


def test_a18_a_public_view_shows_nothing_private(scene: Scene, layer: bytes) -> None:
    """Through a virtual repository everybody sees what they may see of its members, warm or cold, by any path."""
    gateway = scene.gateway
    with ExitStack() as stack:
        other = stack.enter_context(ScriptedUpstream())
        public = other.shelf.image(image_name(), "latest", os.urandom(100))
        open_proxy = make_proxy(gateway, other, anonymous_read=True)
        view = make_virtual(gateway, scene.private, open_proxy, anonymous_read=True)
        for _ in range(2):
            for path in scene.secrets(view):
                for auth in (None, scene.stranger):
                    reply = gateway.request("GET", path, auth=auth)
                    assert is_nothing(reply), path
            pull_all(scene)

        assert gateway.request("GET", manifest_path(view, public.name, "latest")).body == public.manifest.content
        catalog = gateway.request("GET", f"/v2/{view.name}/_catalog")
        assert scene.image.name not in catalog.body.decode()
        assert gateway.request("GET", scene.secrets(view)[0], auth=scene.reader).body == scene.image.manifest.content


def test_a13_who_pulls_first_owns_nothing(scene: Scene) -> None:
    """The reader who brought an image in may still only read: no push, no deletion, no setting."""
    pull_all(scene)
    gateway, base = scene.gateway, f"/v2/{scene.private.name}/{scene.image.name}"
    typed = {"Content-Type": OCI_MANIFEST}

    replies = [
        gateway.request("PUT", f"{base}/manifests/latest", scene.image.manifest.content, typed, auth=scene.reader),
        gateway.request("DELETE", f"{base}/manifests/latest", auth=scene.reader),
        gateway.request("POST", f"{base}/blobs/uploads/", b"", auth=scene.reader),
        gateway.api("PATCH", f"/api/v1/repos/{scene.private.name}", {"offline": True}, auth=scene.reader),
        gateway.api("DELETE", f"/api/v1/repos/{scene.private.name}/cache", auth=scene.reader),
        gateway.api("DELETE", f"/api/v1/repos/{scene.private.name}", auth=scene.reader),
    ]

    assert {reply.status for reply in replies} <= {401, 403, 404, 405}
    pull_all(scene)


def test_credentials_never_come_out(scene: Scene) -> None:
    """No answer of the API and no line of the log has the upstream's password, whoever asks."""
    pull_all(scene)

    for path in ("repos", f"repos/{scene.private.name}", f"repos/{scene.private.name}/upstream", "audit"):
        for auth in (("admin", "correct-horse-battery"), scene.reader):
            assert SECRET not in scene.gateway.api("GET", f"/api/v1/{path}", auth=auth).body.decode()
    assert SECRET not in scene.gateway.log()
