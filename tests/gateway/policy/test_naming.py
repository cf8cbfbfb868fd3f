"""Names of projects, repositories and rules: what is allowed can be used in an image name, a path and a glob."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oci.names import is_name
from gateway.policy import naming


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (naming.segment, "team-a"),
        (naming.segment, "a__b.c"),
        (naming.segment, "9" * 100),
        (naming.full_name, "team-a/images"),
        (naming.alias_prefix, "team-a"),
        (naming.alias_prefix, "team-a/apps/internal"),
        (naming.tag_glob, "v[0-9]*.?"),
        (naming.tag_glob, "x" * 128),
        (naming.description, "Über uns,\nzweite Zeile\t\N{SNOWMAN}"),
        (naming.description, ""),
    ],
)
def test_what_may_be_said_comes_back(check: Callable[[str], str], text: str) -> None:
    """An allowed text is given back as it is."""
    assert check(text) == text


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (naming.segment, ""),
        (naming.segment, "Team"),
        (naming.segment, "a/b"),
        (naming.segment, "a%2fb"),
        (naming.segment, ".."),
        (naming.segment, "а"),  # noqa: RUF001  # Cyrillic, looks like a Latin a
        (naming.segment, "a\n"),
        (naming.segment, "a" * 101),
        (naming.full_name, "team-a"),
        (naming.full_name, "a/b/c"),
        (naming.full_name, "/b"),
        (naming.full_name, "a/"),
        (naming.full_name, f"{'a' * 101}/b"),
        (naming.alias_prefix, "a//b"),
        (naming.alias_prefix, "/a"),
        (naming.alias_prefix, "a/"),
        (naming.tag_glob, ""),
        (naming.tag_glob, "v 1"),
        (naming.tag_glob, "v1\n"),
        (naming.tag_glob, "x" * 129),
        (naming.description, "\0"),
        (naming.description, "\x1b[2J"),
        (naming.description, "x" * 1001),
    ],
)
def test_what_may_not_be_said_is_refused(check: Callable[[str], str], text: str) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(ValueError, match="use "):
        check(text)


@given(st.text(max_size=120))
def test_a_segment_is_always_a_name_without_a_slash(text: str) -> None:
    """Whatever passes can stand between two slashes of an image name."""
    try:
        passed = naming.segment(text)
    except ValueError:
        return
    assert is_name(f"{passed}/{passed}/x")
    assert passed.count("/") == 0
