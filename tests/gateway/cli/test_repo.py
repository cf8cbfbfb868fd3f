"""`sluice repo`: repositories, their settings, and manifests deleted by mistake."""

from functools import partial

import pytest

from storage.metadata import upstreams
from tests.gateway.api.installation import Installation
from tests.gateway.cli.command import Sluice
from tests.gateway.cli.images import ask, image, push, within


def test_a_repository_is_added_shown_changed_and_deleted(sluice: Sluice) -> None:
    """What is not named stays as it was."""
    sluice.good("repo", "add", "team/releases", "--immutable-tag", "v*", "--alias", "ship", "--description", "out")
    sluice.good("repo", "set", "team/releases", "--anonymous-read")
    (shown,) = sluice.good("repo", "show", "team/releases", "--json").value
    sluice.good("repo", "delete", "team/releases", "--yes")

    assert (shown["immutable_tags"], shown["flat_alias_prefix"], shown["anonymous_read"]) == (["v*"], "ship", True)
    assert (shown["description"], shown["storage"], shown["is_catch_all"]) == ("out", "default", False)
    assert sluice("repo", "show", "team/releases").code == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--no-alias"], {"flat_alias_prefix": None}),
        (["--alias", "a/b"], {"flat_alias_prefix": "a/b"}),
        (["--no-immutable-tags"], {"immutable_tags": []}),
        (["--immutable-tag", "x", "--immutable-tag", "y?"], {"immutable_tags": ["x", "y?"]}),
        (["--no-immutable-tags", "--immutable-tag", "z"], {"immutable_tags": ["z"]}),
        (["--no-anonymous-read", "--description", ""], {"anonymous_read": False, "description": ""}),
    ],
)
def test_each_setting_can_be_changed_alone(sluice: Sluice, words: list[str], expected: dict[str, object]) -> None:
    """And taken back."""
    sluice.good("repo", "set", "team/public", "--immutable-tag", "v*", "--alias", "pub", "--description", "d")
    (before,) = sluice.good("repo", "show", "team/public", "--json").value

    sluice.good("repo", "set", "team/public", *words)
    (after,) = sluice.good("repo", "show", "team/public", "--json").value

    assert after == {**before, **expected, "updated_at": after["updated_at"]}


def test_repositories_are_listed_by_full_name(sluice: Sluice) -> None:
    """All of them, or those of a project."""
    whole = sluice.good("repo", "list", "--json").value
    of_team = sluice.good("repo", "list", "--project", "team").lines

    assert [each["name"] for each in whole] == ["common/docker-hosted", "hidden/images", "team/images", "team/public"]
    assert [line.split()[0] for line in of_team] == ["NAME", "team/images", "team/public"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["add", "team"], 2, "use PROJECT/REPOSITORY"),
        (["add", "team/images"], 1, "repository team/images exists already"),
        (["add", "nothing/images"], 1, "there is no project nothing"),
        (["add", "team/x", "--storage", "moon"], 2, "storage moon is not configured; known: default"),
        (["add", "team/x", "--catch-all"], 1, "common/docker-hosted is the catch-all already"),
        (["add", "team/x", "--immutable-tag", "a b"], 2, "use characters of tags"),
        (["add", "team/x", *(["--immutable-tag", "x"] * 101)], 2, "at most 100 rules"),
        (["add", "team/x", "--redirect-pulls"], 2, "the storage default is none"),
        (["set", "team/images", "--redirect-pulls"], 2, "the storage default is none"),
        (["set", "team/images"], 2, "nothing to change"),
        (["set", "team/nothing", "--catch-all"], 1, "there is no repository team/nothing"),
        (["restore", "team/images"], 2, "is not PROJECT/REPOSITORY/IMAGE@DIGEST"),
        (["restore", "team/images@sha256:00"], 2, "is not PROJECT/REPOSITORY/IMAGE@DIGEST"),
        (["restore", "team/images/app@sha256:00"], 2, "malformed sha256 digest"),
        (
            ["restore", f"team/images/app@sha256:{'0' * 64}"],
            1,
            "is unknown among what was deleted from team/images/app",
        ),
        (["list", "--project", "nothing"], 1, "there is no project nothing"),
    ],
)
def test_what_cannot_be_is_said(sluice: Sluice, words: list[str], code: int, text: str) -> None:
    """Wrong usage is 2, what cannot be done is 1."""
    outcome = sluice("repo", *words)

    assert outcome.code == code
    assert text in outcome.err


