"""Tests of how things are called at an upstream."""

import pytest

from gateway.oci.names import Tag
from gateway.upstream import naming
from gateway.upstream.naming import Place
from storage import Digest

DIGEST = Digest.of(b"content")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://ghcr.io", Place("https://ghcr.io", "")),
        ("https://ghcr.io/", Place("https://ghcr.io", "")),
        ("https://ghcr.io/v2/", Place("https://ghcr.io", "")),
        ("https://harbor.example/v2/team", Place("https://harbor.example", "team/")),
        ("https://harbor.example/v2/team/sub/", Place("https://harbor.example", "team/sub/")),
        ("https://art.example/api/docker/remote", Place("https://art.example/api/docker/remote", "")),
        ("https://art.example/api/v2/team", Place("https://art.example/api", "team/")),
    ],
)
def test_an_address_may_have_a_path_before_the_api_and_a_prefix_of_names_behind_it(url: str, place: Place) -> None:
    """`/v2/` divides the two, as it does in every request."""
    assert Place.of(url) == place


def test_the_prefix_of_an_address_stands_before_names() -> None:
    """An upstream may be one project of a registry."""
    assert Place.of("https://harbor.example/v2/team").name("app") == "team/app"
    assert Place.of("https://harbor.example").name("app") == "app"


def test_single_names_are_official_ones_where_one_address_is_docker_hub() -> None:
    """A mirror of Docker Hub calls images as Docker Hub does."""
    urls = ("https://mirror.example", "https://registry-1.docker.io")
    assert naming.upstream_name(urls, "nginx") == "library/nginx"
    assert naming.upstream_name(urls, "team/app") == "team/app"
    assert naming.upstream_name(("https://ghcr.io",), "nginx") == "nginx"


@pytest.mark.parametrize(
    ("name", "allowed"), [("library/nginx", True), ("library/secret", False), ("team/app", True), ("other/app", False)]
)
def test_patterns_say_which_names_are_asked_for(name: str, *, allowed: bool) -> None:
    """A name must fit one of `include` and none of `exclude`; the star spans slashes."""
    assert naming.allows(name, include=("library/*", "team/*"), exclude=("*/secret",)) is allowed


def test_without_patterns_every_name_is_asked_for() -> None:
    """An empty `include` is everything; an empty `exclude` nothing."""
    assert naming.allows("any/thing", include=(), exclude=())
    assert not naming.allows("any/thing", include=(), exclude=("any/*",))


def test_paths_are_those_of_the_specification() -> None:
    """Each of the four questions has the path that distribution-spec gives it."""
    assert naming.manifest_path("a/b", Tag("v1")) == "/v2/a/b/manifests/v1"
    assert naming.manifest_path("a/b", DIGEST) == f"/v2/a/b/manifests/{DIGEST}"
    assert naming.blob_path("a/b", DIGEST) == f"/v2/a/b/blobs/{DIGEST}"
    assert naming.tags_path("a/b", 7) == "/v2/a/b/tags/list?n=7"
    assert naming.referrers_path("a/b", DIGEST) == f"/v2/a/b/referrers/{DIGEST}"
    assert naming.pull_scope("a/b") == "repository:a/b:pull"
