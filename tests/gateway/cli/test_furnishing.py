"""Options for upstreams, members and addresses: from words to what is written."""

import click
import pytest
from click.testing import CliRunner

from gateway.cli.furnishing import FurnishingWishes, furnishing_of, furnishing_options, is_wanted, what
from gateway.repositories.furnishing import Furnishing, Member
from gateway.upstream.http import Credential
from gateway.upstream.settings import KeepByAge, TtlRule
from storage import AddressKind


def _furnishing(*words: str, repository_type: str = "proxy", stdin: str = "") -> Furnishing:
    made: list[Furnishing] = []

    @click.command()
    @furnishing_options
    def command(**given: object) -> None:
        made.append(furnishing_of(FurnishingWishes(**given), repository_type))  # type: ignore[typeddict-item]  # click's words

    CliRunner().invoke(command, list(words), input=stdin, catch_exceptions=False, standalone_mode=False)
    return made[0]


def test_nothing_said_is_nothing_wanted() -> None:
    """No default of an option changes what is stored."""
    assert not is_wanted(_furnishing())
    assert what(_furnishing()) == []


def test_words_become_settings() -> None:
    """Each in the form that the gateway reads."""
    furnishing = _furnishing(
        *("--remote-url", "quay.io", "--remote-url", "https://mirror.example.com/v2/quay"),
        *("--ttl-rule", "sha-*=60", "--ttl-rule", "*=1", "--exclude", "private/*", "--login-host", "auth.example.com"),
        *("--max-age-days", "9", "--pulled-in-days", "3", "--max-bytes", "1000", "--online"),
        *("--connect-timeout", "2.5", "--idle-timeout", "10", "--when-denied", "failure"),
    )

    assert furnishing.upstream == {
        "urls": ("https://quay.io", "https://mirror.example.com/v2/quay"),
        "ttl_rules": (TtlRule("sha-*", 60), TtlRule("*", 1)),
        "exclude": ("private/*",),
        "token_hosts": ("auth.example.com",),
        "keep_by_age": KeepByAge(9, 3),
        "max_bytes": 1000,
        "is_offline": False,
        "connect_s": 2.5,
        "idle_s": 10.0,
        "when_denied": "failure",
    }
    assert what(furnishing) == ["upstream"]


def test_an_empty_value_takes_everything_away() -> None:
    """Which is another wish than none."""
    furnishing = _furnishing("--include", "", "--ttl-rule", "", "--namespace", "", "--no-credentials")

    assert furnishing.upstream == {"include": (), "ttl_rules": ()}
    assert (furnishing.addresses, furnishing.credentials) == ({AddressKind.NAMESPACE: ()}, ())


def test_bounds_and_authorities_are_taken_away() -> None:
    """What is one value has no empty one among numbers: 0 is no bound, and an empty name is no file."""
    furnishing = _furnishing("--max-bytes", "0", "--max-age-days", "0", "--ca", "")

    assert furnishing.upstream == {"max_bytes": None, "keep_by_age": None, "ca_pem": None}


def test_a_password_comes_from_standard_input() -> None:
    """Its first line, alone."""
    furnishing = _furnishing("--username", "ci", "--password-stdin", stdin="hush\nmore\n")

    assert furnishing.credentials == (Credential("ci", "hush"),)
    assert "hush" not in repr(furnishing)


def test_members_have_patterns_and_a_default() -> None:
    """What begins with an exclamation mark is left out."""
    furnishing = _furnishing(
        *("--member", "a/one=x/*,!x/y", "--member", "a/two", "--push-to", "a/two"), repository_type="virtual"
    )

    assert furnishing.members == (Member("a/one", ("x/*",), ("x/y",)), Member("a/two", is_default=True))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--ttl-rule", "x=-1"], "use 0 to"),
        (["--username", "a:b", "--password-stdin"], "cannot be sent"),
        (["--username", "a", "--no-credentials"], "contradict"),
        (["--max-age-days", "0", "--pulled-in-days", "1"], "goes with --max-age-days"),
        (["--member", "a/b", "--push-to", "a/c"], "is no --member"),
        (["--member", "a/b=X"], "use characters of image names"),
    ],
)
def test_words_that_cannot_be_are_usage_errors(words: list[str], text: str) -> None:
    """Before anything is opened."""
    with pytest.raises(click.UsageError, match=text):
        _furnishing(*words)