@pytest.mark.slow
def test_a_deleted_manifest_comes_back_with_its_tags(sluice: Sluice) -> None:
    """By digest, with those of its tags that nobody took since; it is pulled as before."""
    layer = b"layer one"
    digest = push(sluice.data, "team/images/app", "1.0", layer)
    push(sluice.data, "team/images/app", "latest", layer)
    ask(sluice.data, "DELETE", f"/v2/team/images/app/manifests/{digest}")
    push(sluice.data, "team/images/app", "latest", b"layer two")

    restored = sluice.good("repo", "restore", f"team/images/app@{digest}")
    again = sluice("repo", "restore", f"team/images/app@{digest}")

    assert restored.out == f"restored team/images/app@{digest}; its tags now: 1.0\n"
    assert ask(sluice.data, "GET", "/v2/team/images/app/manifests/1.0") == (200, image(layer))
    assert ask(sluice.data, "GET", "/v2/team/images/app/manifests/latest") == (200, image(b"layer two"))
    assert again.code == 1


def test_a_proxy_is_added_shown_and_changed(sluice: Sluice) -> None:
    """With its upstream's address in one form; what is not named stays, an empty value takes away."""
    sluice.good(
        "repo",
        "add",
        "team/hub",
        "--type=proxy",
        "--remote-url=docker.io",
        "--cache-ttl=600",
        "--ttl-rule=sha-*=604800",
        "--include=library/*",
        "--platform=linux/amd64",
        "--private-network=10.0.0.0/8",
        "--max-age-days=30",
        "--namespace=docker.io",
    )
    changed = sluice.good("repo", "set", "team/hub", "--cache-ttl", "5", "--include", "", "--offline")
    (shown,) = sluice.good("repo", "show", "team/hub", "--json").value

    assert changed.out == "changed upstream of team/hub\n"
    assert (shown["repository_type"], shown["remote_urls"]) == ("proxy", ["https://registry-1.docker.io"])
    assert (shown["cache_ttl"], shown["ttl_rules"], shown["include"]) == (5, ["sha-*=604800"], [])
    assert (shown["platforms"], shown["private_networks"]) == (["linux/amd64"], ["10.0.0.0/8"])
    assert (shown["offline"], shown["max_age_days"], shown["namespaces"]) == (True, 30, ["docker.io"])
    assert shown["credential_count"] == 0


def test_a_password_for_an_upstream_is_stored_sealed(sluice: Sluice) -> None:
    """From the environment or standard input; nothing prints it, and the gateway opens it."""
    secret = "c4n4ry-s3cret"
    words = ["repo", "add", "team/hub", "--type", "proxy", "--remote-url", "ghcr.io", "--username", "ci"]
    added = sluice.good(*words, environ={"SLUICE_UPSTREAM_PASSWORD": secret})
    shown = sluice.good("repo", "show", "team/hub")
    sluice.good("repo", "set", "team/images", "--remote-url", "old.example.com")
    piped = sluice.good("repo", "set", "team/images", "--username", "ci", "--password-stdin", stdin=f"{secret}\n")
    moved = sluice.good("repo", "set", "team/hub", "--remote-url", "quay.io")
    (after,) = sluice.good("repo", "show", "team/hub", "--json").value
    (fallback,) = sluice.good("repo", "show", "team/images", "--json").value

    for outcome in (added, shown, piped, moved):
        assert secret not in outcome.out + outcome.err
    assert (after["credential_count"], fallback["credential_count"]) == (0, 1)  # another origin ended the first
    assert within(sluice.data, partial(_opened, name="team/images")) == [("ci", secret)]


