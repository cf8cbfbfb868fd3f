"""Robots, personal tokens and nobody at all as callers of real clients; and a key that ends while it is in use."""

import re

import pytest

from tests.clients.docker_client import Docker
from tests.clients.images import arrival, make_image
from tests.clients.registry import Registry
from tests.clients.skopeo_client import Skopeo

pytestmark = pytest.mark.clients

ROBOT = "sa$ci"
REFUSED = re.compile("unauthorized|authentication required|denied", re.IGNORECASE)


@pytest.fixture(scope="module")
def robot(registry: Registry) -> tuple[str, str]:
    """A robot that may push in the project, and its key."""
    registry.must("POST", "/api/v1/robots", {"name": ROBOT, "project": "clients"})
    registry.must("PUT", f"/api/v1/projects/clients/grants/{ROBOT}", {"role": "writer"})
    made = registry.must("POST", f"/api/v1/robots/{ROBOT}/keys", {"label": "clients"})
    return ROBOT, made["secret"]


@pytest.fixture(scope="module")
def personal(registry: Registry) -> tuple[str, str]:
    """A personal token of the administrator, to be used with any user name."""
    return "whoever", registry.must("POST", "/api/v1/tokens", {"label": "clients"})["secret"]


@pytest.fixture(params=["robot", "personal"])
def caller(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A user name and a secret that is no password."""
    credentials: tuple[str, str] = request.getfixturevalue(request.param)
    return credentials


def test_skopeo_with_a_secret(skopeo: Skopeo, registry: Registry, caller: tuple[str, str]) -> None:
    """A robot's key and a personal token serve skopeo as a password: login, push and pull."""
    somebody = skopeo.with_authfile()
    image = make_image()
    reference = registry.reference(registry.new_name(), "1.0")

    assert somebody.keep_login(*caller).succeeded
    somebody.push(image, reference)

    assert somebody.pull(reference) == arrival(image)


def test_docker_with_a_secret(docker: Docker, registry: Registry, caller: tuple[str, str]) -> None:
    """A robot's key and a personal token serve docker as a password: login, push and pull."""
    somebody = docker.with_config()
    image = make_image()
    reference = registry.reference(registry.new_name(), "1.0")

    assert somebody.keep_login(*caller).succeeded
    somebody.push(image, reference)

    assert somebody.pull(reference) == arrival(image)


def test_a_writer_may_not_delete(skopeo: Skopeo, registry: Registry, robot: tuple[str, str]) -> None:
    """A robot that may push is told that it may not delete, and the image stays."""
    somebody = skopeo.with_authfile()
    assert somebody.keep_login(*robot).succeeded
    name = registry.new_name()
    image = make_image(layers=2)
    somebody.push(image, registry.reference(name, "1.0"))

    done = somebody.attempt("delete", "--tls-verify=false", f"docker://{registry.reference(name, '1.0')}")

    assert not done.succeeded
    assert REFUSED.search(done.text), str(done)
    assert registry.stored(name, "1.0").images == [arrival(image)]


def test_a_key_that_ended(skopeo: Skopeo, registry: Registry, robot: tuple[str, str]) -> None:
    """A client that is logged in with a key loses its rights when the key is ended."""
    made = registry.must("POST", f"/api/v1/robots/{ROBOT}/keys", {"label": "short"})
    somebody = skopeo.with_authfile()
    assert somebody.keep_login(ROBOT, made["secret"]).succeeded
    reference = registry.reference(registry.new_name(), "1.0")
    somebody.push(make_image(layers=2), reference)

    registry.must("DELETE", f"/api/v1/robots/{ROBOT}/keys/{made['id']}")

    assert not somebody.try_pull(reference).succeeded


@pytest.mark.parametrize("tool", ["skopeo", "docker", "podman"])
def test_anonymous_pull(tool: str, request: pytest.FixtureRequest, registry: Registry, skopeo: Skopeo) -> None:
    """Who never logged in can pull what anybody may read."""
    image = make_image()
    name = registry.new_name(registry.public)
    skopeo.push(image, registry.reference(name, "1.0"))
    client = request.getfixturevalue(tool)
    nobody = client.with_config() if tool == "docker" else client.with_authfile()

    assert nobody.pull(registry.reference(name, "1.0")) == arrival(image)


@pytest.mark.parametrize("tool", ["skopeo", "docker", "podman"])
def test_anonymous_pull_of_what_is_private(
    tool: str, request: pytest.FixtureRequest, registry: Registry, skopeo: Skopeo
) -> None:
    """Who never logged in is asked to, and learns nothing, where reading takes a right."""
    name = registry.new_name()
    skopeo.push(make_image(layers=2), registry.reference(name, "1.0"))
    client = request.getfixturevalue(tool)
    nobody = client.with_config() if tool == "docker" else client.with_authfile()

    there = nobody.try_pull(registry.reference(name, "1.0"))
    nowhere = nobody.try_pull(registry.reference(registry.new_name(), "1.0"))

    for done in (there, nowhere):
        assert not done.succeeded
        assert REFUSED.search(done.text), str(done)
