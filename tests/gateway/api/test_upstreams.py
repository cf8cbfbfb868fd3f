"""How an upstream is, and a cache emptied by hand."""

from collections.abc import Iterator

import pytest

from tests.gateway.api.installation import REPOSITORY, Installation
from tests.gateway.api.proxied import HUB, make_proxy, pull
from tests.served import sha256
from tests.upstream.login import Bearer
from tests.upstream.registry import Budget
from tests.upstream.scripted import ScriptedUpstream

IMAGE = "team/app"


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream with one image of one tag."""
    with ScriptedUpstream() as scripted:
        yield scripted


async def test_the_budget_and_the_state_of_an_upstream_are_told(
    installation: Installation, upstream: ScriptedUpstream
) -> None:
    """What the upstream said of it last, for the user that is asked with, whose password is not told."""
    secret = "c4n4ry-s3cret"
    upstream.shelf.image(IMAGE, "latest", b"layer")
    upstream.registry.auth = Bearer({"ci": secret})
    upstream.registry.budget = Budget(limit=100, remaining=42)
    await make_proxy(installation, upstream, credentials=[{"username": "ci", "password": secret}])
    await pull(installation, IMAGE, "latest")

    told = await installation.call("GET", f"{HUB}/upstream", auth="mary")

    assert told.value["offline"] is False
    (address,), (budget,) = told.value["addresses"], told.value["budgets"]
    assert (address["url"], address["state"], address["troubles"]) == (upstream.url, "closed", 0)
    assert (budget["account"], budget["allowed"], budget["remaining"]) == ("ci", 100, 41)
    assert secret.encode() not in told.body


async def test_trouble_is_told_without_secrets(installation: Installation, upstream: ScriptedUpstream) -> None:
    """What went wrong last, and how often in a row."""
    await make_proxy(installation, upstream, connect_timeout=2.0)
    upstream.refuse()
    failed = await installation.call("GET", f"/v2/team/hub/{IMAGE}/manifests/latest")

    (address,) = (await installation.call("GET", f"{HUB}/upstream")).value["addresses"]

    assert failed.status == 502
    assert address["troubles"] >= 1
    assert address["last_trouble"]
    assert address["last_trouble_at"]


async def test_what_was_denied_is_asked_for_with_new_credentials(
    installation: Installation, upstream: ScriptedUpstream
) -> None:
    """At once: a "not found" for want of rights ends with the credentials, and with the settings, it was told to."""
    upstream.shelf.image(IMAGE, "latest", b"layer")
    upstream.registry.auth = Bearer({"ci": "right"})
    await make_proxy(installation, upstream, negative_ttl=3600)
    paths = [f"/v2/team/hub/{IMAGE}/{path}" for path in ("manifests/latest", f"blobs/{sha256(b'layer')}", "tags/list")]

    async def statuses() -> list[int]:
        return [(await installation.call("GET", path)).status for path in paths]

    assert await statuses() == [404, 404, 404]
    await installation.call("PATCH", HUB, {"credentials": [{"username": "ci", "password": "right"}]})
    assert await statuses() == [200, 200, 200]

    other = [f"/v2/team/hub/{IMAGE}/manifests/v1", f"/v2/team/hub/{IMAGE}/blobs/{sha256(b'v1')}"]
    for wanted in (404, 200):
        assert [(await installation.call("GET", path)).status for path in other] == [wanted, wanted]
        upstream.shelf.image(IMAGE, "v1", b"v1")
        await installation.call("PATCH", HUB, {"cache_ttl": 7})


async def test_a_repository_without_upstream_has_no_state_of_one(installation: Installation) -> None:
    """And no cache to empty: what it holds is its own."""
    state = await installation.call("GET", f"/api/v1/repos/{REPOSITORY}/upstream")
    cleared = await installation.call("DELETE", f"/api/v1/repos/{REPOSITORY}/cache")

    assert (state.status, cleared.status) == (404, 400)
    assert "deleted as images are" in cleared.value["errors"][0]["message"]


async def test_a_cleared_tag_is_asked_for_anew(installation: Installation, upstream: ScriptedUpstream) -> None:
    """At the next pull, long before its time is over; its manifest is not fetched again if it is the same."""
    old = upstream.shelf.image(IMAGE, "latest", b"layer")
    await make_proxy(installation, upstream, cache_ttl=86400)
    await pull(installation, IMAGE, "latest")
    new = upstream.shelf.image(IMAGE, "latest", b"another layer")

    before = await installation.call("GET", f"/v2/team/hub/{IMAGE}/manifests/latest")
    cleared = await installation.call("DELETE", f"{HUB}/cache?image={IMAGE}&tag=latest")
    after = await installation.call("GET", f"/v2/team/hub/{IMAGE}/manifests/latest")
    again = await installation.call("DELETE", f"{HUB}/cache?image={IMAGE}&tag=gone")

    assert before.headers["docker-content-digest"] == str(old.digest)
    assert cleared.value == {"tags": 1, "manifests": 0, "freed_bytes": 0, "complete": True}
    assert after.headers["docker-content-digest"] == str(new.digest)
    assert again.value["tags"] == 0


async def test_an_image_or_all_of_a_cache_is_cleared(installation: Installation, upstream: ScriptedUpstream) -> None:
    """Manifests, children and blobs; what is left is served on, what is gone is fetched anew."""
    index = upstream.shelf.index(IMAGE, "multi", {"linux/amd64": (b"a" * 1000,), "linux/arm64": (b"b" * 1000,)})
    other = upstream.shelf.image("team/other", "latest", b"c" * 1000)
    await make_proxy(installation, upstream)
    await pull(installation, IMAGE, "multi")
    for image in index.images.values():
        await pull(installation, IMAGE, str(image.digest), *map(str, image.blobs))
    await pull(installation, "team/other", "latest", *map(str, other.blobs))

    one = await installation.call("DELETE", f"{HUB}/cache?image={IMAGE}")
    rest = await installation.call("DELETE", f"{HUB}/cache")
    none = await installation.call("DELETE", f"{HUB}/cache")
    upstream.refuse()
    gone = await installation.call("GET", f"/v2/team/hub/team/other/manifests/{other.digest}")

    assert one.value["complete"] is True
    assert one.value["freed_bytes"] > 2000
    assert 1000 < rest.value["freed_bytes"] < 2000 + 1000
    assert none.value == {"tags": 0, "manifests": 0, "freed_bytes": 0, "complete": True}
    assert gone.status == 502


@pytest.mark.parametrize(
    ("query", "field"), [("?tag=a", "image"), ("?image=A", "image"), ("?image=a&tag=-", "tag"), ("?all=1", "all")]
)
async def test_what_cannot_be_cleared_is_said(
    installation: Installation, upstream: ScriptedUpstream, query: str, field: str
) -> None:
    """Nothing is cleared by mistake."""
    await make_proxy(installation, upstream)

    refused = await installation.call("DELETE", f"{HUB}/cache{query}")

    assert (refused.status, refused.fields) == (400, [field])
