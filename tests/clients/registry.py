"""The gateway that the clients talk to: a served process, a wiretap before it, and a look at what it really stores.

Clients get the tap's address; the tests themselves ask the gateway directly, so that their own requests are not among
those that they count.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.clients.images import OCI_INDEX, OCI_MANIFEST, Arrived, arrived, sha256
from tests.clients.wiretap import Exchange, Wiretap
from tests.served import Served

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the gateway holds under a reference. Every blob was fetched and hashed."""

    digest: str
    media_type: str
    manifest: dict[str, Any]
    images: list[Arrived]


@dataclass(slots=True)
class Registry:
    """A running gateway and its repositories: anybody may read `public`, no tag of `immutable` can be moved."""

    gateway: Served
    tap: Wiretap
    first: str
    second: str
    public: str
    immutable: str
    colleague: tuple[str, str] = ("colleague", "a-password-of-their-own")
    """Somebody else who may push."""
    _names: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return self.tap.address

    def new_name(self, repository: str | None = None) -> str:
        """An image name that nothing was pushed to yet, in the first repository or in the given one."""
        return f"{repository or self.first}/image-{next(self._names)}"

    def reference(self, name: str, tag: str) -> str:
        """The full reference for a client; `tag` may be a digest."""
        return f"{self.address}/{name}{'@' if ':' in tag else ':'}{tag}"

    @contextmanager
    def watch(self) -> Iterator[list[Exchange]]:
        """A list that holds, after the block, every request that clients began in it."""
        seen: list[Exchange] = []
        mark = len(self.tap.exchanges)
        yield seen
        seen += self.tap.exchanges[mark:]

    def stored(self, name: str, reference: str) -> Stored:
        """Everything under this reference, fetched as the administrator. Fails where one byte is wrong."""
        reply = self.gateway.admin("GET", f"/v2/{name}/manifests/{reference}", headers={"Accept": ACCEPT})
        assert reply.status == 200, reply
        digest = sha256(reply.body)
        assert reply.headers["docker-content-digest"] == digest
        assert digest == reference or ":" not in reference
        manifest = reply.json()
        media_type = reply.headers["content-type"]
        if media_type in {OCI_INDEX, DOCKER_LIST}:
            images = [image for child in manifest["manifests"] for image in self.stored(name, child["digest"]).images]
        else:
            images = [self._image(name, manifest)]
        return Stored(digest, media_type, manifest, images)

    def must(self, method: str, path: str, value: object = None) -> dict[str, Any]:
        """A call of the management API, as the administrator, that must succeed; its answer."""
        reply = self.gateway.api(method, path, value)
        assert reply.status < 300, reply
        return dict(reply.json()) if reply.body else {}

    def tags(self, name: str) -> list[str]:
        """The tags of an image, all pages of them."""
        found: list[str] = []
        path = f"/v2/{name}/tags/list"
        while path:
            reply = self.gateway.admin("GET", path)
            if reply.status == 404:
                return []
            found += reply.json()["tags"]
            path = reply.headers.get("link", "").partition(">")[0].lstrip("<")
        return found

    def blob(self, name: str, descriptor: dict[str, Any]) -> bytes:
        """A blob, which must have the size and digest of its descriptor."""
        reply = self.gateway.admin("GET", f"/v2/{name}/blobs/{descriptor['digest']}")
        assert reply.status == 200, reply
        assert len(reply.body) == descriptor["size"]
        assert sha256(reply.body) == descriptor["digest"]
        return reply.body

    def _image(self, name: str, manifest: dict[str, Any]) -> Arrived:
        config = self.blob(name, manifest["config"])
        layers = [self.blob(name, layer) for layer in manifest["layers"]]
        if "rootfs" not in json.loads(config or b"{}"):  # an artifact: its files are what counts
            return Arrived("", sha256(config), tuple(map(sha256, layers)))
        return arrived(config, layers)


def is_upload(exchange: Exchange) -> bool:
    """Whether the request carries bytes of a blob to the gateway."""
    return "/blobs/uploads/" in exchange.path and exchange.body_bytes > 0


def is_spared(exchange: Exchange) -> bool:
    """Whether the client hears that it need not send a blob: it is there, or was mounted from another repository."""
    if exchange.method == "HEAD":
        return "/blobs/" in exchange.path and exchange.status == 200
    is_mount = exchange.method == "POST" and "/blobs/uploads/" in exchange.path and "mount" in exchange.query
    return is_mount and exchange.status == 201
