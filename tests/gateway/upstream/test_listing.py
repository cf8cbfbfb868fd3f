"""Tests of pages and where the next one is."""

import json

import pytest

from gateway.upstream import listing
from gateway.upstream.errors import UpstreamFailed, UpstreamRefused
from storage import Digest
from tests.served import OCI_INDEX, OCI_MANIFEST

BASE = "https://up.example"
PATH = "/v2/team/app/tags/list?n=2"


def next_of(link: str, *, base: str = BASE) -> str | None:
    """Where this Link field leads from `PATH`."""
    return listing.next_page([("content-type", "x"), ("link", link)], base=base, path=PATH)


@pytest.mark.parametrize(
    "link",
    [
        '</v2/team/app/tags/list?last=b&n=2>; rel="next"',
        "</v2/team/app/tags/list?last=b&n=2>; rel=next",
        '</v2/team/app/tags/list?last=b&n=2>;title="x";REL="next"',
        '<list?last=b&n=2>; rel="next"',
        '<?last=b&n=2>; rel="next"',
        '<https://up.example/v2/team/app/tags/list?last=b&n=2>; rel="next"',
        '<https://up.example:443/v2/team/app/tags/list?last=b&n=2>; rel="next"',
        '<http://up.example/v2/team/app/tags/list?last=b&n=2>; rel="next"',
        '<https://elsewhere.example/>; rel="first", </v2/team/app/tags/list?last=b&n=2>; rel="next"',
    ],
)
def test_the_next_page_is_where_link_says(link: str) -> None:
    """In every form that registries write, also behind a proxy that has taken TLS away."""
    assert next_of(link) == "/v2/team/app/tags/list?last=b&n=2"


def test_a_path_before_the_api_stays_out_of_it() -> None:
    """It belongs to the address, to which the page is relative."""
    assert next_of('</api/v2/a/tags/list?n=2>; rel="next"', base=f"{BASE}/api") == "/v2/a/tags/list?n=2"


@pytest.mark.parametrize("link", ["", "nonsense", '</v2/x>; rel="prev"', '</v2/x>; rel="nextish"', "</v2/x>"])
def test_without_a_next_reference_the_list_is_over(link: str) -> None:
    """What does not say `next` leads nowhere."""
    assert next_of(link) is None


@pytest.mark.parametrize(
    "link",
    [
        '<https://elsewhere.example/v2/a/tags/list>; rel="next"',
        '<//elsewhere.example/v2/a/tags/list>; rel="next"',
        '<https://up.example:8443/v2/a/tags/list>; rel="next"',
        '<https://up.example:99999/v2/a/tags/list>; rel="next"',
        '<https://up.example@elsewhere.example/v2/a>; rel="next"',
        '<https://[up.example/v2/a>; rel="next"',
        '</admin/delete>; rel="next"',
        '</v2/a b>; rel="next"',
        '<file:///v2/a>; rel="next"',
        f'</v2/{"a" * 5000}>; rel="next"',
    ],
)
def test_a_next_page_elsewhere_is_not_asked_for(link: str) -> None:
    """Neither another host nor another part of this one is reached through a list."""
    with pytest.raises(UpstreamRefused):
        next_of(link)


def test_tags_are_read_and_what_is_none_is_left_out() -> None:
    """A list may hold anything; null is an empty one."""
    tags = ["v1", "latest", "../x", "", 7, None, "a" * 129, "UPPER_1.0"]
    assert listing.read_tags(json.dumps({"name": "a", "tags": tags}).encode(), what="it") == [
        "v1",
        "latest",
        "UPPER_1.0",
    ]
    assert listing.read_tags(b'{"name":"a","tags":null}', what="it") == []


@pytest.mark.parametrize(
    "body", [b"<html></html>", b"[]", b'{"tags":{"a":1}}', b'{"tags":"v1"}', b"", b'{"tags":[1,]}']
)
def test_what_is_no_list_of_tags_is_the_upstreams_failure(body: bytes) -> None:
    """A login page with status 200 is not an image without tags."""
    with pytest.raises(UpstreamFailed, match="it is no list of tags"):
        listing.read_tags(body, what="it")


def test_a_million_entries_are_refused_before_they_are_built() -> None:
    """Row P11: one page within 4 MiB that would be a hundred times as large in memory."""
    with pytest.raises(UpstreamFailed, match="more than"):
        listing.read_tags(b'{"tags":[' + b"[],[]," * 500_000 + b"[]]}", what="it")


def test_referrers_are_listed_with_type_and_annotations() -> None:
    """As the upstream's index describes them."""
    digest = Digest.of(b"sbom")
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": str(digest),
        "size": 7,
        "artifactType": "t/x",
        "annotations": {"a": "b"},
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    (referrer,) = listing.referrers_of(listing.read_index(json.dumps(index).encode(), what="it"))
    assert (referrer.digest, referrer.size_bytes, referrer.artifact_type) == (digest, 7, "t/x")
    assert referrer.annotations == {"a": "b"}


def test_what_is_no_index_of_referrers_is_the_upstreams_failure() -> None:
    """An image manifest in its place neither."""
    with pytest.raises(UpstreamFailed, match="it is no index"):
        listing.read_index(
            json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}).encode(), what="it"
        )
