"""Tests of the operations of an upstream registry, on real sockets."""

import json

import pytest

from gateway.oci import manifest
from gateway.oci.names import Tag
from gateway.upstream import listing
from gateway.upstream.answers import BreakerState, ManifestHead, NotModified
from gateway.upstream.errors import (
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnknown,
)
from storage import Digest
from tests.gateway.upstream.known import APP, Maker, digest_of
from tests.served import OCI_MANIFEST
from tests.upstream.registry import Budget
from tests.upstream.script import (
    HTML,
    Busy,
    Cut,
    Endless,
    EndlessPages,
    Fault,
    Gzipped,
    Other,
    Redirect,
    Reset,
    Says,
    Stall,
    Truncated,
    With,
    WrongByte,
    on,
)
from tests.upstream.scripted import ScriptedUpstream
from tests.upstream.shelf import Manifest

LATEST = Tag("latest")
ABSENT = Digest.of(b"absent")


async def test_a_manifest_is_fetched_by_tag_and_by_digest(known: Maker, upstream: ScriptedUpstream) -> None:
    """Byte for byte, with its type, and the digest that it has."""
    image = upstream.shelf.image(APP, "v1", b"layer one")
    registry = known(upstream).registry
    by_tag = await registry.manifest(APP, Tag("v1"))
    by_digest = await registry.manifest(APP, digest_of(image.digest))
    assert by_tag == by_digest
    assert (by_tag.content, str(by_tag.digest)) == (image.manifest.content, image.digest)
    assert by_tag.media_type == OCI_MANIFEST


async def test_an_index_comes_as_it_is(known: Maker, upstream: ScriptedUpstream) -> None:
    """It is never rewritten, and its children are not fetched."""
    index = upstream.shelf.index(APP, "multi", {"linux/amd64": (b"a",), "linux/arm64": (b"b",)})
    fetched = await known(upstream).registry.manifest(APP, Tag("multi"))
    assert fetched.content == index.manifest.content
    assert [child.platform for child in fetched.manifest.children] == ["linux/amd64", "linux/arm64"]
    assert upstream.registry.counted_pulls == 1


async def test_a_look_costs_no_pull(known: Maker, upstream: ScriptedUpstream) -> None:
    """HEAD tells digest, type, size and entity tag; with the entity tag, whether anything is new."""
    image = upstream.shelf.image(APP, "v1", b"layer one")
    registry = known(upstream).registry
    head = await registry.head(APP, Tag("v1"))
    assert isinstance(head, ManifestHead)
    size_bytes = len(image.manifest.content)
    assert head == ManifestHead(digest_of(image.digest), OCI_MANIFEST, size_bytes, f'"{image.digest}"')
    assert await registry.head(APP, Tag("v1"), etag=head.etag) == NotModified()
    upstream.shelf.image(APP, "v1", b"layer two")
    assert isinstance(await registry.head(APP, Tag("v1"), etag=head.etag), ManifestHead)
    assert upstream.registry.counted_pulls == 0


async def test_an_upstream_without_head_says_nothing(known: Maker, upstream: ScriptedUpstream) -> None:
    """Then only a fetch tells; that it is there at all is not known either."""
    upstream.script(Says(405), on("manifests", method="HEAD"))
    assert await known(upstream).registry.head(APP, LATEST) == ManifestHead(None, None, None)


async def test_a_look_at_what_is_no_registry_fails(known: Maker, upstream: ScriptedUpstream) -> None:
    """200 and HTML for everything: a login page of the network."""
    upstream.script(HTML)
    with pytest.raises(UpstreamFailed, match="no registry"):
        await known(upstream).registry.head(APP, LATEST)


@pytest.mark.parametrize("kind", ["manifests", "blobs", "tags"])
async def test_only_404_is_unknown(known: Maker, upstream: ScriptedUpstream, kind: str) -> None:
    """What the upstream does not have, it has said itself."""
    registry = known(upstream).registry
    questions = {
        "manifests": lambda: registry.manifest(APP, Tag("absent")),
        "blobs": lambda: registry.blob_size(APP, ABSENT),
        "tags": lambda: registry.tags("team/absent"),
    }
    with pytest.raises(UpstreamUnknown):
        await questions[kind]()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Says(500), UpstreamFailed),
        (Says(502), UpstreamFailed),
        (Says(503, fields=(("Retry-After", "7"),)), UpstreamFailed),
        (Says(504), UpstreamSlow),
        (Says(408), UpstreamSlow),
        (Says(403), UpstreamDenied),
        (Says(400), UpstreamRefused),
        (Says(418), UpstreamRefused),
        (Busy(30), UpstreamBusy),
        (Redirect("http://127.0.0.1:1/elsewhere"), UpstreamError),
        (Reset(), UpstreamFailed),
        (Cut(), UpstreamFailed),
        (Cut(10), UpstreamFailed),
        (HTML, UpstreamFailed),
        (Gzipped(), UpstreamFailed),
        (Gzipped(is_named=False), UpstreamFailed),
        (WrongByte(20), UpstreamFailed),
        (Truncated(5), UpstreamFailed),
        (Other(b'{"schemaVersion":2}'), UpstreamFailed),
        (With({"Docker-Content-Digest": str(ABSENT)}), UpstreamFailed),
        (Endless(), UpstreamRefused),
    ],
    ids=str,
)
async def test_row_p6_trouble_is_told_as_what_it_is_and_never_as_unknown(
    known: Maker, upstream: ScriptedUpstream, fault: Fault, kind: type[UpstreamError]
) -> None:
    """Rows P3, P6 and P11 for manifests: nothing wrong is taken, nothing is "not found", and it is good afterwards."""
    upstream.script(fault, on("manifests", method="GET"))
    registry = known(upstream).registry
    with pytest.raises(kind) as caught:
        await registry.manifest(APP, LATEST)
    assert not isinstance(caught.value, UpstreamUnknown)
    upstream.heal()
    if kind is not UpstreamBusy:
        assert (await registry.manifest(APP, LATEST)).content


