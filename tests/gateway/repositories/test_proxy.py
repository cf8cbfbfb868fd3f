"""A proxy as its clients see it: when it asks, what it keeps, and what it says when the upstream is in trouble."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.oci.errors import Code
from gateway.repositories.contract import WritableRepository
from gateway.upstream.errors import UpstreamBusy, UpstreamDenied, UpstreamError, UpstreamFailed, UpstreamSlow
from gateway.upstream.http import Credential
from gateway.upstream.settings import TtlRule
from storage import Digest, RepositoryRecord
from tests.gateway.repositories.mirror import Mirror, asked, changed, mirror
from tests.gateway.repositories.shelf import refused
from tests.served import OCI_INDEX, OCI_MANIFEST, sha256
from tests.storage.scene import Scene
from tests.upstream.login import Bearer
from tests.upstream.registry import Budget
from tests.upstream.script import HTML, Busy, Fault, Other, Reset, Says, Stall, With, on
from tests.upstream.scripted import ScriptedUpstream
from tests.upstream.shelf import Manifest

TROUBLES = {
    "dead": None,
    "500": Says(500),
    "503": Says(503),
    "429": Busy(7),
    "reset": Reset(),
    "silent": Stall(),
    "HTML": HTML,
}

EACH = [pytest.param(name, marks=[pytest.mark.slow] if name == "silent" else []) for name in TROUBLES]


def silence(trouble: str) -> dict[str, Any]:
    """How long an upstream may be silent, where that is the trouble."""
    return {"idle_s": 1.0} if trouble == "silent" else {}


def break_down(upstream: ScriptedUpstream, trouble: Fault | None) -> None:
    """Let everything that is asked from now on end in that trouble."""
    if trouble is None:
        upstream.refuse()
    else:
        upstream.script(trouble)


# --- what is kept, and for how long ----------------------------------------------------------------------------------


async def test_what_was_pulled_is_kept_byte_for_byte(through: Mirror, upstream: ScriptedUpstream) -> None:
    """P5: exact bytes and type by tag and by digest; the second pull asks for nothing; each GET was needed."""
    image = upstream.shelf.image("app", "latest", b"layer")
    record = await through.make()

    first = await through.manifest(record, "app", "latest")
    again = await through.manifest(record, "app", "latest")
    named = await through.manifest(record, "app", image.digest)

    for found in (first, again, named):
        assert found.document.content == image.manifest.content
        assert found.document.media_type == OCI_MANIFEST
        assert (found.warning, found.age_s) == (None, None)
    assert asked(upstream) == ["HEAD manifests latest", f"GET manifests {image.digest}"]
    assert not isinstance(through.at(record), WritableRepository)


async def test_a_tag_is_believed_for_its_time(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Until its time is over nothing is asked; then HEAD; GET only when the digest is another one."""
    clock, record = through.scene.clock, await through.make(cache_ttl_s=100)
    old = upstream.shelf.image("app", "latest", b"old")
    found = await through.manifest(record, "app", "latest")
    assert found.fresh_until == clock.now + 100
    new = upstream.shelf.image("app", "latest", b"new")

    clock.advance(99)
    assert await through.digest(record, "app", "latest") == old.digest
    upstream.forget()
    clock.advance(1)
    assert await through.digest(record, "app", "latest") == new.digest
    assert asked(upstream) == ["HEAD manifests latest", f"GET manifests {new.digest}"]
    upstream.forget()
    clock.advance(100)
    found = await through.manifest(record, "app", "latest")
    assert (str(found.document.digest), found.fresh_until) == (new.digest, clock.now + 100)
    assert asked(upstream) == ["HEAD manifests latest"]
    assert [seen.status for seen in upstream.seen(on("manifests"))] == [304]
    assert await through.digest(record, "app", old.digest) == old.digest


