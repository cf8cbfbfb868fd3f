"""Referrers: an index that clients read, in pages that they can take, without those who only claim to refer."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.oci import manifest, media_types
from gateway.oci.referrers import CONTENT_TYPE, Referrer, build_page
from storage import Digest
from tests.gateway.oci.strategies import DIGESTS

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REFERRERS = st.builds(
    Referrer,
    media_type=st.sampled_from([media_types.OCI_MANIFEST, media_types.OCI_INDEX]),
    digest=DIGESTS,
    size_bytes=st.integers(0, 2**53),
    artifact_type=st.none() | st.just("application/spdx+json"),
    annotations=st.dictionaries(_TEXTS, _TEXTS, max_size=3),
)


def _referrer(n: int, *, annotation: str = "") -> Referrer:
    digest = Digest.of(str(n).encode())
    return Referrer(media_types.OCI_MANIFEST, digest, n, "application/x", {"a": annotation} if annotation else {})


def _digests(page: bytes) -> list[str]:
    return [each["digest"] for each in json.loads(page)["manifests"]]


def test_rf_03_the_content_type_is_exactly_the_index_type() -> None:
    """Clients compare the string."""
    assert CONTENT_TYPE == "application/vnd.oci.image.index.v1+json"


def test_rf_04_no_referrers_are_an_empty_index() -> None:
    """The answer for anything unknown is a valid index without members."""
    page, covered = build_page([], limit_bytes=1)
    assert json.loads(page) == {"schemaVersion": 2, "mediaType": CONTENT_TYPE, "manifests": []}
    assert covered == 0


def test_rf_06_rf_07_a_descriptor_says_what_the_manifest_says() -> None:
    """Type, size, digest, artifact type and annotations are listed; what is absent is left out."""
    full = Referrer(media_types.OCI_MANIFEST, Digest.of(b"x"), 7, "application/x", {"k": "ü"})
    bare = Referrer(media_types.OCI_INDEX, Digest.of(b"y"), 8, None, {})
    page, _ = build_page([full, bare], limit_bytes=10**6)
    assert json.loads(page)["manifests"] == [
        {
            "mediaType": media_types.OCI_MANIFEST,
            "digest": str(full.digest),
            "size": 7,
            "annotations": {"k": "ü"},
            "artifactType": "application/x",
        },
        {"mediaType": media_types.OCI_INDEX, "digest": str(bare.digest), "size": 8},
    ]


@settings(max_examples=40)
@given(st.lists(REFERRERS, max_size=6))
def test_rf_03_every_page_is_an_index_that_we_would_accept(referrers: list[Referrer]) -> None:
    """The document passes our own strict reader, with each digest once (RF-17)."""
    page, covered = build_page(referrers, limit_bytes=10**6)
    index = manifest.parse(page, CONTENT_TYPE)
    assert covered == len(referrers)
    assert [child.digest for child in index.children] == list(dict.fromkeys(each.digest for each in referrers))


@given(st.integers(0, 12), st.integers(1, 3000))
def test_rf_10_pages_stay_below_the_limit_and_lose_nothing(count: int, limit_bytes: int) -> None:
    """Going on after what each page covers visits all once; a page is over the limit only if it has one member."""
    referrers = [_referrer(n, annotation="ü" * (10 * n)) for n in range(count)]
    seen: list[str] = []
    at = 0
    while at < count:
        page, covered = build_page(referrers[at:], limit_bytes=limit_bytes)
        members = _digests(page)
        assert len(page) <= limit_bytes or len(members) == 1
        assert covered == len(members) > 0
        seen += members
        at += covered
    assert seen == [str(each.digest) for each in referrers]


def test_rf_10_a_page_takes_all_that_fits_to_the_byte() -> None:
    """With exactly its own length as limit, a page holds the same; with a byte less, one fewer."""
    referrers = [_referrer(n) for n in range(3)]
    whole, _ = build_page(referrers, limit_bytes=10**6)
    assert build_page(referrers, limit_bytes=len(whole)) == (whole, 3)
    assert build_page(referrers, limit_bytes=len(whole) - 1)[1] == 2
