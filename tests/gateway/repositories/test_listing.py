"""Lists of a proxy: whose they are, how long they are believed, and what is given in trouble."""

import json
from collections.abc import Sequence

import pytest

from gateway.oci.errors import Code
from gateway.upstream.errors import UpstreamError
from storage import Digest, RepositoryRecord
from tests.gateway.repositories.mirror import Mirror, asked, mirror
from tests.gateway.repositories.shelf import refused
from tests.served import OCI_INDEX, OCI_MANIFEST, descriptor, sha256
from tests.upstream.script import EndlessPages, Says, on
from tests.upstream.scripted import ScriptedUpstream

SIGNATURE = "application/vnd.example.signature"


async def tags_of(
    through: Mirror, record: RepositoryRecord, *, after: str = "", limit: int = 100, image: str = "app"
) -> Sequence[str]:
    """The names of a page."""
    return (await through.at(record).tags(image, after=after, limit=limit)).names


async def referrers_of(
    through: Mirror,
    record: RepositoryRecord,
    subject: str,
    *,
    artifact_type: str | None = None,
    after: str = "",
    limit: int = 100,
) -> list[str]:
    """The digests of a page."""
    page = await through.at(record).referrers(
        "app",
        Digest.parse(subject),
        artifact_type=artifact_type,
        after=after,
        limit=limit,
        build=lambda listed: [str(each.digest) for each in listed],
    )
    return page.built


async def staleness_of(through: Mirror, record: RepositoryRecord, subject: str) -> tuple[bool, int | None]:
    """Whether a page of referrers comes with a warning, and its age."""
    asked_for = Digest.parse(subject)
    page = await through.at(record).referrers("app", asked_for, artifact_type=None, after="", limit=9, build=list)
    return page.warning is not None, page.age_s


# --- tags ------------------------------------------------------------------------------------------------------------


async def test_the_upstreams_tags_are_listed(through: Mirror, upstream: ScriptedUpstream) -> None:
    """All of them, whether or not they were pulled, in bytewise order and in pages; asked for once for a while."""
    upstream.registry.page_size = 2
    names = ["B", "_x", "a", "a.1", "b"]
    for name in names:
        upstream.shelf.image("app", name, b"layer")
    record = await through.make(cache_ttl_s=100)

    assert await tags_of(through, record) == names
    assert await tags_of(through, record, after="_x", limit=2) == ["a", "a.1"]
    assert await tags_of(through, record, after="a.0", limit=9) == ["a.1", "b"]
    assert len(asked(upstream)) == 3
    upstream.shelf.image("app", "c", b"layer")
    through.scene.clock.advance(100)
    assert await tags_of(through, record) == [*names, "c"]
    await refused(Code.NAME_UNKNOWN, tags_of(through, record, image="never"))


async def test_an_old_list_is_given_in_trouble(through: Mirror, upstream: ScriptedUpstream) -> None:
    """With a warning and its age; a process that never had it gives the tags that were pulled."""
    upstream.shelf.image("app", "pulled", b"layer")
    upstream.shelf.image("app", "seen", b"layer")
    record = await through.make(cache_ttl_s=100)
    await through.manifest(record, "app", "pulled")
    await tags_of(through, record)
    upstream.script(Says(500))
    through.scene.clock.advance(150)

    page = await through.at(record).tags("app", after="", limit=5)
    assert (page.names, page.age_s, page.warning is not None) == (["pulled", "seen"], 150, True)
    async with mirror(through.scene, upstream, through.docked.root) as restarted:
        page = await restarted.at(record).tags("app", after="", limit=5)
        assert (page.names, page.warning is not None) == (["pulled"], True)
        with pytest.raises(UpstreamError):
            await restarted.at(record).tags("never", after="", limit=5)


async def test_a_list_that_was_cut_says_so(through: Mirror, upstream: ScriptedUpstream) -> None:
    """P11: of an endless list there is a beginning, and a warning that there is more."""
    upstream.shelf.image("app", "latest", b"layer")
    upstream.script(EndlessPages(names_per_page=1000), on("tags"))
    record = await through.make()

    page = await through.at(record).tags("app", after="", limit=5)

    assert len(page.names) == 5
    assert page.warning is not None


