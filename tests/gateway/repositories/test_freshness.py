"""How long tags are believed, by their names, rules and times."""

import pytest

from gateway.repositories.freshness import LONG_S, standing, ttl_s
from gateway.upstream.settings import TtlRule, UpstreamSettings

SHORT_S = 100
HEX = "0123456789abcdef"


def settings_of(**given: object) -> UpstreamSettings:
    """Settings with a short time for tags that move."""
    return UpstreamSettings(**{"urls": ("https://registry.example",), "cache_ttl_s": SHORT_S, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tag",
    ["1.2.3", "v1.2.3", "0.0.0", "1.25.3-alpine", "2.0.0_rc.1", "1.2.3.4", "sha-1a2b3c4", HEX * 4, HEX * 2 + HEX[:8]],
)
def test_tags_that_do_not_move_are_believed_for_a_week(tag: str) -> None:
    """Whole versions and commits."""
    assert ttl_s(settings_of(), tag) == LONG_S
    assert ttl_s(settings_of(cache_ttl_s=2 * LONG_S), tag) == 2 * LONG_S


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "main",
        "1",
        "1.2",
        "v1",
        "1.2.x",
        "01.2.3",
        "1.2.3 4",
        "20241231",
        "sha-xyz",
        "sha-12",
        f"sha256-{HEX * 4}",
    ],
)
def test_tags_that_move_are_believed_for_the_set_time(tag: str) -> None:
    """Branches, `latest`, parts of versions; also the lists of referrers that clients keep under a tag."""
    assert ttl_s(settings_of(), tag) == SHORT_S


def test_the_first_rule_that_fits_counts() -> None:
    """Also before what a version is by default, and where nothing else is believed at all."""
    rules = (TtlRule("1.*", 5), TtlRule("*", 7))
    assert [ttl_s(settings_of(ttl_rules=rules), tag) for tag in ("1.2.3", "2.0.0", "latest")] == [5, 7, 7]
    strict = settings_of(cache_ttl_s=0, ttl_rules=(TtlRule("v*", 9),))
    assert [ttl_s(strict, tag) for tag in ("1.2.3", "v1.2.3", "latest")] == [0, 9, 0]


@pytest.mark.parametrize(
    ("checked_at", "is_fresh", "age_s"),
    [(None, False, 0), (1000, True, 0), (901, True, 99), (900, False, 100), (1060, True, 0), (1061, False, 0)],
)
def test_a_tag_is_fresh_until_its_time_is_over(checked_at: int | None, age_s: int, *, is_fresh: bool) -> None:
    """From the check on; a check far ahead was written by a wrong clock, and counts for nothing."""
    worth = standing(settings_of(), "latest", checked_at=checked_at, now=1000)

    assert (worth.is_fresh, worth.age_s) == (is_fresh, age_s)
    if is_fresh:
        assert worth.fresh_until == (checked_at or 0) + SHORT_S
