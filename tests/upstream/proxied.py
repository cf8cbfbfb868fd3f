"""Proxy and virtual repositories in front of scripted upstreams, made through a gateway's management API."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.people import Place, make_place, unique
from tests.served import Reply, Served, sha256
from tests.servers.processes import wait_until
from tests.upstream.scripted import ScriptedUpstream

LOOPBACK: Final = "127.0.0.0/8"
IMPATIENT: Final = {"idle_timeout": 2.0, "connect_timeout": 2.0}
"""Seconds that tests can wait for, of those whose upstream is silent; others have the time that users have."""
HEALED_S: Final = 40.0
"""More than an upstream that was in trouble is left alone for, on a busy machine."""


def make_proxy(gateway: Served, *upstreams: ScriptedUpstream, **settings: Any) -> Place:
    """A proxy repository of these, which may be reached on loopback; `settings` as in the API."""
    urls = [upstream.url for upstream in upstreams]
    made = {"remote_urls": urls, "private_networks": [LOOPBACK], "negative_ttl": 0, **settings}
    return make_place(gateway, repository_type="proxy", **made)


def make_virtual(gateway: Served, *members: Place, **settings: Any) -> Place:
    """A virtual repository of these, in this order."""
    listed = [{"repository": member.name} for member in members]
    return make_place(gateway, repository_type="virtual", members=listed, **settings)


def clear(gateway: Served, place: Place, image: str | None = None) -> None:
    """Let the proxy forget what it has, or only of one image."""
    query = "" if image is None else f"?image={image}"
    reply = gateway.api("DELETE", f"/api/v1/repos/{place.name}/cache{query}")
    assert reply.status in {200, 202, 204}, reply


def manifest_path(place: Place, image: str, reference: str) -> str:
    """Where a client asks for a manifest."""
    return f"/v2/{place.name}/{image}/manifests/{reference}"


def blob_path(place: Place, image: str, digest: str) -> str:
    """Where a client asks for a blob."""
    return f"/v2/{place.name}/{image}/blobs/{digest}"


def files_of(gateway: Served, content: bytes) -> list[Path]:
    """Where in its storage the gateway keeps these bytes."""
    hexadecimal = sha256(content).partition(":")[2]
    return [path for path in (gateway.data / "storages").rglob(f"*{hexadecimal[4:]}*") if path.is_file()]


def is_stored(gateway: Served, *contents: bytes) -> bool:
    """Whether all of these were published, which happens a moment after the first reader has them."""
    return all(files_of(gateway, content) for content in contents)


def in_time(ask: Callable[[], Reply], is_good: Callable[[Reply], bool], deadline_s: float = HEALED_S) -> Reply:
    """Ask until the answer is good: an upstream that was in trouble is left alone for a while. The last answer."""
    replies: list[Reply] = []

    def tried() -> bool:
        replies.append(ask())
        return is_good(replies[-1])

    wait_until(tried, deadline_s)
    return replies[-1]


def image_name() -> str:
    """A name for an image that nobody else uses."""
    return unique("team/app")
