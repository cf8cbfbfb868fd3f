"""Names, tags and references follow the spec's grammar, exactly."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.oci.errors import Code, RegistryError
from gateway.oci.names import Tag, fallback_tag, is_name, is_tag, parse_digest, parse_name, parse_reference
from storage import Digest
from tests.gateway.oci.strategies import DIGESTS, NAMES, TAGS

# The spec's own expression, as it is printed there.
SPEC_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
SPEC_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
GOOD_NAMES = ["a", "a/b", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1/2", "a/blobs/b", "manifests", "common/x/y-1.2"]
BAD_NAMES = [
    *("", "/", "a/", "/a", "a//b", "A", "aB", "a..b", "a___b", "a._b", "a_.b", "-a", "a-", ".a", "a.", "_a", "a/_b"),
    *(
        "a/.",
        "a/..",
        "..",
        "../a",
        "a b",
        "a\n",
        "a\t",
        "a\0",
        "a%62",
        "a;b",
        "a\\b",
        "ä",
        "a/é",
        "a:b",
        "a@b",
        "\uff41",
    ),
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_gen_01_good_names_are_kept_as_they_are(name: str) -> None:
    """What the grammar allows comes back unchanged."""
    assert parse_name(name) == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_gen_01_bad_names_are_name_invalid(name: str) -> None:
    """What the grammar does not allow is 400 NAME_INVALID."""
    with pytest.raises(RegistryError) as caught:
        parse_name(name)
    assert (caught.value.code, caught.value.status) == (Code.NAME_INVALID, 400)


@settings(max_examples=60)
@given(st.one_of(NAMES, st.text("ab0._-/A ", max_size=12)))
def test_gen_01_names_are_judged_as_by_the_expression_of_the_spec(text: str) -> None:
    """Our expression and the spec's agree on every short text."""
    assert is_name(text) == (SPEC_NAME.fullmatch(text) is not None)


def test_gen_02_name_and_address_fit_into_255_characters() -> None:
    """A name that clients could not write with our address before it is refused; without address 255 are allowed."""
    assert parse_name("a" * 255) == "a" * 255
    assert parse_name("a" * 240, address_bytes=15) == "a" * 240
    for name, address_bytes in (("a" * 256, 0), ("a" * 241, 15)):
        with pytest.raises(RegistryError, match="NAME_INVALID"):
            parse_name(name, address_bytes=address_bytes)


def test_gen_01_hostile_names_are_refused_at_once() -> None:
    """Megabytes that nearly match are refused by their length, before any expression runs."""
    assert not any(is_name(text) for text in ("a-" * 2**21, "a" * 2**22, "-" * 2**22, "a/" * 2**21))
    assert not is_name("a-" * 127)  # and within the length there is one way to match only


@given(st.one_of(TAGS, st.text("aZ0_.-:/ ", max_size=6), st.text("a", min_size=120, max_size=135)))
def test_gen_04_tags_are_judged_as_by_the_expression_of_the_spec(text: str) -> None:
    """A tag has 1 to 128 characters of the set, and does not begin with a dot or a dash."""
    assert is_tag(text) == (SPEC_TAG.fullmatch(text) is not None)


@given(text=TAGS, writing=st.booleans())
def test_gen_04_a_valid_tag_is_a_tag(text: str, *, writing: bool) -> None:
    """Valid tags read the same for all methods."""
    assert parse_reference(text, writing=writing) == Tag(text)


@pytest.mark.parametrize("text", ["", ".a", "-a", "a b", "a" * 129, "a/b", "ä", "a\n", "@", "%41"])
def test_gen_04_a_bad_tag_is_400_while_writing_and_404_while_reading(text: str) -> None:
    """Pushing to an impossible tag is the client's mistake; looking for one finds nothing."""
    with pytest.raises(RegistryError) as written:
        parse_reference(text, writing=True)
    with pytest.raises(RegistryError) as read:
        parse_reference(text, writing=False)
    assert (written.value.code, written.value.status) == (Code.MANIFEST_INVALID, 400)
    assert (read.value.code, read.value.status) == (Code.MANIFEST_UNKNOWN, 404)


@given(digest=DIGESTS, writing=st.booleans())
def test_gen_05_a_digest_reference_is_that_digest(digest: Digest, *, writing: bool) -> None:
    """A well-formed digest is read back, whatever the method."""
    assert parse_reference(str(digest), writing=writing) == digest


@pytest.mark.parametrize(
    "text",
    [
        "sha256:baddigeststring",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha384:" + "a" * 96,
        "SHA256:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "a" * 64 + ":b",
        "latest:",
        ":",
        ":" * 2**20,
    ],
)
@pytest.mark.parametrize("writing", [True, False])
def test_gen_05_gen_06_what_has_a_colon_is_a_digest_or_digest_invalid(text: str, *, writing: bool) -> None:
    """Malformed digests and unknown algorithms are 400 DIGEST_INVALID, never taken for a tag."""
    with pytest.raises(RegistryError) as caught:
        parse_reference(text, writing=writing)
    assert (caught.value.code, caught.value.status) == (Code.DIGEST_INVALID, 400)
    assert len(caught.value.document()) < 1000


def test_bg_03_parse_digest_refuses_with_digest_invalid() -> None:
    """The client's digest is 400 DIGEST_INVALID when malformed."""
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        parse_digest("sha256:x")


def test_rf_14_fallback_tag_of_sha256_is_whole_and_of_sha512_is_cut() -> None:
    """The tag is algorithm, dash, and at most 64 digits."""
    short, long = Digest.of(b"x"), Digest.of(b"x", "sha512")
    assert fallback_tag(short) == f"sha256-{short.hex}"
    assert fallback_tag(long) == f"sha512-{long.hex[:64]}"


@given(DIGESTS)
def test_rf_14_fallback_tags_are_tags(digest: Digest) -> None:
    """Every fallback tag follows the grammar of tags."""
    assert is_tag(fallback_tag(digest))
