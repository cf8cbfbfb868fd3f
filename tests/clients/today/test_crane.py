"""crane of today: copies inside the gateway, lists and deletion."""

import pytest

from tests.clients.client_contract import PLATFORMS
from tests.clients.images import make_image, make_index, sha256
from tests.clients.registry import Registry, is_spared, is_upload
from tests.clients.today.crane_client import Crane
from tests.clients.today.suites import with_package

pytestmark = [
    pytest.mark.clients,
    pytest.mark.parametrize("suite", with_package("crane"), indirect=True, ids=str),
]


def test_copy(crane: Crane, registry: Registry) -> None:
    """An index copied to another repository is the same index, and no blob of it is sent."""
    first, second = registry.new_name(), registry.new_name(registry.second)
    index = make_index(*PLATFORMS)
    crane.push_index(index, registry.reference(first, "1.0"))

    with registry.watch() as seen:
        crane.run("copy", registry.reference(first, "1.0"), registry.reference(second, "1.0"))

    assert registry.stored(second, "1.0").digest == sha256(index.manifest)
    assert any(is_spared(each) for each in seen)
    assert [each for each in seen if is_upload(each)] == []


def test_lists(crane: Crane, registry: Registry) -> None:
    """The tags of an image and the names of images are listed."""
    name = registry.new_name()
    tags = ["1.0", "2.0", "3.0", "4.0"]
    for tag in tags:
        crane.push(make_image(layers=2), registry.reference(name, tag))

    assert crane.run("ls", f"{registry.address}/{name}").lines() == tags
    assert name in crane.run("catalog", registry.address).lines()


def test_delete(crane: Crane, registry: Registry) -> None:
    """A refusal tells crane that it needs the right to delete; it asks for it, and the image is gone."""
    name = registry.new_name()
    image = make_image(layers=2)
    crane.push(image, registry.reference(name, "1.0"))

    with registry.watch() as seen:
        crane.run("delete", registry.reference(name, sha256(image.manifest)))

    assert registry.tags(name) == []
    assert [each.status for each in seen if each.method == "DELETE"][-1] == 202


def test_a_second_tag(crane: Crane, registry: Registry) -> None:
    """A tag added to what is there needs no upload, and both tags are one image."""
    name = registry.new_name()
    image = make_image(layers=2)
    crane.push(image, registry.reference(name, "1.0"))

    with registry.watch() as seen:
        crane.run("tag", registry.reference(name, "1.0"), "latest")

    assert registry.tags(name) == ["1.0", "latest"]
    assert registry.stored(name, "latest").digest == sha256(image.manifest)
    assert [each for each in seen if is_upload(each)] == []
