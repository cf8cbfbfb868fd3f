"""Scopes are read as all clients write them and never mean more; challenges are what all clients can read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oci.scopes import ACTIONS, MAX_SCOPES, Scope, challenge, format_scope, parse_scopes
from tests.gateway.oci.strategies import NAMES

SCOPES = st.builds(
    Scope,
    kind=st.just("repository"),
    name=NAMES,
    actions=st.frozensets(st.sampled_from(ACTIONS), min_size=1),
)


def _scope(name: str, *actions: str, kind: str = "repository") -> Scope:
    return Scope(kind, name, frozenset(actions))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ()),
        ([""], ()),
        (["repository:a:pull"], (_scope("a", "pull"),)),
        (["repository:a/b:push,pull"], (_scope("a/b", "pull", "push"),)),
        (["repository:a:*"], (_scope("a", "*"),)),
        (["registry:catalog:*"], (_scope("catalog", "*", kind="registry"),)),
        (["repository(plugin):a:pull"], (_scope("a", "pull"),)),
        (["repository:host:5000/a:pull"], (_scope("host:5000/a", "pull"),)),
        (["repository:a:pull repository:b:pull"], (_scope("a", "pull"), _scope("b", "pull"))),
        (["repository:a:pull", "repository:b:pull"], (_scope("a", "pull"), _scope("b", "pull"))),
        (["repository:a:push,pull repository:b:pull", "repository:c:delete"],
         (_scope("a", "pull", "push"), _scope("b", "pull"), _scope("c", "delete"))),
        (["repository:a:pull repository:a:pull,push"], (_scope("a", "pull", "push"),)),
        (["repository:a:pull  repository:b:pull "], (_scope("a", "pull"), _scope("b", "pull"))),
        (["repository:a:pull,frobnicate"], (_scope("a", "pull"),)),
    ],
)  # fmt: skip
def test_tok_02_tok_04_scopes_are_read_as_clients_write_them(texts: list[str], expected: tuple[Scope, ...]) -> None:
    """Several parameters, several in one, any order of actions, a class, an address, a star."""
    assert parse_scopes(texts) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("x", ":", "::", "repository", "repository:a", "repository::pull", "repository:a:", ":a:pull"),
        *("repository:../x:pull", "repository:a/../b:pull", "repository:A:pull", "repository:a//b:pull"),
        *("repository:a;b:pull", "repository:a%2fb:pull", "repository:*:pull", "repository:a:frobnicate"),
        *("Repository:a:pull", "repo:a:pull", "repository:a:PULL", "repository:a:pull push".replace(" ", "\t")),
        *("repository:host:5000/:pull", "repository:host:x/a:pull", "repository::5000/a:pull", "registry:../x:*"),
        *("repository:..:5000/a:pull", "repository:a\n:pull", "repository:é:pull", "repository(a:b):a:pull"),
        *("repository:" + "a" * 300 + ":pull", "user:admin:*", "registry:catalog:x", "\ud800", "a:" * 50_000),
    ],
)
def test_tok_03_t12_malformed_scopes_are_ignored_not_errors(text: str) -> None:
    """What does not follow the grammar, or names what cannot exist, grants nothing and hides nothing."""
    assert parse_scopes([text]) == ()
    assert parse_scopes([text, "repository:a:pull"]) == (_scope("a", "pull"),)


def test_t12_a_flood_of_scopes_is_cut_and_never_widens() -> None:
    """Of a thousand scopes, or 100 KB of them, the first are read and the rest ignored."""
    flood = [f"repository:r{n}:pull" for n in range(1000)]
    expected = tuple(_scope(f"r{n}", "pull") for n in range(MAX_SCOPES))
    assert parse_scopes(flood) == parse_scopes([" ".join(flood)]) == expected
    assert parse_scopes(["x " * 50_000 + "repository:a:*"]) == ()


@given(st.lists(SCOPES, max_size=5, unique_by=lambda scope: scope.name))
def test_tok_03_written_scopes_are_read_back(scopes: list[Scope]) -> None:
    """Writing and reading are inverse, one by one and joined by spaces."""
    written = [format_scope(scope) for scope in scopes]
    assert parse_scopes(written) == parse_scopes([" ".join(written)]) == tuple(scopes)


@given(st.lists(st.text("repositygcalwm:,/*()% .5ush", max_size=40), max_size=3))
def test_t12_no_text_means_more_than_it_literally_says(texts: list[str]) -> None:
    """Any scope that is read stands, with its name and each action, in the text."""
    for scope in parse_scopes(texts):
        assert any(scope.name in text for text in texts)
        assert all(any(action in text for text in texts) for action in scope.actions)


def test_scopes_are_written_in_a_stable_order() -> None:
    """Actions come in one order, whatever the set's."""
    assert format_scope(_scope("a", "*", "delete", "push", "pull")) == "repository:a:pull,push,delete,*"


REALM = "https://registry.example:8443/v2/token"


def test_ch_02_the_challenge_of_the_base_has_no_scope() -> None:
    """Realm and service, quoted, and nothing else."""
    expected = f'Bearer realm="{REALM}",service="sluice"'
    assert challenge(realm=REALM, service="sluice", scope=None, error=None) == expected


def test_ch_03_ch_04_ch_06_ch_08_parameters_are_quoted_in_one_order() -> None:
    """Realm, service, scope, error; a mount's two scopes stand in one string."""
    scope = "repository:n:pull,push repository:from:pull"
    header = challenge(realm=REALM, service="sluice", scope=scope, error="insufficient_scope")
    assert header.startswith("Bearer ")
    # The conformance suite's way of reading: k="v" with a value.
    assert re.findall(r'([a-z]+)="([^"]+)"', header) == [
        ("realm", REALM),
        ("service", "sluice"),
        ("scope", scope),
        ("error", "insufficient_scope"),
    ]


@pytest.mark.parametrize("value", ["", 'a"b', "a\\b", "a\r\nX: y", "a\0", "\x7f", "ä"])
def test_ch_04_values_that_cannot_be_quoted_are_refused(value: str) -> None:
    """Nothing that could end the quotes or the header line goes out."""
    good = {"realm": REALM, "service": "sluice", "scope": "repository:a:pull", "error": "invalid_token"}
    for name in good:
        with pytest.raises(ValueError, match=name):
            challenge(**(good | {name: f"https://{value}" if name == "realm" and value else value}))


@pytest.mark.parametrize("realm", ["/v2/token", "token", "//registry.example/v2/token", "javascript:x"])
def test_ch_04_a_realm_is_absolute(realm: str) -> None:
    """Clients need a whole http or https URL."""
    with pytest.raises(ValueError, match="realm"):
        challenge(realm=realm, service="sluice", scope=None, error=None)


@pytest.mark.parametrize("service", ["basic-reg", "my Bearer"])
def test_ch_05_a_service_does_not_name_a_scheme(service: str) -> None:
    """The suite takes the last `basic` or `bearer` of the header as the scheme."""
    with pytest.raises(ValueError, match="service"):
        challenge(realm=REALM, service=service, scope=None, error=None)
