"""Tests of what refers to a manifest at an upstream (rows RF-13, RF-14, RF-19 and P11)."""

import json

import pytest

from gateway.oci.names import fallback_tag
from gateway.upstream import listing, referring
from gateway.upstream.errors import UpstreamBusy, UpstreamError, UpstreamFailed, UpstreamRefused, UpstreamSlow
from storage import Digest
from tests.gateway.upstream.known import APP, Maker, digest_of
from tests.served import OCI_INDEX, OCI_MANIFEST
from tests.upstream.registry import Budget
from tests.upstream.script import HTML, Endless, Fault, Says, Stall, With, on
from tests.upstream.scripted import ScriptedUpstream
from tests.upstream.shelf import Manifest

SBOM = "application/spdx+json"


@pytest.fixture
def subject(upstream: ScriptedUpstream) -> str:
    """An image with two artifacts that say they belong to it."""
    image = upstream.shelf.image(APP, "v1", b"layer one")
    upstream.shelf.artifact(APP, image.digest, b"sbom", SBOM)
    upstream.shelf.artifact(APP, image.digest, b"signature", "application/x-signature")
    return image.digest


def put_fallback(upstream: ScriptedUpstream, subject: str, *digests: str) -> None:
    """An index at the fallback tag that lists these manifests."""
    entries = [{"mediaType": OCI_MANIFEST, "digest": digest, "size": 100} for digest in digests]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    upstream.shelf.put_manifest(APP, Manifest(json.dumps(index).encode(), OCI_INDEX), fallback_tag(digest_of(subject)))


async def test_the_referrers_api_is_asked(known: Maker, upstream: ScriptedUpstream, subject: str) -> None:
    """Each descriptor as the upstream gives it, and no manifest is fetched for that."""
    found = await known(upstream).registry.referrers(APP, digest_of(subject))
    assert {each.artifact_type for each in found} == {SBOM, "application/x-signature"}
    assert all(each.media_type == OCI_MANIFEST and each.size_bytes > 0 for each in found)
    assert upstream.registry.counted_pulls == 0


@pytest.mark.parametrize(
    "fault",
    [Says(404), Says(405), Says(501), Says(400), HTML, With({"Content-Type": "application/json"})],
    ids=lambda value: str(value)[:30],
)
async def test_row_rf_19_without_the_api_the_fallback_tag_tells(
    known: Maker, upstream: ScriptedUpstream, subject: str, fault: Fault
) -> None:
    """Whatever registries that do not know the API answer; the manifests themselves say the rest."""
    upstream.shelf.write_fallback_tag(APP, subject)
    with_api = await known(upstream).registry.referrers(APP, digest_of(subject))
    upstream.script(fault, on("referrers"))
    without = await known(upstream).registry.referrers(APP, digest_of(subject))
    assert sorted(without, key=lambda each: str(each.digest)) == sorted(with_api, key=lambda each: str(each.digest))
    assert len(without) == 2


async def test_nothing_refers_where_there_is_neither(known: Maker, upstream: ScriptedUpstream) -> None:
    """No API and no tag is an empty list, and costs no pull."""
    upstream.registry.has_referrers_api = False
    assert await known(upstream).registry.referrers(APP, Digest.of(b"nothing")) == []
    assert upstream.registry.counted_pulls == 0


async def test_row_rf_13_a_fallback_tag_lists_only_what_says_so_itself(
    known: Maker, upstream: ScriptedUpstream, subject: str
) -> None:
    """Anybody may write the tag: other images, other subjects, what is gone and what is listed twice stay out."""
    upstream.registry.has_referrers_api = False
    other = upstream.shelf.image(APP, "other", b"x").digest
    true = upstream.shelf.artifact(APP, subject, b"true", SBOM).digest
    false = upstream.shelf.artifact(APP, other, b"of another", SBOM).digest
    put_fallback(upstream, subject, true, other, false, str(Digest.of(b"gone")), true)
    found = await known(upstream).registry.referrers(APP, digest_of(subject))
    assert [str(each.digest) for each in found] == [true]


