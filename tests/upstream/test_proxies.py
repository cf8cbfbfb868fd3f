"""Proxies from end to end: blobs of every size, ranges, conditions, several addresses, patterns, and being offline."""

import hashlib
import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.people import Place, change
from tests.served import OCI_MANIFEST, Reply, Served, descriptor, image_manifest, sha256
from tests.servers.processes import wait_until
from tests.upstream.login import Bearer
from tests.upstream.proxied import blob_path, image_name, in_time, is_stored, make_proxy, manifest_path
from tests.upstream.pulling import Client
from tests.upstream.script import Chunked, Cut, Redirect, Says, Seen, Stall, on
from tests.upstream.scripted import ScriptedUpstream
from tests.upstream.shelf import Manifest

pytestmark = [pytest.mark.served, pytest.mark.slow]

KIB, MIB = 1 << 10, 1 << 20
SIZES = (1, 2, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 256 * KIB, MIB - 1, MIB, MIB + 1, 3 * MIB + 7)


def ask(gateway: Served, place: Place, image: str, reference: str = "latest", **headers: str) -> Reply:
    """A manifest through the proxy."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.admin("GET", manifest_path(place, image, reference), headers=named)


def test_blobs_of_every_size_come_through(gateway: Served, upstream: ScriptedUpstream) -> None:
    """Cold and warm, whole and in parts, around the sizes of pieces; the empty blob too."""
    name, contents = image_name(), [b"", *(os.urandom(size) for size in SIZES)]
    upstream.shelf.image(name, "latest", *contents)
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200

    for content in contents:
        path = blob_path(place, name, sha256(content))
        assert [gateway.admin("GET", path).body for _ in range(3)] == [content] * 3, len(content)
        head = gateway.admin("HEAD", path)
        assert (head.status, head.headers["content-length"]) == (200, str(len(content)))
        if content:
            last = gateway.admin("GET", path, headers={"Range": "bytes=-1"})
            assert (last.status, last.body) == (206, content[-1:])
    assert set(upstream.all_gets().values()) == {1}


def test_a_blob_without_a_length_comes_through(gateway: Served, upstream: ScriptedUpstream, layer: bytes) -> None:
    """Stores that send in chunks say no length: the manifest has said it, and the digest decides."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    upstream.script(Chunked(), on("blobs"))
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200

    reply = gateway.admin("GET", blob_path(place, name, sha256(layer)))

    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, layer, str(len(layer)))
    assert upstream.gets(sha256(layer)) == 1


@pytest.mark.parametrize("span", ["0-0", "0-", "100-199", "199000-", "-1", "-5000", "150000-999999"])
def test_a_range_of_a_cold_blob(gateway: Served, upstream: ScriptedUpstream, span: str) -> None:
    """A part may be what is asked for first; the whole comes of the same fetch."""
    name, content = image_name(), os.urandom(200_000)
    upstream.shelf.image(name, "latest", content)
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200
    first, _, last = span.partition("-")
    start = int(first) if first else len(content) - int(last)
    end = min(int(last), len(content) - 1) if first and last else len(content) - 1

    part = gateway.admin("GET", blob_path(place, name, sha256(content)), headers={"Range": f"bytes={span}"})

    assert (part.status, part.body) == (206, content[start : end + 1])
    assert part.headers["content-range"] == f"bytes {start}-{end}/{len(content)}"
    assert gateway.admin("GET", blob_path(place, name, sha256(content))).body == content
    assert upstream.gets(sha256(content)) == 1


def test_a_cold_blob_is_described_without_being_fetched(gateway: Served, upstream: ScriptedUpstream) -> None:
    """HEAD costs no bytes; a range beyond the end is 416; what nobody has is 404."""
    name, content = image_name(), os.urandom(100_000)
    upstream.shelf.image(name, "latest", content)
    place = make_proxy(gateway, upstream)
    path = blob_path(place, name, sha256(content))

    head = gateway.admin("HEAD", path)
    beyond = gateway.admin("GET", path, headers={"Range": "bytes=100000-"})

    assert (head.status, head.headers["content-length"]) == (200, "100000")
    assert head.headers["docker-content-digest"] == sha256(content)
    assert beyond.status == 416
    assert gateway.admin("GET", blob_path(place, name, sha256(os.urandom(9)))).codes() == ["BLOB_UNKNOWN"]
    assert upstream.gets(sha256(content)) == 0