async def test_row_p6_a_silent_upstream_is_slow(known: Maker, upstream: ScriptedUpstream) -> None:
    """A deadline of our own ends the wait: 504."""
    upstream.script(Stall(), on("manifests"))
    with pytest.raises(UpstreamSlow):
        await known(upstream, idle_s=0.05).registry.manifest(APP, LATEST)


async def test_row_p6_a_dead_upstream_has_failed(known: Maker, upstream: ScriptedUpstream) -> None:
    """Connection refused is no answer: 502."""
    upstream.refuse()
    with pytest.raises(UpstreamFailed):
        await known(upstream).registry.head(APP, LATEST)


async def test_a_dead_upstream_is_left_alone_after_some_troubles(known: Maker, upstream: ScriptedUpstream) -> None:
    """Then failing costs nothing, and the status says since when and why; after a rest it is asked again."""
    made = known(upstream)
    upstream.script(Says(503), on("manifests"))
    for _ in range(5):
        assert made.registry.is_troubled() == bool(upstream.requests)
        with pytest.raises(UpstreamFailed):
            await made.registry.head(APP, LATEST)
    asked = len(upstream.requests)
    with pytest.raises(UpstreamFailed, match="not asked"):
        await made.registry.head(APP, LATEST)
    assert len(upstream.requests) == asked
    (address,) = made.registry.status().addresses
    assert (address.url, address.state, address.troubles) == (upstream.url, BreakerState.OPEN, 5)
    assert "503" in (address.last_trouble or "")
    upstream.heal()
    made.clock.now += 10
    assert isinstance(await made.registry.head(APP, LATEST), ManifestHead)
    assert not made.registry.is_troubled()


async def test_below_the_reserve_nothing_is_spent_but_for_what_nobody_has(
    known: Maker, upstream: ScriptedUpstream
) -> None:
    """Looks stay free; the rest of the budget is for manifests without a copy here, and then it is spent."""
    upstream.registry.budget = Budget(limit=100, remaining=3)
    registry = known(upstream, budget_reserve=2).registry
    await registry.manifest(APP, LATEST)
    with pytest.raises(UpstreamBusy) as caught:
        await registry.manifest(APP, LATEST)
    assert caught.value.retry_after_s == 21_600
    assert isinstance(await registry.head(APP, LATEST), ManifestHead)
    await registry.manifest(APP, LATEST, from_reserve=True)
    await registry.manifest(APP, LATEST, from_reserve=True)
    with pytest.raises(UpstreamBusy):
        await registry.manifest(APP, LATEST, from_reserve=True)
    assert upstream.registry.counted_pulls == 3
    (budget,) = registry.status().budgets
    assert (budget.allowed, budget.remaining, budget.window_s) == (100, 0, 21_600)


async def test_the_size_of_a_blob_is_asked_for_without_its_bytes(known: Maker, upstream: ScriptedUpstream) -> None:
    """HEAD, and nothing comes."""
    digest = upstream.shelf.put_blob(APP, b"0123456789")
    assert await known(upstream).registry.blob_size(APP, digest_of(digest)) == 10
    assert upstream.gets(digest) == 0


@pytest.mark.parametrize("fault", [Says(403), Says(405), With({"Content-Length": ""})])
async def test_where_head_does_not_tell_the_size_the_head_of_a_get_does(
    known: Maker, upstream: ScriptedUpstream, fault: Fault
) -> None:
    """Stores behind signed addresses answer GET only; the body is not waited for."""
    digest = upstream.shelf.put_blob(APP, bytes(1_000_000))
    upstream.script(fault, on("blobs", method="HEAD"))
    assert await known(upstream).registry.blob_size(APP, digest_of(digest)) == 1_000_000


