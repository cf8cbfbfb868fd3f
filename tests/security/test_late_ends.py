"""Rights are asked again when a slow request ends: what was revoked meanwhile is not done any more (row A17)."""

import socket
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.served import OCI_MANIFEST, Served, authorization, image_manifest, sha256

PASSWORD = "a-long-enough-password"
CONFIG = b"{}"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served gateway."""
    with Served(tmp_path_factory.mktemp("late")) as served:
        yield served


@pytest.fixture
def writer(gateway: Served) -> str:
    """A user who may push to the catch-all."""
    name = f"w{uuid.uuid4().hex[:8]}"
    assert gateway.api("POST", "/api/v1/users", {"name": name, "password": PASSWORD}).status == 201
    granted = gateway.api("PUT", f"/api/v1/repos/common/docker-hosted/grants/{name}", {"role": "writer"})
    assert granted.status in {200, 201}
    return name


def slow_put(gateway: Served, user: str, path: str, content: bytes, between: Callable[[], None]) -> int:
    """The status of a PUT whose last byte is sent only after `between`."""
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: {gateway.address}\r\nContent-Type: {OCI_MANIFEST}\r\n"
        f"Authorization: {authorization((user, PASSWORD))['Authorization']}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        client.sendall(head.encode() + content[:-1])
        while gateway.request("GET", "/health").status != 200:
            pass
        between()
        client.sendall(content[-1:])
        return int(client.recv(65536).split(b" ", 2)[1])


@pytest.mark.parametrize("end", ["disabled", "deleted"])
def test_a17_a_manifest_that_ends_after_its_account(gateway: Served, writer: str, end: str) -> None:
    """A PUT that was begun with rights and ends without them is 401, and the tag does not exist."""
    image = f"late/{uuid.uuid4().hex[:8]}"
    gateway.push_blob(image, CONFIG, auth=(writer, PASSWORD))
    path = f"/v2/{image}/manifests/v1"

    def revoke() -> None:
        if end == "disabled":
            assert gateway.api("PATCH", f"/api/v1/users/{writer}", {"is_enabled": False}).status == 200
        else:
            assert gateway.api("DELETE", f"/api/v1/users/{writer}").status in {202, 204}

    assert slow_put(gateway, writer, path, image_manifest(CONFIG), revoke) == 401
    assert gateway.admin("GET", path).status == 404


def test_a11_a_rule_that_came_while_the_body_was_on_its_way(gateway: Served, writer: str) -> None:
    """A tag that became immutable during a slow PUT is not moved by it."""
    image = f"late/{uuid.uuid4().hex[:8]}"
    _, old = gateway.push_image(image, "v1", b"old", auth=(writer, PASSWORD))
    repository = "/api/v1/repos/common/docker-hosted"

    def forbid() -> None:
        assert gateway.api("PATCH", repository, {"immutable_tags": ["v*"]}).status == 200

    try:
        other = image_manifest(CONFIG, annotations={"a": "b"})
        gateway.push_blob(image, CONFIG, auth=(writer, PASSWORD))
        assert slow_put(gateway, writer, f"/v2/{image}/manifests/v1", other, forbid) == 403
        assert gateway.admin("GET", f"/v2/{image}/manifests/v1").body == old
    finally:
        assert gateway.api("PATCH", repository, {"immutable_tags": []}).status == 200


def test_a17_a_blob_that_ends_after_its_account(gateway: Served, writer: str) -> None:
    """The same for the PUT that closes an upload: 401, and the blob is not linked."""
    image = f"late/{uuid.uuid4().hex[:8]}"
    content = b"late bytes"
    begun = gateway.request("POST", f"/v2/{image}/blobs/uploads/", b"", auth=(writer, PASSWORD))
    path = f"{begun.headers['location']}?digest={sha256(content)}"

    def revoke() -> None:
        assert gateway.api("PATCH", f"/api/v1/users/{writer}", {"is_enabled": False}).status == 200

    assert slow_put(gateway, writer, path, content, revoke) == 401
    assert gateway.admin("HEAD", f"/v2/{image}/blobs/{sha256(content)}").status == 404


def test_a14_names_of_a_project_are_its_own(gateway: Served, writer: str) -> None:
    """Whoever pushes to the catch-all cannot make an image under a name that begins with another project."""
    project = f"p{uuid.uuid4().hex[:8]}"
    assert gateway.api("POST", "/api/v1/projects", {"name": project}).status == 201

    squat = gateway.request("POST", f"/v2/{project}/prod/app/blobs/uploads/", b"", auth=(writer, PASSWORD))
    two = gateway.request("POST", f"/v2/{project}/app/blobs/uploads/", b"", auth=(writer, PASSWORD))
    other = gateway.request("POST", f"/v2/{project}x/app/blobs/uploads/", b"", auth=(writer, PASSWORD))

    assert (squat.status, two.status, other.status) == (401, 401, 202)
