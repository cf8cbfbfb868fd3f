"""Images fetched ahead through the API."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.api.installation import Installation
from tests.gateway.api.proxied import HUB, ended, make_proxy
from tests.upstream.scripted import ScriptedUpstream

IMAGE = "team/app"


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream without content."""
    with ScriptedUpstream() as scripted:
        yield scripted


async def test_a_list_is_fetched_with_everything_in_it(installation: Installation, upstream: ScriptedUpstream) -> None:
    """Then it is here without the upstream; what is missing is told and stops nothing."""
    image = upstream.shelf.image(IMAGE, "1.0", b"one" * 1000, b"two" * 1000)
    await make_proxy(installation, upstream)

    begun = await installation.call("POST", f"{HUB}/warm", {"images": ["team/none:1.0", f"{IMAGE}:1.0"]}, auth="mary")
    found = await ended(installation, begun.headers["location"])
    upstream.refuse()
    served = [await installation.call("GET", f"/v2/team/hub/{IMAGE}/manifests/1.0")]
    served += [await installation.call("GET", f"/v2/team/hub/{IMAGE}/blobs/{digest}") for digest in image.blobs]
    listed = await installation.call("GET", f"{HUB}/warm")

    assert (begun.status, begun.value["state"]) == (201, "running")
    assert (found["state"], found["images"], found["images_done"]) == ("done", 2, 2)
    assert (found["blobs"], found["fetched_bytes"]) == (3, sum(map(len, image.blobs.values())))
    assert [each["image"] for each in found["failures"]] == ["team/none:1.0"]
    assert [each.status for each in served] == [200] * 4
    assert listed.value["items"] == [found]


async def test_lists_come_in_pages_newest_first(installation: Installation, upstream: ScriptedUpstream) -> None:
    """As all lists do; a cursor of somebody's own making is refused."""
    await make_proxy(installation, upstream)
    ids = []
    for number in range(5):
        begun = await installation.call("POST", f"{HUB}/warm", {"images": [f"team/none:{number}"]})
        ids.append((await ended(installation, begun.headers["location"]))["id"])

    found = await installation.pages(f"{HUB}/warm", limit=2)
    refused = await installation.call("GET", f"{HUB}/warm?after=x")

    assert [each["id"] for each in found] == ids[::-1]
    assert (refused.status, refused.fields) == (400, ["after"])


async def test_only_the_wanted_platforms_are_fetched(installation: Installation, upstream: ScriptedUpstream) -> None:
    """Those of the request, else those of the repository's settings; never twice."""
    platforms = {"linux/amd64": (b"a" * 100,), "linux/arm64": (b"b" * 100,), "linux/s390x": (b"c" * 100,)}
    index = upstream.shelf.index(IMAGE, "multi", platforms)
    await make_proxy(installation, upstream, platforms=["linux/amd64"])
    bodies: list[dict[str, Any]] = [
        {"images": [f"{IMAGE}:multi"]},
        {"images": [f"{IMAGE}:multi"]},
        {"images": [f"{IMAGE}:multi"], "platforms": ["linux/arm64"]},
    ]
    gets = []

    for body in bodies:
        begun = await installation.call("POST", f"{HUB}/warm", body)
        found = await ended(installation, begun.headers["location"])
        assert (found["state"], found["failures"]) == ("done", [])
        gets.append([max(map(upstream.gets, index.images[each].blobs)) for each in platforms])

    assert gets == [[1, 0, 0], [1, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    ("images", "field"),
    [
        ([], "images"),
        (["Upper:1"], "images.0"),
        (["a:1", "a:b:c"], "images.1"),
        (["a@sha256:00"], "images.0"),
        (["a:1@sha256:" + "0" * 64], "images.0"),
        (["host:5000/a:1"], "images.0"),
        (["x"] * 1001, "images"),
    ],
)
async def test_a_list_that_is_none_is_refused(installation: Installation, images: list[str], field: str) -> None:
    """With the place of what is wrong in it."""
    refused = await installation.call("POST", "/api/v1/repos/team/images/warm", {"images": images})

    assert (refused.status, refused.fields) == (400, [field])


async def test_the_ids_of_others_lead_nowhere(installation: Installation, upstream: ScriptedUpstream) -> None:
    """A21: a warm-up is found below its own repository alone."""
    await make_proxy(installation, upstream)
    begun = await installation.call("POST", "/api/v1/repos/team/images/warm", {"images": ["a:1"]})
    number = begun.value["id"]

    ours = await ended(installation, begun.headers["location"])
    wrong = [await installation.call("GET", f"{HUB}/warm/{text}") for text in (number, "0", "x", "9" * 30, "-1")]

    assert ours["state"] == "done"
    assert {each.status for each in wrong} == {404}