async def test_tags_are_followed_over_pages_and_given_bytewise(known: Maker, upstream: ScriptedUpstream) -> None:
    """Each once, in the order of bytes (row TG-02), however few the upstream gives at once."""
    for tag in ("b", "B", "1", "_x", "a", "v1"):
        upstream.shelf.image(APP, tag, tag.encode())
    upstream.registry.page_size = 2
    listed = await known(upstream).registry.tags(APP)
    assert listed.names == ("1", "B", "_x", "a", "b", "latest", "v1")
    assert listed.is_complete
    assert len(upstream.seen(on("tags"))) == 4


async def test_an_image_without_tags_has_an_empty_list(known: Maker, upstream: ScriptedUpstream) -> None:
    """Which some registries write as null."""
    upstream.script(Says(200, b'{"name":"team/app","tags":null}', (("Content-Type", "application/json"),)), on("tags"))
    listed = await known(upstream).registry.tags(APP)
    assert (listed.names, listed.is_complete) == ((), True)


async def test_row_p11_a_list_that_goes_in_circles_ends(known: Maker, upstream: ScriptedUpstream) -> None:
    """A page with nothing new is the last one, and the list is known to be cut."""
    upstream.script(EndlessPages(is_loop=True), on("tags"))
    listed = await known(upstream).registry.tags(APP)
    assert (len(listed.names), listed.is_complete) == (1, False)
    assert len(upstream.seen(on("tags"))) == 2


async def test_row_p11_pages_without_end_are_followed_so_far(
    known: Maker, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 pages, here 20; what came so far is given, and called incomplete."""
    monkeypatch.setattr(listing, "MAX_PAGES", 20)
    upstream.script(EndlessPages(), on("tags"))
    listed = await known(upstream).registry.tags(APP)
    assert (len(listed.names), listed.is_complete) == (20, False)


async def test_row_p11_no_more_than_so_many_tags_are_taken(
    known: Maker, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000, here 50, however many a page has."""
    monkeypatch.setattr(listing, "MAX_TAGS", 50)
    upstream.script(EndlessPages(names_per_page=30), on("tags"))
    listed = await known(upstream).registry.tags(APP)
    assert (len(listed.names), listed.is_complete) == (50, False)


@pytest.mark.slow
async def test_row_p11_a_page_of_a_million_tags_is_not_read(known: Maker, upstream: ScriptedUpstream) -> None:
    """More than 4 MiB are refused while they come."""
    tags = json.dumps({"name": APP, "tags": [f"t{number:07}" for number in range(1_000_000)]}).encode()
    upstream.script(Says(200, tags, (("Content-Type", "application/json"),)), on("tags"))
    with pytest.raises(UpstreamRefused):
        await known(upstream).registry.tags(APP)
    assert upstream.seen(on("tags"))[-1].sent_bytes < len(tags)


@pytest.mark.slow
async def test_row_p11_a_list_that_trickles_ends_with_what_came(
    known: Maker, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute for all pages together, here less; without a single page it is slow."""
    monkeypatch.setattr("gateway.upstream.registry.TAGS_DEADLINE_S", 0.5)
    upstream.registry.page_size = 1
    upstream.shelf.image(APP, "v1", b"x")
    upstream.script(Stall(), on("tags"), skip=1)
    listed = await known(upstream).registry.tags(APP)
    assert (listed.names, listed.is_complete) == (("latest",), False)
    upstream.heal()
    upstream.script(Stall(), on("tags"))
    with pytest.raises(UpstreamSlow):
        await known(upstream).registry.tags(APP)


async def test_row_p11_a_manifest_larger_than_any_client_takes_is_refused(
    known: Maker, upstream: ScriptedUpstream
) -> None:
    """Above 4 MiB, and not waited for."""
    huge = Manifest(b" " * (manifest.MAX_BYTES + 1))
    upstream.shelf.put_manifest(APP, huge, "huge")
    with pytest.raises(UpstreamRefused):
        await known(upstream).registry.manifest(APP, Tag("huge"))


async def test_a_large_manifest_is_read_in_a_thread(known: Maker, upstream: ScriptedUpstream) -> None:
    """And is as good as a small one."""
    image = upstream.shelf.image(APP, "many", *(b"layer %d" % number for number in range(300)))
    fetched = await known(upstream).registry.manifest(APP, Tag("many"))
    assert str(fetched.digest) == image.digest
    assert len(fetched.manifest.layers) == 300


async def test_names_are_the_upstreams_own(known: Maker, upstream: ScriptedUpstream) -> None:
    """An address may be one project of a registry; patterns are over names as they are without it."""
    upstream.shelf.image("team/app", "v1", b"x")
    registry = known(f"{upstream.url}/v2/team", include=("app*",)).registry
    assert (await registry.manifest("app", Tag("v1"))).content
    assert (await registry.tags("app")).names == ("latest", "v1")
    assert registry.allows("app")
    assert not registry.allows("other")


async def test_docker_hubs_names_are_completed(known: Maker) -> None:
    """`nginx` is asked for as `library/nginx`; nothing is dialled for that."""
    registry = known("https://registry-1.docker.io", include=("library/*",)).registry
    assert registry.upstream_name("nginx") == "library/nginx"
    assert registry.allows("nginx")
    assert not registry.allows("team/app")
