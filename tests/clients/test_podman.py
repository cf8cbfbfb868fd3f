"""podman pushes, pulls, lists and searches."""

import json

import pytest

from tests.clients.client_contract import ClientContract
from tests.clients.images import arrival, make_image
from tests.clients.podman_client import Podman
from tests.clients.registry import DOCKER_MANIFEST, Registry

pytestmark = pytest.mark.clients


class TestPodman(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, podman: Podman) -> Podman:
        """podman, logged in."""
        return podman


def test_list_tags(podman: Podman, registry: Registry) -> None:
    """`search --list-tags` gives every tag of an image."""
    name = registry.new_name()
    image = make_image(layers=2)
    tags = ["1.0", "2.0", "3.0", "4.0"]
    for tag in tags:
        podman.push(image, registry.reference(name, tag))

    listed = podman.run(
        "search", "--list-tags", "--tls-verify=false", "--format", "json", f"{registry.address}/{name}"
    ).output

    assert [entry["Tags"] for entry in json.loads(listed)] == [tags]


def test_search(podman: Podman, registry: Registry) -> None:
    """A search in the registry finds an image by a part of its name, which podman does by the catalog."""
    name = registry.new_name()
    podman.push(make_image(layers=2), registry.reference(name, "1.0"))

    found = podman.run("search", "--tls-verify=false", "--format", "{{.Name}}", f"{registry.address}/{name}").lines()

    assert f"{registry.address}/{name}" in found


def test_docker_format(podman: Podman, registry: Registry) -> None:
    """An image pushed in docker's own format keeps that format, and is the same image."""
    image = make_image()
    name = registry.new_name()
    reference = registry.reference(name, "1.0")
    podman.load(image, reference)

    podman.run("push", "--tls-verify=false", "--format", "v2s2", reference, f"docker://{reference}")

    assert registry.stored(name, "1.0").media_type == DOCKER_MANIFEST
    assert podman.pull(reference).diff_ids == arrival(image).diff_ids


def test_pull_by_digest(podman: Podman, registry: Registry) -> None:
    """A digest names an image as well as a tag does."""
    image = make_image()
    name = registry.new_name()
    podman.push(image, registry.reference(name, "1.0"))

    assert podman.pull(registry.reference(name, registry.stored(name, "1.0").digest)) == arrival(image)