async def test_a_known_digest_is_never_fetched_again(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Tags that lead to what is here cost no counted pull, however many they are."""
    image = upstream.shelf.image("app", "v1", b"layer")
    record = await through.make()
    for tag in ("v1", "v2", "latest"):
        upstream.shelf.tags["app"][tag] = image.digest
        assert await through.digest(record, "app", tag) == image.digest

    assert upstream.registry.counted_pulls == 1


async def test_rules_say_how_long(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Whole versions are believed for a week by default; a rule of the settings comes before that."""
    rules = (TtlRule("nightly*", 5), TtlRule("2.*", 7))
    clock, record = through.scene.clock, await through.make(cache_ttl_s=60, ttl_rules=rules)
    times = {}
    for tag in ("1.2.3", "2.0.0", "nightly-x", "main"):
        upstream.shelf.image("app", tag, b"layer")
        found = await through.manifest(record, "app", tag)
        assert found.fresh_until is not None
        times[tag] = found.fresh_until - clock.now

    assert times == {"1.2.3": 7 * 86_400, "2.0.0": 7, "nightly-x": 5, "main": 60}


async def test_an_index_is_kept_as_it_is_and_its_children_come_when_asked_for(
    through: Mirror, upstream: ScriptedUpstream
) -> None:
    """The index is not rewritten; only the child that somebody pulls is fetched."""
    index = upstream.shelf.index("team/app", "multi", {"linux/amd64": (b"a",), "linux/arm64": (b"b",)})
    record = await through.make()

    found = await through.manifest(record, "team/app", "multi")
    assert (found.document.content, found.document.media_type) == (index.manifest.content, OCI_INDEX)
    assert upstream.registry.counted_pulls == 1
    child = index.images["linux/arm64"]
    assert await through.digest(record, "team/app", child.digest) == child.digest

    assert upstream.registry.counted_pulls == 2
    assert upstream.gets(index.images["linux/amd64"].digest) == 0


async def test_a_tag_whose_digest_is_not_told_is_fetched(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Where HEAD names no digest, the tag itself is fetched, and kept as any other."""
    image = upstream.shelf.image("app", "latest", b"layer")
    upstream.script(With({"Docker-Content-Digest": ""}), on("manifests", method="HEAD"))
    record = await through.make()

    assert await through.digest(record, "app", "latest") == image.digest
    assert await through.digest(record, "app", "latest") == image.digest

    assert upstream.gets("latest") == 1


async def test_docker_hubs_two_names_are_one_image(through: Mirror, upstream: ScriptedUpstream) -> None:
    """A single name and the same below `library/` are one image, kept once; with other registries they are two."""
    image = upstream.shelf.image("library/nginx", "latest", b"layer")
    record = await through.make()
    await through.manifest(record, "library/nginx", "latest")
    hub = changed(record, urls=("https://registry-1.docker.io",), is_offline=True)  # nobody asks Docker Hub here

    assert await through.digest(hub, "nginx", "latest") == image.digest
    assert await through.digest(hub, "library/nginx", image.digest) == image.digest
    assert (await through.at(hub).tags("nginx", after="", limit=5)).names == ["latest"]
    await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, "nginx", "latest"))


# --- trouble -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", EACH)
async def test_a_copy_is_given_in_trouble(through: Mirror, upstream: ScriptedUpstream, trouble: str) -> None:
    """P6, PX-05: whatever ails the upstream, what is here is given, with a warning and its age; then again the news."""
    clock, record = through.scene.clock, await through.make(cache_ttl_s=100, **silence(trouble))
    old = upstream.shelf.image("app", "latest", b"old")
    await through.manifest(record, "app", "latest")
    clock.advance(150)
    new = upstream.shelf.image("app", "latest", b"new")
    break_down(upstream, TROUBLES[trouble])

    for _ in range(2):
        found = await through.manifest(record, "app", "latest")
        assert str(found.document.digest) == old.digest
        assert (found.age_s, found.warning is not None) == (150, True)
    assert (await through.manifest(record, "app", old.digest)).warning is None

    upstream.heal()
    clock.advance(60)
    while (found := await through.manifest(record, "app", "latest")).warning is not None:  # noqa: ASYNC110 - real sockets
        await trio.sleep(0.05)
    assert str(found.document.digest) == new.digest


@pytest.mark.parametrize("trouble", EACH)
async def test_trouble_is_never_unknown(through: Mirror, upstream: ScriptedUpstream, trouble: str) -> None:
    """P6: without a copy the trouble is told, for manifests, blobs and lists, and nothing of it is remembered."""
    record = await through.make(**silence(trouble))
    image = upstream.shelf.image("app", "latest", b"layer")
    break_down(upstream, TROUBLES[trouble])
    kinds = {"429": UpstreamBusy, "silent": UpstreamSlow}

    with pytest.raises(UpstreamError) as caught:
        await through.manifest(record, "app", "latest")
    assert isinstance(caught.value, kinds.get(trouble, UpstreamFailed))
    assert caught.value.retry_after_s == (7 if trouble == "429" else caught.value.retry_after_s)
    with pytest.raises(UpstreamError):
        await through.manifest(record, "app", image.digest)
    with pytest.raises(UpstreamError):
        await through.at(record).tags("app", after="", limit=10)

    upstream.heal()
    through.scene.clock.advance(60)
    assert await _in_time(through, record, image.digest) == image.digest


async def _in_time(through: Mirror, record: RepositoryRecord, digest: str) -> str:
    while True:
        try:
            return await through.digest(record, "app", digest)
        except UpstreamError:  # it is left alone for a while
            await trio.sleep(0.1)


async def test_who_has_a_copy_does_not_wait_for_a_dead_upstream(through: Mirror, upstream: ScriptedUpstream) -> None:
    """After one question in vain the next pulls do not wait for an answer; the question goes on behind them."""
    clock, record = through.scene.clock, await through.make(cache_ttl_s=10, idle_s=60.0, connect_s=60.0)
    upstream.shelf.image("app", "latest", b"layer")
    await through.manifest(record, "app", "latest")
    clock.advance(10)
    upstream.script(Reset())
    await through.manifest(record, "app", "latest")
    upstream.heal()
    upstream.script(Stall())

    with trio.fail_after(30):  # the stalled question would take a minute
        found = await through.manifest(record, "app", "latest")
    assert found.warning is not None
    upstream.heal()


async def test_who_has_a_copy_does_not_wait_long_for_a_slow_upstream(
    upstream: ScriptedUpstream, memory_scene: Scene, tmp_path: Path
) -> None:
    """After a while the copy is given; the answer that comes later is there for the next pull."""
    image = upstream.shelf.image("app", "latest", b"old")
    async with mirror(memory_scene, upstream, tmp_path, patience_s=0.05) as hasty:
        record = await hasty.make(cache_ttl_s=10)
        await hasty.manifest(record, "app", "latest")
        memory_scene.clock.advance(10)
        new = upstream.shelf.image("app", "latest", b"new")
        upstream.script(Stall(), on("manifests"))

        found = await hasty.manifest(record, "app", "latest")
        assert (str(found.document.digest), found.warning is not None) == (image.digest, True)
        upstream.heal()
        await hasty.idle()
        assert await hasty.digest(record, "app", "latest") == new.digest


async def test_below_the_reserve_a_copy_is_given(through: Mirror, upstream: ScriptedUpstream) -> None:
    """With a copy the last counted pulls are not spent; without one they are."""
    clock, record = through.scene.clock, await through.make(cache_ttl_s=10, budget_reserve=5)
    upstream.registry.budget = Budget(limit=100, remaining=6)
    old = upstream.shelf.image("app", "latest", b"old")
    await through.manifest(record, "app", "latest")
    upstream.shelf.image("app", "latest", b"new")
    other = upstream.shelf.image("app", "other", b"other")
    clock.advance(10)

    found = await through.manifest(record, "app", "latest")
    assert (str(found.document.digest), found.warning is not None) == (old.digest, True)
    assert await through.digest(record, "app", "other") == other.digest
    assert upstream.registry.budget.remaining == 4


@pytest.mark.parametrize("content", [b"<html>", b"{}", json.dumps({"schemaVersion": 2}).encode()])
async def test_wrong_bytes_under_a_digest_are_refused(
    through: Mirror, upstream: ScriptedUpstream, content: bytes
) -> None:
    """P3: a manifest whose bytes are not what was asked for is trouble, is never kept, and the next pull is good."""
    image = upstream.shelf.image("app", "latest", b"layer")
    record = await through.make()
    upstream.script(Other(content), on("manifests", method="GET"))

    with pytest.raises(UpstreamError):
        await through.manifest(record, "app", "latest")
    with pytest.raises(UpstreamError):
        await through.manifest(record, "app", image.digest)

    upstream.heal()
    assert await through.digest(record, "app", "latest") == image.digest


async def test_a_type_that_flips_is_the_first_one(through: Mirror, upstream: ScriptedUpstream) -> None:
    """P5: the same bytes under another type do not change what is kept under their digest."""
    image = upstream.shelf.image("app", "latest", b"layer")
    record = await through.make(cache_ttl_s=0)
    await through.manifest(record, "app", "latest")
    upstream.shelf.put_manifest("app", Manifest(image.manifest.content, OCI_INDEX), "latest")

    found = await through.manifest(record, "app", "latest")

    assert found.document.media_type == OCI_MANIFEST


# --- what the settings say -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when_deleted", "stays"), [("keep", True), ("drop", False)])
async def test_what_the_upstream_deleted_is_kept_or_dropped(
    through: Mirror, upstream: ScriptedUpstream, when_deleted: str, *, stays: bool
) -> None:
    """P9: the settings decide; kept, it is believed for another while, and dropped, it is unknown."""
    clock, record = through.scene.clock, await through.make(cache_ttl_s=10, when_deleted=when_deleted)
    image = upstream.shelf.image("app", "latest", b"layer")
    await through.manifest(record, "app", "latest")
    del upstream.shelf.tags["app"]["latest"]
    clock.advance(10)

    for _ in range(2):
        if stays:
            found = await through.manifest(record, "app", "latest")
            assert (str(found.document.digest), found.fresh_until) == (image.digest, clock.now + 10)
        else:
            await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, "app", "latest"))
    assert await through.digest(record, "app", image.digest) == image.digest


@pytest.mark.parametrize(("when_deleted", "stays"), [("keep", True), ("drop", False)])
async def test_what_we_may_not_have_any_more_is_unknown_or_kept(
    through: Mirror, upstream: ScriptedUpstream, when_deleted: str, *, stays: bool
) -> None:
    """As for what was deleted; but as the right to it may come back, so does the copy, without being fetched.

    It is not "unknown" (row P10): a view would take another member's image of that name for it, such as a public one.
    """
    clock, record = through.scene.clock, await through.make(cache_ttl_s=10, negative_ttl_s=5, when_deleted=when_deleted)
    image = upstream.shelf.image("app", "latest", b"layer")
    await through.manifest(record, "app", "latest")
    clock.advance(10)
    upstream.script(Says(403), on("manifests"))

    if stays:
        assert await through.digest(record, "app", "latest") == image.digest
    else:
        for _ in range(2):
            with pytest.raises(UpstreamDenied):
                await through.manifest(record, "app", "latest")
        assert asked(upstream)[-1] == "HEAD manifests latest"
        assert upstream.registry.counted_pulls == 1
        clock.advance(10)
        upstream.refuse()  # an outage gives nothing back that was taken
        with pytest.raises(UpstreamFailed):
            await through.manifest(record, "app", "latest")
        clock.advance(60)
    upstream.heal()
    clock.advance(10)
    assert await through.digest(record, "app", "latest") == image.digest
    assert upstream.registry.counted_pulls == 1


async def test_rejected_credentials_are_trouble(through: Mirror, upstream: ScriptedUpstream) -> None:
    """P6: a password that is not right any more is not "unknown": the copy is given, and without one it is told."""
    users = {"user": "pw"}
    login = upstream.registry.auth = Bearer(users)
    image = upstream.shelf.image("app", "latest", b"layer")
    clock, record = through.scene.clock, await through.make(cache_ttl_s=10, credentials=[Credential("user", "pw")])
    await through.manifest(record, "app", "latest")
    users["user"] = "another"
    login.forget()
    clock.advance(10)

    found = await through.manifest(record, "app", "latest")
    assert (str(found.document.digest), found.warning is not None) == (image.digest, True)
    with pytest.raises(UpstreamFailed):
        await through.manifest(record, "app", "other")


async def test_what_another_worker_found_since_stays(
    through: Mirror, upstream: ScriptedUpstream, memory_scene: Scene
) -> None:
    """A late word that nothing has changed does not bring back what another process has moved the tag from."""
    clock, record = through.scene.clock, await through.make(cache_ttl_s=10, idle_s=60.0)
    upstream.shelf.image("app", "latest", b"old")
    await through.manifest(record, "app", "latest")
    clock.advance(10)
    late = upstream.script(Stall(), on("manifests", method="HEAD"), times=1)
    async with mirror(memory_scene, upstream, through.docked.root) as second, trio.open_nursery() as nursery:
        nursery.start_soon(through.manifest, record, "app", "latest")
        while not late.hits:  # noqa: ASYNC110 - a thread counts them
            await trio.sleep(0.01)
        new = upstream.shelf.image("app", "latest", b"new")
        assert await second.digest(record, "app", "latest") == new.digest
        upstream.release()
    await through.idle()

    assert [seen.status for seen in upstream.seen(on("manifests", method="HEAD"))] == [200, 304, 200]
    assert await through.digest(record, "app", "latest") == new.digest


async def test_offline_nothing_is_asked(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Offline by its settings a proxy gives what it has, however old and without a warning, and knows nothing else."""
    image = upstream.shelf.image("app", "latest", b"layer")
    online = await through.make(cache_ttl_s=0)
    await through.manifest(online, "app", "latest")
    offline = changed(online, is_offline=True)
    upstream.forget()

    found = await through.manifest(offline, "app", "latest")
    assert (str(found.document.digest), found.warning, found.fresh_until) == (image.digest, None, None)
    assert (await through.at(offline).tags("app", after="", limit=5)).names == ["latest"]
    await refused(Code.MANIFEST_UNKNOWN, through.manifest(offline, "app", "other"))
    await refused(Code.MANIFEST_UNKNOWN, through.manifest(offline, "app", Digest.of(b"other")))
    await refused(Code.BLOB_UNKNOWN, through.find(offline, "app", sha256(image.config)))
    await refused(Code.NAME_UNKNOWN, through.at(offline).tags("never", after="", limit=5))
    assert asked(upstream) == []


async def test_only_names_that_fit_are_asked_for(through: Mirror, upstream: ScriptedUpstream) -> None:
    """`include` and `exclude` keep names from ever being asked for or served, for all that can be asked."""
    for name in ("team/app", "team/secret", "other/app"):
        upstream.shelf.image(name, "latest", b"layer")
    record = await through.make(include=("team/*",), exclude=("*/secret",))
    image = upstream.shelf.image("team/app", "latest", b"layer")

    assert await through.digest(record, "team/app", "latest") == image.digest
    upstream.forget()
    for name in ("team/secret", "other/app"):
        repository = through.at(record)
        await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, name, "latest"))
        await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, name, image.digest))
        await refused(Code.BLOB_UNKNOWN, through.find(record, name, sha256(b"layer")))
        await refused(Code.NAME_UNKNOWN, repository.tags(name, after="", limit=5))
        listed = repository.referrers(
            name, Digest.parse(image.digest), artifact_type=None, after="", limit=5, build=list
        )
        assert (await listed).built == []
    assert asked(upstream) == []