async def _opened(installation: Installation, name: str) -> list[tuple[str, str]]:
    record = await installation.repository(name)
    assert record is not None
    sealed = await installation.services.database.read(upstreams.credentials, record.id)
    opened = [installation.services.credentials.open(each, record.id, place) for place, each in enumerate(sealed)]
    return [(each.username, each.secret) for each in opened]


def test_a_virtual_repository_is_made_of_members(sluice: Sluice) -> None:
    """In order, with patterns, and the one that pushes go to."""
    members = ["--member", "team/public=base/*,!base/old", "--member", "team/images"]
    sluice.good("repo", "add", "team/all", "--type", "virtual", *members, "--push-to", "team/images")
    sluice.good("repo", "set", "team/all", "--on-member-failure", "skip")
    (shown,) = sluice.good("repo", "show", "team/all", "--json").value
    sluice.good("repo", "set", "team/all", "--member", "")
    (emptied,) = sluice.good("repo", "show", "team/all", "--json").value

    assert shown["members"] == ["team/public=base/*,!base/old", "team/images (push)"]
    assert shown["on_member_failure"] == "skip"
    assert emptied["members"] == []


def test_a_fallback_ends(sluice: Sluice) -> None:
    """With its credentials."""
    environ = {"SLUICE_UPSTREAM_PASSWORD": "x"}
    sluice.good("repo", "set", "team/images", "--remote-url", "old.example.com", "--username", "ci", environ=environ)
    sluice.good("repo", "set", "team/images", "--no-upstream")
    (shown,) = sluice.good("repo", "show", "team/images", "--json").value

    assert "remote_urls" not in shown
    assert within(sluice.data, partial(_opened, name="team/images")) == []


def test_a_proxy_keeps_its_upstream(sluice: Sluice) -> None:
    """Without one it could serve nothing: `--no-upstream` is refused, with what there is instead."""
    sluice.good("repo", "add", "team/hub", "--type", "proxy", "--remote-url", "docker.io")

    outcome = sluice("repo", "set", "team/hub", "--no-upstream")
    (shown,) = sluice.good("repo", "show", "team/hub", "--json").value

    assert (outcome.code, shown["remote_urls"]) == (2, ["https://registry-1.docker.io"])
    assert "team/hub is a proxy" in outcome.err
    assert "--offline" in outcome.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["add", "team/x", "--type", "proxy"], 2, "a proxy needs --remote-url"),
        (["add", "team/x", "--type", "proxy", "--remote-url", "ftp://a"], 2, "use https://"),
        (["add", "team/x", "--type", "proxy", "--remote-url", "https://u:p@a"], 2, "as credentials"),
        (["add", "team/x", "--type", "proxy", "--remote-url", "a", "--ttl-rule", "v*"], 2, "use GLOB=SECONDS"),
        (["add", "team/x", "--type", "proxy", "--remote-url", "a", "--member", "team/images"], 1, "virtual"),
        (["add", "team/x", "--type", "virtual", "--remote-url", "a"], 1, "is for proxies"),
        (["add", "team/x", "--type", "virtual", "--member", "no/such"], 1, "there is no such repository"),
        (["add", "team/x", "--type", "virtual", "--member", "team"], 2, "use PROJECT/REPOSITORY"),
        (["add", "team/x", "--push-to", "team/images"], 2, "--push-to goes with"),
        (["add", "team/x", "--type", "virtual", "--member", "a/b", "--push-to", "a/b"], 1, "--member a/b: there is no"),
        (["set", "team/images", "--cache-ttl", "5"], 1, "--remote-url: is required"),
        (["set", "team/images", "--no-upstream", "--cache-ttl", "5"], 2, "contradict"),
        (["set", "team/images", "--password-stdin"], 2, "goes with --username"),
        (["set", "team/images", "--pulled-in-days", "5"], 2, "goes with --max-age-days"),
    ],
)
def test_what_does_not_go_together_is_said(sluice: Sluice, words: list[str], code: int, text: str) -> None:
    """And nothing is made."""
    outcome = sluice("repo", *words)

    assert outcome.code == code
    assert text in outcome.err
    assert sluice("repo", "show", "team/x").code == 1
