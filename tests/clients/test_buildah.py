"""buildah builds from nothing, for several platforms, pushes and pulls."""

import pytest

from tests.clients.client_contract import PLATFORMS, ClientContract
from tests.clients.podman_client import Podman
from tests.clients.registry import Registry

pytestmark = pytest.mark.clients

CONTAINERFILE = """FROM scratch
COPY marker /marker
ENTRYPOINT ["/marker"]
"""


class TestBuildah(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, buildah: Podman) -> Podman:
        """buildah, logged in."""
        return buildah


def test_build_and_push(buildah: Podman, registry: Registry) -> None:
    """An image built here is the same image after a push and a pull."""
    name = registry.new_name()
    reference = registry.reference(name, "built")
    folder = buildah.new_folder()
    (folder / "Containerfile").write_text(CONTAINERFILE)
    (folder / "marker").write_text(f"{name}\n")

    buildah.run("bud", "--quiet", "--file", folder / "Containerfile", "--tag", reference, folder)
    made = buildah.held(reference)
    buildah.run("push", "--tls-verify=false", reference, f"docker://{reference}")

    assert registry.stored(name, "built").images == [made]
    assert buildah.pull(reference) == made


def test_build_for_several_platforms(buildah: Podman, registry: Registry) -> None:
    """A build for several platforms is pushed as one index, and each platform pulls its own."""
    name = registry.new_name()
    made = f"localhost/{name}"
    folder = buildah.new_folder()
    (folder / "Containerfile").write_text(CONTAINERFILE)
    (folder / "marker").write_text(f"{name}\n")

    buildah.run("bud", "--platform", ",".join(PLATFORMS), "--manifest", made, folder)
    buildah.run(
        "manifest", "push", "--all", "--tls-verify=false", made, f"docker://{registry.reference(name, 'built')}"
    )

    assert sorted(image.platform for image in registry.stored(name, "built").images) == sorted(PLATFORMS)
    for platform in PLATFORMS:
        assert buildah.pull(registry.reference(name, "built"), platform).platform == platform
