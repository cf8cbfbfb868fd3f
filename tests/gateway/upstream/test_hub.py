"""Tests of what is particular to Docker Hub."""

import pytest

from gateway.upstream import hub


@pytest.mark.parametrize(
    "url",
    [
        "docker.io",
        "https://docker.io",
        "https://docker.io/",
        "https://index.docker.io/v1/",
        "https://registry-1.docker.io",
        "http://registry-1.docker.io:443/v2/",
        "https://hub.docker.com",
        "HTTPS://DOCKER.IO",
    ],
)
def test_all_spellings_of_docker_hub_become_the_address_that_answers(url: str) -> None:
    """Whatever people copy from other tools, its registry is asked, and encrypted."""
    assert hub.canonical_url(url) == "https://registry-1.docker.io"


@pytest.mark.parametrize("url", ["https://docker.io.example", "https://ghcr.io", "https://mirror.example/docker.io"])
def test_other_addresses_stay_as_they_are(url: str) -> None:
    """A name that only contains docker.io is another registry."""
    assert hub.canonical_url(f"{url}/") == url
    assert not hub.is_docker_hub(url)


def test_names_of_one_component_are_official_images() -> None:
    """`nginx` is `library/nginx`; every other name is whole."""
    assert hub.full_name("nginx") == "library/nginx"
    assert hub.full_name("library/nginx") == "library/nginx"
    assert hub.full_name("team/app") == "team/app"
