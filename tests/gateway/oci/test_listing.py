"""Listings: pages of the asked size, links that every client can follow, lists that are never null."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.oci.errors import Code, RegistryError
from gateway.oci.listing import catalog_document, cursor, next_link, page_size, tags_document
from tests.gateway.oci.strategies import NAMES, TAGS


@pytest.mark.parametrize(
    ("n_text", "expected"),
    [
        (None, 1000),
        ("0", 0),
        ("1", 1),
        ("999", 999),
        ("1000", 1000),
        ("1001", 1000),
        ("100000", 1000),
        ("007", 7),
        ("9223372036854775808", 1000),
        ("18446744073709551616", 1000),
        ("9" * 5000, 1000),
        ("0" * 5000, 0),
    ],
)
def test_tg_04_tg_07_c7_pages_have_the_asked_size_up_to_the_cap(n_text: str | None, expected: int) -> None:
    """Zero is an empty page, huge numbers are the cap, without `n` it is the cap."""
    assert page_size(n_text, cap=1000) == expected


@pytest.mark.parametrize("n_text", ["", "-1", "+1", "abc", "1.0", "1e3", " 1", "1 ", "0x10", "\u0661", "1\n", "NaN"])
def test_tg_05_what_is_no_number_is_400_with_a_code_of_the_spec(n_text: str) -> None:
    """Negative and other texts are 400 UNSUPPORTED."""
    with pytest.raises(RegistryError) as caught:
        page_size(n_text, cap=1000)
    assert (caught.value.status, caught.value.code) == (400, Code.UNSUPPORTED)


_LASTS = st.text(max_size=8)


@given(st.one_of(TAGS, NAMES), _LASTS)
@example("ab", "a\0b")
@example("a", "a\0b")
@example("ab", "aä")
@example("b" + "a" * 127, "b" + "a" * 400)
def test_tg_06_c7_a_bounded_cursor_leaves_the_same_entries(entry: str, last: str) -> None:
    """Comparing with the cursor, bytewise, gives what comparing with all of `last` would."""
    bounded = cursor(last).encode("utf-8")
    assert (entry.encode() > bounded) == (entry.encode() > last.encode("utf-8", "surrogatepass"))


@given(TAGS)
def test_tg_06_an_entry_is_its_own_cursor(entry: str) -> None:
    """The last entry of a page continues exactly after itself."""
    assert cursor(entry) == entry


@pytest.mark.parametrize("last", ["a" * 2**20, "a\0" * 1000, "\ud800", "ä" * 2**20, "\0"])
def test_c7_hostile_cursors_become_short_and_writable(last: str) -> None:
    """A megabyte, a NUL or half a character never reaches the database."""
    bounded = cursor(last)
    assert len(bounded.encode("utf-8")) <= 256
    assert "\0" not in bounded
    assert cursor(None) == ""


def test_tg_03_the_link_is_as_clients_expect_it() -> None:
    """Relative, one link, quoted rel."""
    assert next_link("/v2/a/tags/list", last="x", n=2) == '</v2/a/tags/list?last=x&n=2>; rel="next"'
    assert next_link("/v2/a/tags/list", last="x", n=None) == '</v2/a/tags/list?last=x>; rel="next"'


@settings(max_examples=40)
@given(
    NAMES, st.text(min_size=1, max_size=20, alphabet=st.characters(exclude_categories=["Cs"])), st.integers(0, 10**6)
)
def test_tg_03_rf_10_any_cursor_and_filter_survive_the_link(name: str, text: str, n: int) -> None:
    """No character of cursor or filter breaks the link, and following it asks the same again."""
    link = next_link(f"/v2/{name}/referrers/sha256:0", last=text, n=n, extra={"artifactType": text})
    url, _, rest = link.removeprefix("<").partition(">")
    assert rest == '; rel="next"'
    assert url.isascii()
    assert not set(url) & set(';"<>, \\')
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.path) == ("", "", f"/v2/{name}/referrers/sha256:0")
    asked = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    assert asked == {"last": [text], "n": [str(n)], "artifactType": [text]}


def test_tg_01_tg_09_the_tags_document_is_never_null() -> None:
    """Name and tags in the order given; without tags an empty list."""
    assert json.loads(tags_document("a/b", ["1", "B"])) == {"name": "a/b", "tags": ["1", "B"]}
    assert tags_document("a", []) == b'{"name":"a","tags":[]}'


def test_ct_01_the_catalog_document_is_never_null() -> None:
    """Repositories in the order given; without any an empty list."""
    assert catalog_document(["a", "a/b"]) == b'{"repositories":["a","a/b"]}'
    assert catalog_document([]) == b'{"repositories":[]}'