def test_the_other_digest_algorithm(gateway: Served, upstream: ScriptedUpstream) -> None:
    """A layer that the manifest names by sha512 is fetched, verified and kept like any other."""
    name, content, wrong = image_name(), os.urandom(300_000), os.urandom(300_000)
    digests = [f"sha512:{hashlib.sha512(each).hexdigest()}" for each in (content, wrong)]
    for digest in digests:
        upstream.shelf.put_blob(name, content, digest)
    document = json.loads(image_manifest(b"{}", content, wrong))
    for layer, digest in zip(document["layers"], digests, strict=True):
        layer["digest"] = digest
    upstream.shelf.put_manifest(name, Manifest(json.dumps(document).encode()), "latest")
    place = make_proxy(gateway, upstream)
    token = gateway.token(f"repository:{place.name}/{name}:pull")
    assert ask(gateway, place, name).status == 200

    good, bad = (Client(gateway, blob_path(place, name, digest), token).pull() for digest in digests)

    assert (good.is_complete, good.body) == (True, content)
    assert not bad.is_complete
    assert Client(gateway, blob_path(place, name, digests[0]), token).pull().body == content
    assert upstream.gets(digests[0]) == 1


@pytest.mark.parametrize("by_bytes", [-1000, 1000])
def test_a_manifest_that_lies_about_a_size_harms_nobody_else(
    gateway: Served, upstream: ScriptedUpstream, by_bytes: int
) -> None:
    """Its own layer cannot be had; an honest image with the same layer in the same repository can."""
    liar, honest, content = image_name(), image_name(), os.urandom(200_000)
    document = json.loads(image_manifest(b"{}", content))
    document["layers"][0]["size"] += by_bytes
    upstream.shelf.put_manifest(liar, Manifest(json.dumps(document).encode()), "latest")
    upstream.shelf.put_blob(liar, content)
    upstream.shelf.image(honest, "latest", content)
    place = make_proxy(gateway, upstream)
    tokens = {name: gateway.token(f"repository:{place.name}/{name}:pull") for name in (liar, honest)}
    assert {ask(gateway, place, name).status for name in (liar, honest)} == {200}

    lied = Client(gateway, blob_path(place, liar, sha256(content)), tokens[liar]).pull()
    good = in_time(
        lambda: gateway.request("GET", blob_path(place, honest, sha256(content)), auth=tokens[honest]),
        lambda reply: reply.status == 200,
    )

    assert not lied.is_complete or lied.body == content
    assert (good.status, good.body) == (200, content)


def test_a_known_manifest_is_not_sent_again(gateway: Served, upstream: ScriptedUpstream) -> None:
    """If-None-Match is answered with 304, of tags that are believed and of digests, and costs the upstream nothing."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", b"content")
    place = make_proxy(gateway, upstream, cache_ttl=600)
    etag = ask(gateway, place, name).headers["etag"]
    asked = len(upstream.requests)

    replies = [ask(gateway, place, name, reference, If_None_Match=etag) for reference in ("latest", image.digest)]

    assert [reply.status for reply in replies] == [304, 304]
    assert len(upstream.requests) == asked


def test_an_index_is_never_rewritten_and_children_come_lazily(gateway: Served, upstream: ScriptedUpstream) -> None:
    """The index is the upstream's, byte for byte; a child is fetched when somebody asks for it, and not before."""
    name = image_name()
    index = upstream.shelf.index(name, "multi", {"linux/amd64": (b"amd64",), "linux/arm64": (b"arm64",)})
    place = make_proxy(gateway, upstream)

    assert ask(gateway, place, name, "multi").body == index.manifest.content
    child = index.images["linux/arm64"]
    assert upstream.gets(child.digest) == 0
    assert ask(gateway, place, name, child.digest).body == child.manifest.content
    assert upstream.gets(index.images["linux/amd64"].digest) == 0


def test_a_tag_that_moves_is_seen_when_its_time_is_up(gateway: Served, upstream: ScriptedUpstream) -> None:
    """Within its time a tag is believed; where the time is nothing each pull looks, for which a HEAD is enough."""
    name = image_name()
    old = upstream.shelf.image(name, "moving", b"old")
    patient, eager = make_proxy(gateway, upstream, cache_ttl=600), make_proxy(gateway, upstream, cache_ttl=0)
    for place in (patient, eager):
        assert ask(gateway, place, name, "moving").body == old.manifest.content
    counted = upstream.registry.counted_pulls
    assert {ask(gateway, eager, name, "moving").body for _ in range(5)} == {old.manifest.content}
    assert upstream.registry.counted_pulls == counted

    new = upstream.shelf.image(name, "moving", b"new")

    assert ask(gateway, patient, name, "moving").body == old.manifest.content
    assert ask(gateway, eager, name, "moving").body == new.manifest.content
    assert upstream.registry.counted_pulls == counted + 1