# --- referrers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_api", [True, False], ids=["API", "fallback tag"])
async def test_rf_19_referrers_of_a_proxy(through: Mirror, upstream: ScriptedUpstream, *, has_api: bool) -> None:
    """RF-19: the upstream's are listed, by its API or its fallback tag, filtered and in pages like one's own."""
    subject = upstream.shelf.image("app", "latest", b"layer").digest
    made = sorted(
        upstream.shelf.artifact("app", subject, content, kind).digest
        for content, kind in ((b"1", SIGNATURE), (b"2", SIGNATURE), (b"3", "application/vnd.example.sbom"))
    )
    upstream.registry.has_referrers_api = has_api
    if not has_api:
        upstream.shelf.write_fallback_tag("app", subject)
    record = await through.make(cache_ttl_s=100)

    assert await referrers_of(through, record, subject) == made
    assert len(await referrers_of(through, record, subject, artifact_type=SIGNATURE)) == 2
    assert await referrers_of(through, record, subject, after=made[0], limit=1) == [made[1]]
    await through.manifest(record, "app", made[1])
    assert await referrers_of(through, record, subject) == made
    upstream.forget()
    assert await referrers_of(through, record, subject) == made
    assert asked(upstream) == []


async def test_referrers_in_trouble(through: Mirror, upstream: ScriptedUpstream) -> None:
    """The last list that is known, else what was pulled, both with a warning; an empty list would say "unsigned"."""
    subject = upstream.shelf.image("app", "latest", b"layer").digest
    made = sorted(upstream.shelf.artifact("app", subject, content, SIGNATURE).digest for content in (b"1", b"2"))
    record = await through.make(cache_ttl_s=100)
    unsigned = sha256(b"unsigned")
    assert await referrers_of(through, record, unsigned) == []
    assert await staleness_of(through, record, subject) == (False, None)
    await through.manifest(record, "app", made[0])
    upstream.script(Says(500))
    through.scene.clock.advance(150)

    assert await referrers_of(through, record, subject) == made
    for asked_for in (subject, unsigned):
        assert await staleness_of(through, record, asked_for) == (True, 150)
    async with mirror(through.scene, upstream, through.docked.root) as restarted:
        assert await referrers_of(restarted, record, subject) == [made[0]]
        assert await staleness_of(restarted, record, subject) == (True, 0)
        with pytest.raises(UpstreamError):
            await referrers_of(restarted, record, sha256(b"other"))


async def test_no_referrers_is_an_empty_list(through: Mirror, upstream: ScriptedUpstream) -> None:
    """RF-04: for unknown subjects and images, believed as briefly as anything unknown."""
    subject = upstream.shelf.image("app", "latest", b"layer").digest
    record = await through.make(cache_ttl_s=100, negative_ttl_s=10)

    assert await referrers_of(through, record, subject) == []
    signed = upstream.shelf.artifact("app", subject, b"1", SIGNATURE)
    assert await referrers_of(through, record, subject) == []
    through.scene.clock.advance(10)
    assert await referrers_of(through, record, subject) == [signed.digest]


@pytest.mark.slow
async def test_lists_are_remembered_within_a_bound_of_bytes(through: Mirror, upstream: ScriptedUpstream) -> None:
    """One annotation may fill a page: of six lists of 3.5 MB the oldest is forgotten, however few entries they have."""
    entry = {**descriptor(b"signature", OCI_MANIFEST), "annotations": {"note": "x" * 3_500_000}}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    upstream.script(Says(200, index, (("Content-Type", OCI_INDEX),)), on("referrers"))
    record = await through.make(cache_ttl_s=100)
    subjects = [sha256(b"%d" % number) for number in range(6)]

    for subject in (*subjects, subjects[-1], subjects[0]):
        assert await referrers_of(through, record, subject) == [entry["digest"]]
    assert asked(upstream) == [f"GET referrers {subject}" for subject in (*subjects, subjects[0])]
