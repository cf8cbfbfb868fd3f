"""docker of today: how the newer image store pushes an index, and what it asks for."""

import re

import pytest

from tests.clients.client_contract import PLATFORMS
from tests.clients.docker_client import Docker
from tests.clients.images import make_image, make_index, sha256
from tests.clients.registry import Registry

pytestmark = pytest.mark.clients

REFUSED = re.compile("denied|immutable by rule|403 Forbidden")  # each version and store says it in its own words


@pytest.mark.parametrize("docker", [True], indirect=True, ids=["containerd-store"])
def test_a_tag_under_a_rule_takes_a_whole_index(docker: Docker, registry: Registry) -> None:
    """Where tags may not be moved, an index and its images still arrive under one tag, in whatever order they come."""
    name = registry.new_name(registry.immutable)
    index = make_index(*PLATFORMS)

    with registry.watch() as seen:
        docker.push_index(index, registry.reference(name, "1.0"))
    # Version 26 puts each child to the tag before the index. A second push is not tried: then it is refused for that.

    assert registry.stored(name, "1.0").digest == sha256(index.manifest)
    puts = [each for each in seen if each.method == "PUT" and "/manifests/" in each.path]
    assert len(puts) == 1 + len(PLATFORMS)
    assert {each.status for each in puts} == {201}


def test_a_tag_under_a_rule_does_not_move(docker: Docker, registry: Registry) -> None:
    """Where tags may not be moved, another image under the same tag of somebody else is refused."""
    name = registry.new_name(registry.immutable)
    reference = registry.reference(name, "1.0")
    digest, _ = registry.gateway.push_image(name, "1.0", b"somebody else's", auth=registry.colleague)
    docker.load(make_image(layers=2), reference)

    with registry.watch() as seen:
        done = docker.attempt("push", reference)

    assert not done.succeeded
    assert REFUSED.search(done.text), str(done)
    assert 403 in {each.status for each in seen if each.method == "PUT" and "/manifests/" in each.path}
    assert registry.stored(name, "1.0").digest == digest