def test_the_next_address_steps_in(gateway: Served, upstream: ScriptedUpstream, other: ScriptedUpstream) -> None:
    """Of several addresses the first that answers is enough, for manifests and for blobs that break off half-way."""
    name, content = image_name(), os.urandom(400_000)
    image = upstream.shelf.image(name, "latest", content)
    other.shelf.image(name, "latest", content)
    place = make_proxy(gateway, upstream, other)
    upstream.script(Says(503), on("manifests"))
    assert ask(gateway, place, name).body == image.manifest.content
    upstream.heal()
    upstream.script(Cut(100_000), on("blobs", method="GET"))

    pulled = gateway.admin("GET", blob_path(place, name, sha256(content)))

    assert (pulled.status, pulled.body) == (200, content)


def test_only_images_that_the_patterns_allow(gateway: Served, upstream: ScriptedUpstream) -> None:
    """What is not included, or is excluded, is unknown, and the upstream does not hear of it."""
    names = [f"allowed/{image_name()}", f"allowed/secret/{image_name()}", f"other/{image_name()}"]
    for name in names:
        upstream.shelf.image(name, "latest", b"content")
    place = make_proxy(gateway, upstream, include=["allowed/**"], exclude=["allowed/secret/**"])

    assert [ask(gateway, place, name).status for name in names] == [200, 404, 404]
    assert {seen.name for seen in upstream.requests if seen.name} == {names[0]}


