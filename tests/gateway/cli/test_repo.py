"""`sluice repo`: repositories, their settings, and manifests deleted by mistake."""

import pytest

from tests.gateway.cli.command import Sluice
from tests.gateway.cli.images import ask, image, push


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
        (["restore", f"team/images/app@sha256:{'0' * 64}"], 1, "manifest"),
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
