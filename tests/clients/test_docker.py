"""docker, with a real daemon: login that gives a refresh token, push, pull, lists of platforms, and the short name."""

import pytest

from tests.clients.client_contract import ClientContract
from tests.clients.docker_client import Docker
from tests.clients.images import arrival, make_image
from tests.clients.registry import Registry
from tests.served import ADMIN

pytestmark = pytest.mark.clients


class TestDocker(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, docker: Docker) -> Docker:
        """docker, logged in."""
        return docker


def test_login_is_kept_as_a_refresh_token(docker: Docker, registry: Registry) -> None:
    """After login docker holds a refresh token in place of the password, and asks for tokens with it by POST."""
    somebody = docker.with_config()
    image = make_image(layers=2)
    name = registry.new_name()

    with registry.watch() as at_login:
        assert somebody.keep_login(*ADMIN).succeeded
    with registry.watch() as at_push:
        somebody.push(image, registry.reference(name, "1.0"))

    (asked,) = [each for each in at_login if each.path.startswith("/v2/token")]
    assert asked.query["offline_token"] == ["true"]
    kept = somebody.credentials()["identitytoken"]
    assert kept
    tokens = [each for each in at_push if each.path.startswith("/v2/token")]
    assert {(each.method, each.status) for each in tokens} == {("POST", 200)}
    assert {each.form["refresh_token"][0] for each in tokens} == {kept}
    assert {each.form["scope"][0] for each in tokens} == {f"repository:{name}:push,pull"}
    assert registry.stored(name, "1.0").images == [arrival(image)]


def test_pull_looks_before_it_fetches(docker: Docker, registry: Registry) -> None:
    """A pull asks for the tag by HEAD and fetches the digest it was told; an unchanged image costs the HEAD alone."""
    name = registry.new_name()
    reference = registry.reference(name, "1.0")
    docker.push(make_image(layers=2), reference)
    docker.forget_images()

    with registry.watch() as first:
        docker.run("pull", reference)
    with registry.watch() as again:
        docker.run("pull", reference)

    digest = registry.stored(name, "1.0").digest
    wanted = [("HEAD", f"/v2/{name}/manifests/1.0"), ("GET", f"/v2/{name}/manifests/{digest}")]
    assert [(each.method, each.path) for each in first if "/manifests/" in each.path] == wanted
    assert [(each.method, each.path) for each in again if f"/v2/{name}/" in each.path] == wanted[:1]
    assert [each.answer_header("docker-content-digest") for each in again if each.method == "HEAD"] == [digest]


def test_pull_by_digest(docker: Docker, registry: Registry) -> None:
    """A digest names an image as well as a tag does."""
    image = make_image()
    name = registry.new_name()
    docker.push(image, registry.reference(name, "1.0"))
    by_digest = registry.reference(name, registry.stored(name, "1.0").digest)

    assert docker.pull(by_digest) == arrival(image)


def test_push_and_pull_of_all_tags(docker: Docker, registry: Registry) -> None:
    """With --all-tags a push brings every tag, and a pull finds them by the list of tags."""
    name = registry.new_name()
    images = {tag: make_image(layers=2) for tag in ("1.0", "2.0")}
    for tag, image in images.items():
        docker.load(image, registry.reference(name, tag))

    docker.run("push", "--all-tags", f"{registry.address}/{name}")
    docker.forget_images()
    docker.run("pull", "--all-tags", f"{registry.address}/{name}")

    assert registry.tags(name) == ["1.0", "2.0"]
    assert {tag: docker.held(registry.reference(name, tag)) for tag in images} == {
        tag: arrival(image) for tag, image in images.items()
    }


def test_the_short_name(docker: Docker, registry: Registry) -> None:
    """`localhost:PORT/myapp:1.0` works at once: it is the catch-all repository's image under its full path."""
    image = make_image()
    host = f"localhost:{registry.tap.port}"
    assert docker.keep_login(*ADMIN, registry=host).succeeded

    docker.push(image, f"{host}/myapp:1.0")
    by_full_path = docker.pull(f"{host}/common/docker-hosted/myapp:1.0")
    by_short_name = docker.pull(f"{host}/myapp:1.0")

    assert by_full_path == by_short_name == arrival(image)
    assert registry.stored("myapp", "1.0") == registry.stored("common/docker-hosted/myapp", "1.0")


def test_upload_in_chunks(docker: Docker, registry: Registry) -> None:
    """Each layer is sent as one chunked PATCH; docker is told how far it came, and ends with an empty PUT."""
    with registry.watch() as seen:
        docker.push(make_image(layers=2), registry.reference(registry.new_name(), "1.0"))

    patches = [each for each in seen if each.method == "PATCH"]
    assert len(patches) == 3
    for patch in patches:
        assert patch.header("transfer-encoding") == "chunked"
        assert patch.status == 202
        assert patch.answer_header("range") == f"0-{patch.body_bytes - 1}"
    assert [(put.status, put.body_bytes) for put in seen if put.method == "PUT" and "/blobs/" in put.path] == [
        (201, 0)
    ] * 3
