"""Real clients pull images of several platforms through a gateway that has to fetch them, by every address it has."""

from collections.abc import Iterator

import pytest

from tests.clients.conftest import Finder, apart
from tests.clients.containerd_client import containerd_daemon
from tests.clients.docker_client import docker_daemon
from tests.clients.images import arrival, make_image, make_index, sha256
from tests.clients.machines import Machine
from tests.clients.mirrors import PROJECT, Mirrors, mirrors
from tests.clients.podman_client import new_podman
from tests.clients.skopeo_client import Skopeo
from tests.served import ADMIN
from tests.upstream.proxied import files_of

pytestmark = pytest.mark.clients

PLATFORMS = ("linux/amd64", "linux/arm64")
KINDS = ("proxy", "alias", "virtual", "own host", "rewritten", "catch-all")
HOSTS = """[host."http://{address}"]
  capabilities = ["pull", "resolve"]
"""


@pytest.fixture(scope="module")
def near(program: Finder, machine: Machine) -> Iterator[Mirrors]:
    """The gateway, its upstreams, and nginx."""
    programs = {name: program(name) for name in ("docker-registry", "nginx", "skopeo")}
    with mirrors(programs, machine.work / "mirrors") as made:
        yield made


@pytest.fixture(scope="module")
def nobody(machine: Machine, near: Mirrors) -> Skopeo:
    """Skopeo without a login."""
    return Skopeo(machine, machine.work / "nobody-auth.json", near.gateway.address)


def fill(skopeo: Skopeo, near: Mirrors, name: str, made: object) -> None:
    """Push an image or index to the first upstream, as its owner does."""
    token = near.registry.token(name)
    skopeo.run(
        *("copy", "--all", "--dest-tls-verify=false", "--dest-registry-token", token),
        f"oci:{skopeo.write(made)}:made",  # type: ignore[arg-type]
        f"docker://{near.registry.client.address}/{name}:1.0",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_skopeo_copies_all_of_it(nobody: Skopeo, near: Mirrors, kind: str) -> None:
    """Every byte of an index with its images is the upstream's, whatever the address."""
    name = f"team/skopeo-{KINDS.index(kind)}"
    index = make_index(*PLATFORMS)
    fill(nobody, near, name, index)
    reference = f"{near.addresses(name)[kind]}:1.0"

    assert nobody.raw(reference) == index.manifest
    for image in index.images:
        assert nobody.pull(reference, image.platform) == arrival(image)


def test_docker_and_podman_pull_by_every_address(program: Finder, machine: Machine, near: Mirrors) -> None:
    """Each platform of an image that is at the upstream only; digests are the upstream's."""
    for name in ("podman", "dockerd", "docker"):
        apart("mirrors", program, name)
    skopeo = Skopeo(machine, machine.work / "pushing-auth.json", near.gateway.address)
    podman = new_podman(machine, near.gateway.address)
    with docker_daemon(machine, near.gateway.address) as docker:
        for number, kind in enumerate(KINDS):
            name = f"team/app-{number}"
            index = make_index(*PLATFORMS)
            fill(skopeo, near, name, index)
            address = near.addresses(name)[kind]
            for image in index.images:
                assert docker.pull(f"{address}:1.0", image.platform) == arrival(image), kind
                assert podman.pull(f"{address}@{sha256(index.manifest)}", image.platform) == arrival(image), kind


def test_one_file_serves_every_registry_of_containerd(program: Finder, machine: Machine, near: Mirrors) -> None:
    """Names of docker.io, quay.io and a registry of one's own, by `_default/hosts.toml` and `ns` (docs/routing.md)."""
    apart("mirrors", program, "containerd", "ctr")
    skopeo = Skopeo(machine, machine.work / "filling-auth.json", near.gateway.address)
    hub, quay, own = (make_image(layers=2) for _ in range(3))
    fill(skopeo, near, "library/tool", hub)
    logged_in = Skopeo(machine, machine.work / "own-auth.json", near.gateway.address)
    assert logged_in.keep_login(*ADMIN).succeeded
    logged_in.push(own, f"{near.gateway.address}/{PROJECT}/own/tool:1.0")
    other = Skopeo(machine, machine.work / "other-auth.json", near.other.address)
    assert other.keep_login(*ADMIN).succeeded
    other.push(quay, f"{near.other.address}/open/tool:1.0")
    with containerd_daemon(machine, near.gateway.address, ADMIN) as ctr:
        hosts = ctr.new_folder()
        (hosts / "_default").mkdir()
        (hosts / "_default" / "hosts.toml").write_text(HOSTS.format(address=near.gateway.address))
        for reference, image in {
            "docker.io/library/tool:1.0": hub,
            "quay.io/open/tool:1.0": quay,
            "registry.k8s.io/tool:1.0": own,
        }.items():
            assert ctr.pull_by(reference, "--hosts-dir", hosts) == arrival(image)


def test_pushes_to_all_go_to_the_repository_of_ones_own(machine: Machine, near: Mirrors) -> None:
    """Through the virtual repository; then it hides what the upstream has under the same name."""
    skopeo = Skopeo(machine, machine.work / "member-auth.json", near.gateway.address)
    assert skopeo.keep_login(*ADMIN).succeeded
    theirs, ours = make_image(layers=2), make_image(layers=3)
    fill(skopeo, near, "team/both", theirs)
    reference = f"{near.addresses('team/both')['virtual']}:1.0"
    assert skopeo.pull(reference) == arrival(theirs)

    skopeo.push(ours, reference)

    assert skopeo.pull(reference) == arrival(ours)
    assert skopeo.pull(f"{near.gateway.address}/{PROJECT}/own/team/both:1.0") == arrival(ours)
    assert skopeo.pull(f"{near.addresses('team/both')['proxy']}:1.0") == arrival(theirs)


def test_the_upstream_is_logged_in_to_once_for_an_image(nobody: Skopeo, near: Mirrors) -> None:
    """With the sealed password, which nobody here has; five pulls of an image are one login (row P6)."""
    image = make_image(layers=3)
    fill(nobody, near, "team/logins", image)
    before = len(near.registry.tokens.logins)

    for _ in range(5):
        assert nobody.pull(f"{near.addresses('team/logins')['proxy']}:1.0") == arrival(image)

    (login,) = near.registry.tokens.logins[before:]
    assert (login.scopes, login.is_accepted) == (("repository:team/logins:pull",), True)


def test_a_mirror_that_is_kept_up_to_date_sends_no_bytes_twice(machine: Machine, near: Mirrors) -> None:
    """Skopeo sync into a repository whose images others have already: each blob is known, none travels."""
    skopeo = Skopeo(machine, machine.work / "sync-auth.json", near.gateway.address)
    assert skopeo.keep_login(*ADMIN).succeeded
    image = make_image(layers=3)
    skopeo.push(image, f"{near.gateway.address}/{PROJECT}/own/first:1.0")
    blobs = (image.config, *image.layers)
    stored = [files_of(near.gateway, content) for content in blobs]

    skopeo.push(image, f"{near.gateway.address}/common/docker-hosted/second:1.0")

    assert [len(files) for files in stored] == [1] * len(blobs)
    assert [files_of(near.gateway, content) for content in blobs] == stored
