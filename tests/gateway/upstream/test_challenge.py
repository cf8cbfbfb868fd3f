"""Challenges as registries, proxies and strangers write them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.challenge import MAX_CHALLENGES, MAX_FIELD, Challenge, challenges_of, choose

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/a:pull"'
HUB_READ = Challenge(
    "bearer",
    {"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:library/a:pull"},
)
BASIC = Challenge("basic", {"realm": "x, y"})


def read(*values: str) -> list[Challenge]:
    """The challenges in so many fields."""
    return challenges_of([("www-authenticate", value) for value in values])


@pytest.mark.parametrize(
    ("values", "challenges"),
    [
        ([HUB], [HUB_READ]),
        (['Basic realm="x, y"', HUB], [BASIC, HUB_READ]),
        ([f'Basic realm="x, y", {HUB}'], [BASIC, HUB_READ]),
        ([f'{HUB} , Basic realm="x, y"'], [HUB_READ, BASIC]),
        (['bEARER  Realm = "a\\"b" , SERVICE=s'], [Challenge("bearer", {"realm": 'a"b', "service": "s"})]),
        (["Negotiate"], [Challenge("negotiate")]),
        (['Negotiate, Basic realm="x, y"'], [Challenge("negotiate"), BASIC]),
        (['Negotiate YWJj==, Basic realm="x, y"'], [Challenge("negotiate"), BASIC]),
        (['NTLM YWJj , , Basic realm="x, y",'], [Challenge("ntlm"), BASIC]),
        (['Bearer realm="a",realm="b"'], [Challenge("bearer", {"realm": "a"})]),
        (
            ['Bearer realm="a", error="insufficient_scope"'],
            [Challenge("bearer", {"realm": "a", "error": "insufficient_scope"})],
        ),
        (
            ['Bearer realm="a", scope="repository:a:pull repository:b:pull"'],
            [Challenge("bearer", {"realm": "a", "scope": "repository:a:pull repository:b:pull"})],
        ),
        (['Bearer realm=""'], [Challenge("bearer", {"realm": ""})]),
        (['Bearer realm="never closed'], [Challenge("bearer")]),
        (['Basic realm="x, y", Bearer realm="never closed'], [BASIC, Challenge("bearer")]),
        (["", " , ,", '"', "="], []),
    ],
)
def test_fields_are_read_into_challenges(values: list[str], challenges: list[Challenge]) -> None:
    """Several fields, several schemes in one, quotes and blanks; what cannot be read ends its field only."""
    assert read(*values) == challenges


def test_other_fields_say_nothing() -> None:
    """Only WWW-Authenticate counts."""
    assert challenges_of([("www-authenticate", HUB), ("proxy-authenticate", "Basic realm=x")]) == [HUB_READ]


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        (['Basic realm="x, y"', HUB], HUB_READ),
        ([HUB, 'Basic realm="x, y"'], HUB_READ),
        (["Negotiate", 'Basic realm="x, y"'], BASIC),
        (['Bearer service="no realm"', 'Basic realm="x, y"'], BASIC),
        (['Bearer service="no realm"'], None),
        (["Negotiate", "NTLM"], None),
        ([], None),
    ],
)
def test_tokens_are_preferred_to_passwords(values: list[str], chosen: Challenge | None) -> None:
    """Bearer with a realm in any place, else Basic, else nothing."""
    assert choose(read(*values)) == chosen


def test_row_p11_fields_are_read_within_bounds() -> None:
    """Of thousands of schemes a few are read, and a huge field not at all: others beside it still count."""
    assert len(read("a," * (MAX_FIELD // 2))) == MAX_CHALLENGES
    assert len(read(*["Basic"] * 1000)) == MAX_CHALLENGES
    assert read("a," * MAX_FIELD, "Bearer " + "a=b," * MAX_FIELD, HUB) == [HUB_READ]


@settings(max_examples=40)
@given(st.lists(st.text(max_size=200), max_size=4))
def test_no_field_is_an_error(values: list[str]) -> None:
    """Whatever strangers write, something is read and nothing is raised."""
    choose(read(*values))
