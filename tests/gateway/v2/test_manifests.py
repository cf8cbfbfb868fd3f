"""Manifests over HTTP, where the rows on the wire do not look: races, what is read when, and what large ones cost."""

import json
from collections import Counter
from urllib.parse import urlencode

import pytest
import trio

from gateway.oci.strict_json import LARGE_BYTES
from storage import Digest
from tests.gateway.edge.visitors import ask
from tests.gateway.registry import CONFIG, NAME, Registry
from tests.served import OCI_MANIFEST, image_manifest

IMAGE = image_manifest(CONFIG)


def variant(number: int) -> bytes:
    """One of many images over the same config."""
    return image_manifest(CONFIG, annotations={"number": str(number)})


async def race(registry: Registry, numbers: range, **condition: str) -> Counter[int]:
    """How many of different manifests, put to one tag at once, were answered how."""
    statuses: list[int] = []

    async def put(number: int) -> None:
        statuses.append((await registry.put_manifest(variant(number), "v1", **condition)).status)

    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(put, number)
    return Counter(statuses)


async def test_a_condition_holds_until_the_tag_is_written(registry: Registry) -> None:
    """MP-24: of eight pushes at once that want a new tag one wins, and of eight that replace what they saw one, too."""
    await registry.push_blob(CONFIG)
    assert await race(registry, range(8), If_None_Match="*") == {201: 1, 412: 7}

    seen = (await registry.ask("HEAD", f"/v2/{NAME}/manifests/v1")).headers["etag"]
    assert await race(registry, range(8, 16), If_Match=seen) == {201: 1, 412: 7}


async def test_one_request_sets_many_tags_or_none(registry: Registry) -> None:
    """MP-21: every tag once however often named, in the answer too; over a hundred, and what is no tag, nothing."""
    await registry.push_blob(CONFIG)
    digest = Digest.of(IMAGE)

    put = await registry.put_manifest(IMAGE, f"{digest}?tag=a&tag=b&tag=a")
    assert [value for name, value in put.all_headers if name == "oci-tag"] == ["a", "b"]

    many = urlencode([("tag", f"t{number}") for number in range(101)])
    for query, status in (("tag=c&tag=-bad", 400), (f"tag=c&tag={digest}", 400), ("tag=c&tag=", 400), (many, 414)):
        assert (await registry.put_manifest(IMAGE, f"{digest}?{query}")).status == status
    assert json.loads((await registry.ask("GET", f"/v2/{NAME}/tags/list")).body)["tags"] == ["a", "b"]


async def test_a_tag_can_be_pushed_under_another_algorithm(registry: Registry) -> None:
    """MP-20: `digest=` beside a tag says what the content is called; a wrong one stores nothing."""
    await registry.push_blob(CONFIG)
    wide = Digest.of(IMAGE, "sha512")

    wrong = await registry.put_manifest(IMAGE, f"v1?digest={Digest.of(b'other')}")
    put = await registry.put_manifest(IMAGE, f"v1?digest={wide}")
    got = await registry.ask("GET", f"/v2/{NAME}/manifests/v1")

    assert (wrong.status, wrong.codes) == (400, ["DIGEST_INVALID"])
    assert put.headers["location"] == f"/v2/{NAME}/manifests/{wide}"
    assert (got.headers["docker-content-digest"], got.body) == (str(wide), IMAGE)


@pytest.mark.parametrize("reference", ["-bad", f"sha256:{'a' * 63}", "v1?tag=-bad", f"v1?tag=sha256:{'a' * 64}"])
async def test_what_cannot_be_right_is_refused_unread(registry: Registry, reference: str) -> None:
    """A bad reference or tag is decided from the path: four megabytes are not read for it."""
    read = False

    async def receive() -> dict[str, object]:
        nonlocal read
        read = True
        return {"type": "http.request", "body": IMAGE, "more_body": False}

    headers = {"Authorization": registry.admin, "Content-Type": OCI_MANIFEST, "Content-Length": str(len(IMAGE))}
    answer = await ask(registry.app, f"/v2/{NAME}/manifests/{reference}", "PUT", headers, receive=receive)

    assert (answer.status, read) == (400, False)


async def test_a_client_that_leaves_stores_nothing(registry: Registry) -> None:
    """A body that ends early is no manifest, even where what came would have been one."""
    await registry.push_blob(CONFIG)
    messages: list[dict[str, object]] = [
        {"type": "http.request", "body": IMAGE, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    headers = {"Authorization": registry.admin, "Content-Type": OCI_MANIFEST, "Transfer-Encoding": "chunked"}
    answer = await ask(registry.app, f"/v2/{NAME}/manifests/v1", "PUT", headers, receive=receive)

    assert answer.status == 400
    assert (await registry.ask("HEAD", f"/v2/{NAME}/manifests/v1")).status == 404


@pytest.mark.parametrize("size", [LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1])
async def test_large_manifests_are_read_like_small_ones(registry: Registry, size: int) -> None:
    """C3: what is parsed in a thread is judged the same, good or bad."""
    await registry.push_blob(CONFIG)
    base = image_manifest(CONFIG, annotations={"a": ""})
    good = base.replace(b'"a": ""', b'"a": "' + b"x" * (size - len(base)) + b'"')
    assert len(good) == size

    assert (await registry.put_manifest(good, "v1")).status == 201
    assert (await registry.ask("GET", f"/v2/{NAME}/manifests/v1")).body == good
    bad = await registry.put_manifest(good[:-1] + b" ", "v2")
    assert (bad.status, bad.codes) == (400, ["MANIFEST_INVALID"])


@pytest.mark.slow  # 4 MiB are parsed
async def test_parsing_large_manifests_lets_others_go_on(registry: Registry) -> None:
    """C3: while one of 4 MiB is parsed, a small request is answered; parsing does not hold the loop."""
    await registry.push_image("v1")
    nested = b'{"schemaVersion":2,"x":[' + b",".join([b"[]"] * 1_390_000) + b"]}"
    order: list[str] = []

    async def large() -> None:
        assert (await registry.put_manifest(nested, "v2")).status == 400
        order.append("large")

    async def small() -> None:
        assert (await registry.ask("GET", f"/v2/{NAME}/manifests/v1")).status == 200
        order.append("small")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(large)
        await trio.testing.wait_all_tasks_blocked()  # it has read the body and waits for its thread
        nursery.start_soon(small)

    assert order == ["small", "large"]


async def test_caches_are_told_what_can_change(registry: Registry) -> None:
    """MG-12: what a digest names never changes; a tag may have moved a moment ago, so it is asked for again."""
    await registry.push_image("v1")
    by_tag = f"/v2/{NAME}/manifests/v1"
    by_digest = f"/v2/{NAME}/manifests/{Digest.of(IMAGE)}"

    assert (await registry.ask("GET", by_tag)).headers["cache-control"] == "no-cache"
    assert "immutable" in (await registry.ask("GET", by_digest)).headers["cache-control"]
    for path in (by_tag, by_digest):
        known = await registry.ask("GET", path, headers={"If-None-Match": f'"{Digest.of(IMAGE)}"'})
        assert (known.status, known.body) == (304, b"")
