"""Conditions and Accept: a client gets the content unless it said, in any of the ways clients do, that it need not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oci import media_types as mt
from gateway.oci.conditions import accepts, etag, if_match, if_none_match
from storage import Digest
from tests.gateway.oci.strategies import DIGESTS

DIGEST, OTHER = Digest.of(b"x"), Digest.of(b"y")

DOCKER_LINES = [mt.DOCKER_MANIFEST, mt.DOCKER_LIST, mt.OCI_INDEX, mt.SCHEMA1_SIGNED, mt.JSON, mt.OCI_MANIFEST]


def test_mg_10_the_entity_tag_is_the_quoted_digest() -> None:
    """Equal tags mean equal bytes."""
    assert etag(DIGEST) == f'"{DIGEST}"'


@pytest.mark.parametrize(
    "header",
    [
        *("*", " * ", f'"{DIGEST}"', f"{DIGEST}", f'W/"{DIGEST}"', f'"{OTHER}", "{DIGEST}"', f"{OTHER},{DIGEST}"),
        f'W/"{OTHER}" , W/"{DIGEST}"',
    ],
)
def test_mg_10_if_none_match_knows_all_spellings(header: str) -> None:
    """Quoted, unquoted, weak, in a list and as a star, the same digest is not sent again."""
    assert if_none_match(header, DIGEST)


@pytest.mark.parametrize("header", [None, "", '""', f'"{OTHER}"', "sha256", '"*"', f'"{DIGEST}x"', ",,,"])
def test_mg_10_if_none_match_sends_what_the_client_lacks(header: str | None) -> None:
    """Without the header or with other tags the content is sent."""
    assert not if_none_match(header, DIGEST)


@given(DIGESTS, st.lists(DIGESTS, max_size=4))
def test_mg_10_a_list_matches_exactly_its_members(digest: Digest, others: list[Digest]) -> None:
    """The condition fails if and only if the digest is among those listed."""
    assert if_none_match(", ".join(map(etag, others)), digest) == (digest in others)


def test_mp_24_if_none_match_star_lets_only_new_tags_be_made() -> None:
    """For a PUT, `*` fails where a tag exists and holds where none does."""
    assert if_none_match("*", DIGEST)
    assert not if_none_match("*", None)


@pytest.mark.parametrize(
    ("header", "current", "expected"),
    [
        (None, DIGEST, True),
        (None, None, True),
        (etag(DIGEST), DIGEST, True),
        (str(DIGEST), DIGEST, True),
        (f"{etag(OTHER)}, {etag(DIGEST)}", DIGEST, True),
        ("*", DIGEST, True),
        ("*", None, False),
        (etag(DIGEST), OTHER, False),
        (etag(DIGEST), None, False),
        (f"W/{etag(DIGEST)}", DIGEST, False),
        ("", DIGEST, False),
    ],
)
def test_mp_24_if_match_lets_only_the_expected_tag_be_moved(
    header: str | None, current: Digest | None, *, expected: bool
) -> None:
    """A tag moves only from a digest that the client named, and a weak tag names none."""
    assert if_match(header, current) is expected


@pytest.mark.parametrize(
    "headers", [[], [""], ["*/*"], ["application/*"], ["text/html, */*;q=0.1"], ["application/json"], ["text/html"]]
)
@pytest.mark.parametrize("media_type", [mt.OCI_INDEX, mt.DOCKER_MANIFEST])
def test_mg_07_who_names_no_manifest_type_takes_all(headers: list[str], media_type: str) -> None:
    """No Accept, a wildcard, or types that are no manifests: the stored manifest is served."""
    assert accepts(headers, media_type)


@pytest.mark.parametrize("media_type", [mt.OCI_INDEX, mt.DOCKER_MANIFEST])
def test_gen_18_several_lines_and_one_list_are_the_same(media_type: str) -> None:
    """Docker sends a line for each type, crane one list; parameters, q and case do not matter."""
    assert accepts(DOCKER_LINES, media_type)
    assert accepts([", ".join(DOCKER_LINES)], media_type)
    assert accepts([",".join(f" {each.upper()} ; q=0.5" for each in DOCKER_LINES)], media_type)


@pytest.mark.parametrize("headers", [[mt.OCI_MANIFEST], [mt.SCHEMA1], [mt.OCI_MANIFEST, mt.DOCKER_MANIFEST, mt.JSON]])
def test_mg_08_who_names_only_other_manifest_types_is_refused(headers: list[str]) -> None:
    """A client that names manifest types, but not the stored one, could not read it."""
    assert not accepts(headers, mt.OCI_INDEX)
    assert accepts([*headers, "*/*"], mt.OCI_INDEX)