async def test_what_a_manifest_says_is_asked_once(known: Maker, upstream: ScriptedUpstream, subject: str) -> None:
    """The tag is looked at each time, its members never change."""
    upstream.registry.has_referrers_api = False
    upstream.shelf.write_fallback_tag(APP, subject)
    registry = known(upstream).registry
    first = await registry.referrers(APP, digest_of(subject))
    assert upstream.registry.counted_pulls == 3
    assert await registry.referrers(APP, digest_of(subject)) == first
    assert upstream.registry.counted_pulls == 4


async def test_row_p11_no_more_than_so_many_members_are_fetched(
    known: Maker, upstream: ScriptedUpstream, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200, here 3, of a fallback tag that anybody may have filled."""
    monkeypatch.setattr(referring, "MAX_FALLBACK", 3)
    upstream.registry.has_referrers_api = False
    put_fallback(upstream, subject, *(str(Digest.of(b"%d" % number)) for number in range(500)))
    assert await known(upstream).registry.referrers(APP, digest_of(subject)) == []
    assert len(upstream.seen(on("manifests", method="GET"))) == 1 + 3


async def test_row_p11_pages_of_referrers_are_followed_so_far(
    known: Maker, upstream: ScriptedUpstream, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than so many pages, and no more than 10,000 entries: here 3 pages, then 5 entries."""
    upstream.script(With({"Link": f'</v2/{APP}/referrers/{subject}?more>; rel="next"'}), on("referrers"))
    monkeypatch.setattr(listing, "MAX_PAGES", 3)
    registry = known(upstream).registry
    assert len(await registry.referrers(APP, digest_of(subject))) == 2  # the same on every page
    assert len(upstream.seen(on("referrers"))) == 3
    monkeypatch.setattr(listing, "MAX_PAGES", 100)
    monkeypatch.setattr(listing, "MAX_REFERRERS", 5)
    upstream.forget()
    assert len(await registry.referrers(APP, digest_of(subject))) == 2
    assert len(upstream.seen(on("referrers"))) == 3


async def test_row_p11_a_list_has_so_many_bytes(
    known: Maker, upstream: ScriptedUpstream, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held whole, and one annotation can fill a page of 4 MiB: after 32 MiB, here 1, no page is asked for."""
    upstream.script(With({"Link": f'</v2/{APP}/referrers/{subject}?more>; rel="next"'}), on("referrers"))
    monkeypatch.setattr(listing, "MAX_BYTES", 1)
    assert len(await known(upstream).registry.referrers(APP, digest_of(subject))) == 2
    assert len(upstream.seen(on("referrers"))) == 1


async def test_row_p11_a_next_page_elsewhere_is_refused(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream, subject: str
) -> None:
    """A list leads to no other host."""
    upstream.script(With({"Link": f'<{elsewhere.url}/v2/{APP}/referrers/{subject}>; rel="next"'}), on("referrers"))
    with pytest.raises(UpstreamRefused, match="another host"):
        await known(upstream).registry.referrers(APP, digest_of(subject))
    assert not elsewhere.requests


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Says(500), UpstreamFailed),
        (Says(200, b"{}", (("Content-Type", OCI_INDEX),)), UpstreamFailed),
        (Endless(), UpstreamRefused),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_row_p6_trouble_is_no_empty_list(
    known: Maker, upstream: ScriptedUpstream, subject: str, fault: Fault, kind: type[UpstreamError]
) -> None:
    """Who asks for signatures must not hear that there are none."""
    upstream.script(fault, on("referrers"))
    with pytest.raises(kind):
        await known(upstream).registry.referrers(APP, digest_of(subject))


async def test_a_spent_budget_is_no_empty_list_either(known: Maker, upstream: ScriptedUpstream, subject: str) -> None:
    """Members that cannot be asked may be referrers."""
    upstream.registry.has_referrers_api = False
    upstream.shelf.write_fallback_tag(APP, subject)
    upstream.registry.budget = Budget(limit=100, remaining=2)
    with pytest.raises(UpstreamBusy):
        await known(upstream, budget_reserve=0).registry.referrers(APP, digest_of(subject))


@pytest.mark.slow
async def test_referrers_that_take_too_long_are_slow(
    known: Maker, upstream: ScriptedUpstream, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute for all that is asked, here less."""
    monkeypatch.setattr(referring, "DEADLINE_S", 0.2)
    upstream.script(Stall(), on("referrers"))
    with pytest.raises(UpstreamSlow, match="longer than"):
        await known(upstream).registry.referrers(APP, digest_of(subject))