def test_offline_nobody_is_asked(gateway: Served, upstream: ScriptedUpstream, layer: bytes) -> None:
    """What is here is served for as long as it is here; what is not is no secret of ours to keep: it is not here."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", layer, b"never pulled")
    place = make_proxy(gateway, upstream, cache_ttl=0)
    assert ask(gateway, place, name).status == 200
    assert gateway.admin("GET", blob_path(place, name, sha256(layer))).body == layer
    assert wait_until(lambda: is_stored(gateway, layer), 20)
    change(gateway, f"repos/{place.name}", {"offline": True})
    asked = len(upstream.requests)

    assert ask(gateway, place, name).body == image.manifest.content
    assert gateway.admin("GET", blob_path(place, name, sha256(layer))).body == layer
    assert ask(gateway, place, name, "other").status in {404, 502, 503, 504}
    assert gateway.admin("GET", f"/v2/{place.name}/{name}/tags/list").json()["tags"] == ["latest"]
    assert len(upstream.requests) == asked


def test_connections_that_the_upstream_has_closed(gateway: Served, upstream: ScriptedUpstream) -> None:
    """An upstream hangs up between two pulls, as they do after a while: the next pull notices nothing."""
    name, contents = image_name(), [os.urandom(1000) for _ in range(6)]
    upstream.shelf.image(name, "latest", *contents)
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200

    for content in contents:
        assert gateway.admin("GET", blob_path(place, name, sha256(content))).body == content
        upstream.hang_up()

    assert upstream.all_gets().total() == len(contents)


def test_a_signed_address_is_good_for_once(
    gateway: Served, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """The store hangs up half-way and does not take the same signature again: the rest is asked for by a new one."""
    name, content = image_name(), os.urandom(400_000)
    upstream.shelf.image(name, "latest", content)
    other.shelf.put_blob(name, content)
    numbers = itertools.count()
    upstream.script(Redirect(lambda seen: f"{other.url}{seen.path}?signature={next(numbers)}"), on("blobs"))
    used: set[str] = set()

    def is_stale(seen: Seen) -> bool:
        signature = seen.query["signature"][0]
        is_known = signature in used
        used.add(signature)
        return is_known

    other.script(Says(403, b"<Error><Code>AccessDenied</Code></Error>"), is_stale)
    other.script(Cut(150_000), on("blobs", method="GET"), times=2)
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200

    reply = gateway.admin("GET", blob_path(place, name, sha256(content)))

    assert (reply.status, reply.body) == (200, content)
    assert [seen.status for seen in other.seen(on("blobs", method="GET"))] == [200, 206, 206]


def test_a_token_that_is_void_before_its_time(gateway: Served, upstream: ScriptedUpstream) -> None:
    """The upstream forgets its tokens, as after a restart: the next pulls log in anew and nobody notices."""
    name, contents = image_name(), [os.urandom(1000) for _ in range(4)]
    image = upstream.shelf.image(name, "latest", *contents)
    upstream.registry.auth = auth = Bearer({"robot": "secret"}, form="odd", key="access_token", expires_in_s=None)
    place = make_proxy(gateway, upstream, cache_ttl=0, credentials=[{"username": "robot", "password": "secret"}])

    for content in contents:
        assert ask(gateway, place, name).body == image.manifest.content
        auth.forget()
        assert gateway.admin("GET", blob_path(place, name, sha256(content))).body == content

    assert all(login.is_accepted for login in auth.logins)


def test_referrers_by_the_api_and_by_the_fallback_tag_are_the_same(gateway: Served, upstream: ScriptedUpstream) -> None:
    """Clients see the standard API, whatever the upstream has; also when it has come to have more."""
    listings = []
    for has_api in (True, False):
        name = image_name()
        image = upstream.shelf.image(name, "latest", b"signed")
        upstream.shelf.artifact(name, image.digest, b"signature", "application/x-signature")
        upstream.shelf.write_fallback_tag(name, image.digest)
        upstream.registry.has_referrers_api = has_api
        place = make_proxy(gateway, upstream)
        listing = gateway.admin("GET", f"/v2/{place.name}/{name}/referrers/{image.digest}")
        assert listing.status == 200
        listings.append([(entry["digest"], entry["artifactType"]) for entry in listing.json()["manifests"]])

    assert listings[0] == listings[1]
    assert [kind for _, kind in listings[0]] == ["application/x-signature"]


def test_a_gateway_that_is_stopped_goes_on_later(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """SIGTERM in the middle of a fetch ends it in time, and the next start asks for the rest only."""
    name, content = image_name(), os.urandom(3_000_000)
    upstream.shelf.image(name, "latest", content)
    upstream.script(Stall(2_000_000), on("blobs", method="GET"), times=1)
    environment = {"SLUICE_SERVER__DRAIN_TIMEOUT_S": "1"}
    with Served(tmp_path / "gateway", environment=environment, workers=2) as gateway:
        place = make_proxy(gateway, upstream, idle_timeout=300.0)
        assert ask(gateway, place, name).status == 200
        token = gateway.token(f"repository:{place.name}/{name}:pull")
        client = Client(gateway, blob_path(place, name, sha256(content)), token, leave_at=1_000_000)
        assert len(client.pull().body) >= 1_000_000

        gateway.stop()
        gateway.start()
        pulled = Client(gateway, client.path, token).pull()

        assert (pulled.is_complete, pulled.body) == (True, content)
        asked = upstream.seen(on("blobs", method="GET"))
        assert [each.header("range") is not None for each in asked] == [False, True]


def test_a_repository_that_goes_while_a_blob_arrives(gateway: Served, upstream: ScriptedUpstream) -> None:
    """Its readers may see the fetch break off, but nobody gets wrong bytes, and the name can be had again."""
    name, content = image_name(), os.urandom(400_000)
    upstream.shelf.image(name, "latest", content)
    upstream.script(Stall(300_000), on("blobs", method="GET"), times=1)
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200
    path, token = blob_path(place, name, sha256(content)), gateway.token(f"repository:{place.name}/{name}:pull")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(Client(gateway, path, token).pull)
        assert wait_until(lambda: upstream.bytes_sent(sha256(content)) >= 300_000, 20)
        assert gateway.api("DELETE", f"/api/v1/repos/{place.name}").status in {200, 202, 204, 409}
        upstream.release()
        pulled = reading.result()

    assert pulled.is_part_of(content)
    assert not pulled.is_complete or pulled.body == content
    again = make_proxy(gateway, upstream)
    assert ask(gateway, again, name).status == 200
    assert gateway.admin("GET", blob_path(again, name, sha256(content))).body == content


def test_a_foreign_manifest_type_is_kept_as_it_is(gateway: Served, upstream: ScriptedUpstream) -> None:
    """Docker's own media types, and documents with fields that nobody knows, keep their bytes and their type."""
    name, kind = image_name(), "application/vnd.docker.distribution.manifest.v2+json"
    document = {**json.loads(image_manifest(b"{}", b"layer")), "mediaType": kind, "x-unknown": [1, {"a": None}]}
    document["config"] = descriptor(b"{}", "application/vnd.docker.container.image.v1+json")
    manifest = Manifest(json.dumps(document, indent=3).encode() + b"\n", kind)
    upstream.shelf.put_manifest(name, manifest, "latest")
    place = make_proxy(gateway, upstream)

    replies = [ask(gateway, place, name), ask(gateway, place, name, manifest.digest)]

    assert {reply.body for reply in replies} == {manifest.content}
    assert {reply.headers["content-type"] for reply in replies} == {kind}
    assert kind != OCI_MANIFEST
